"""``compare`` and ``verify`` on runs of the command line: two architectures, two seeds each, on generated images."""
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.evidence.certificate import seal
from torchreid_nas.evidence.comparing import compare_runs
from torchreid_nas.evidence.figures import draw_changes, draw_comparison
from torchreid_nas.evidence.runs import group_runs, read_run, read_runs
from torchreid_nas.evidence.store import load_scores
from torchreid_nas.run.verifying import verify_run

KEYS = {**TINY, "train.max_epoch": 1, "train.warmup_epochs": 0, "train.stepsize": [1], "train.num_batches": 2}


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """Return folders of tested runs by architecture and seed."""
    folder = tmp_path_factory.mktemp("compared")
    found = {}
    for architecture in ("share", "split"):
        for seed in (1, 2):
            found[architecture, seed] = folder / f"{architecture}_{seed}"
            keys = {**KEYS, "model.architecture": architecture, "train.seed": seed}
            assert main(arguments(keys, data_root, found[architecture, seed])) == 0
    return found


def said(capsys, *call):
    capsys.readouterr()
    code = main(list(map(str, call)))
    return code, capsys.readouterr().out


def test_runs_that_differ_in_the_seed_are_one_method(runs, capsys, tmp_path):
    code, text = said(capsys, "compare", *runs.values(), "--resamples", "500", "--out", tmp_path / "out")
    assert code == 0
    assert "- model.architecture share: 2 runs (seed 1, 2)" in text and "- model.architecture split: 2 runs (seed 1, 2)" in text
    assert "says nothing about the method" not in text and "seed " in text and "identity " in text
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [method["seeds"] for method in content["methods"]] == [[1, 2], [1, 2]] and len(content["tables"]) == 4
    row = content["tables"][0]["comparisons"][0]
    assert row["low"] <= row["difference"] <= row["high"] and 0 <= row["p_value"] <= 1 and row["replicated"]
    for name in ("compare.md", "compare.png", "changed-queries.png"):
        assert (tmp_path / "out" / name).stat().st_size > 200
    assert (tmp_path / "out" / "compare.md").read_text().startswith("# Comparison of runs")


def test_pictures_are_drawn_beside_damaged_images_and_odd_names(runs, data_root, tmp_path):
    compared = compare_runs([read_run(runs["share", 1]), read_run(runs["split", 1])], resamples=100)
    (table, *_) = compared.tables
    (pair, queries), = table.changes.items()
    root = tmp_path / "data"
    for query in queries:
        (root / query.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data_root / query.path, root / query.path)
    (root / queries[0].path).write_bytes(b"no image")
    odd = dataclasses.replace(table, changes={("runs/$x_$", "runs/$\\frac$"): queries})
    assert draw_changes(odd, root, tmp_path / "changed.png") == [queries[0].path]
    assert (tmp_path / "changed.png").stat().st_size > 200
    estimates = {"runs/$\\frac$": next(iter(table.estimates.values()))}
    draw_comparison(dataclasses.replace(compared, tables=[dataclasses.replace(table, estimates=estimates)]), tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 200
    assert draw_changes(odd, tmp_path / "nowhere", tmp_path / "none.png") == sorted({query.path for query in queries})
    assert not (tmp_path / "none.png").exists()


def test_one_run_a_side_says_that_it_says_nothing_about_methods(runs, capsys):
    _, text = said(capsys, "compare", runs["share", 1], runs["split", 1], "--scores", "mAP", "--dataset", "regdb")
    assert "One run on a side" in text and "Identities that changed most" in text and text.count("== regdb") == 1


def test_the_figures_of_a_comparison_are_those_of_the_tests(runs, capsys):
    _, text = said(capsys, "compare", runs["share", 1])
    for row in json.loads((runs["share", 1] / "results.json").read_text())["results"]:
        if row["feature"] == "after BNNeck":
            assert f"{100 * row['mAP']:.2f}" in text and f"{100 * row['cmc'][0]:.2f}" in text


def test_a_control_is_compared_with_all_others(runs, capsys):
    _, text = said(capsys, "compare", *runs.values(), "--control", runs["share", 2], "--scores", "mAP", "--resamples", "200")
    assert "model.architecture split − model.architecture share" in text


@pytest.mark.parametrize("change, sentence", [
    (lambda run: (run / "scores.npz").unlink(), "scores of the queries are not known; test the run again"),
    (lambda run: (run / "results.json").unlink(), "holds no results.json"),
    (lambda run: (run / "scores.npz").write_bytes(b"no"), "is damaged"),
    (lambda run: edit(run, lambda r: r["results"][0].update(mAP=0.5)), "do not follow from the scores"),
    (lambda run: edit(run, lambda r: r["results"][0].pop("feature")), "is not what a test writes (KeyError)"),
    (lambda run: (run / "config.yaml").write_text("train: [1"), "is not the config of a run"),
    (lambda run: (run / "config.yaml").write_text("train: {}"), "is not the config of a run (KeyError)"),
    (lambda run: (run / "certificate.json").unlink(), "it is not known which images the run was tested on"),
    (lambda run: (run / "certificate.json").write_text("{}"), "is not the certificate that the test wrote"),
    (lambda run: certify_again(run, lambda c: c["files"]["scores"].update(sha256="0")), "is not of the test that wrote"),
])
def test_runs_that_cannot_be_compared_are_refused(change, sentence, runs, capsys, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    change(copy)
    assert sentence in refused(capsys, "compare", copy, runs["split", 1])


def edit(run, change):
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))


def certify_again(run, change):
    """Change a certificate and seal it again."""
    certificate = json.loads((run / "certificate.json").read_text())
    change(certificate)
    certificate.pop("seal")
    (run / "certificate.json").write_text(json.dumps(seal(certificate)))


@pytest.mark.parametrize("part", ["query", "gallery", "galleries"])
def test_runs_on_other_lists_of_images_are_refused_by_name(part, runs, capsys, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    certify_again(copy, lambda certificate: certificate["tests"][0].update({part: "feed" * 16}))
    error = refused(capsys, "compare", copy, runs["split", 1])
    assert "were tested on other lists of images of regdb" in error and str(copy) in error and str(runs["split", 1]) in error


def test_one_training_under_two_seeds_is_no_replicate(runs, capsys, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace("seed: 1\n", "seed: 7\n"))
    assert "were tested with the same weights" in refused(capsys, "compare", copy, runs["share", 1])


def test_methods_that_differ_in_a_key_have_a_name_each(runs):
    run = read_run(runs["share", 1])
    keys = ("loss.label_smoothing", "train.lr", "train.ema", "train.optim", "sampler.num_instances")
    changed = [dataclasses.replace(run, config={**run.config, key: "other"}, path=key) for key in keys]
    assert len({method.name for method in group_runs([run, *changed])}) == 6


def test_the_split_counts_only_where_a_target_has_several(runs):
    run = read_run(runs["share", 1])
    run = dataclasses.replace(run, config={**run.config, "data.split_id": 3})
    assert run.split == 3
    (test, *_) = run.tests.values()
    assert dataclasses.replace(run, tests={("sysu_mm01", test.feature): test}).split == 0
    assert dataclasses.replace(run, tests={("of an extension", test.feature): test}).split == 3


def test_wrong_arguments_are_one_sentence(runs, capsys, tmp_path):
    run = runs["share", 1]
    assert "are one method with one seed" in refused(capsys, "compare", run, run)
    assert "no metric" in refused(capsys, "compare", run, "--scores", "map1")
    assert "--scores is empty" in refused(capsys, "compare", run, "--scores", ",")
    assert "was not tested on \"market1501\"" in refused(capsys, "compare", run, "--dataset", "market1501")
    assert "has no feature" in refused(capsys, "compare", run, "--feature", "after")
    assert "--control names" in refused(capsys, "compare", run, runs["split", 1], "--control", tmp_path)
    assert "seed is -1" in refused(capsys, "compare", run, "--seed", "-1")
    assert "level is 2.0" in refused(capsys, "compare", run, "--level", "2")
    assert "has no scores of mAP_trapezoid" in refused(capsys, "compare", run, "--scores", "mAP_trapezoid")


def test_a_run_under_another_protocol_is_refused_by_name(runs, data_root, capsys, tmp_path):
    other = tmp_path / "other"
    keys = {**KEYS, "model.architecture": "share", "test.rerank": True}
    assert main(arguments(keys, data_root, other)) == 0
    error = refused(capsys, "compare", runs["share", 1], other)
    assert "RegDB split_id 0" in error and "RegDB split_id 0, re-ranked" in error and str(other) in error


def test_series_over_splits_are_compared_split_by_split(data_root, capsys, tmp_path):
    for architecture in ("share", "split"):
        keys = {**KEYS, "model.architecture": architecture}
        assert main(arguments(keys, data_root, tmp_path / architecture, "--trials", "0,1")) == 0
    code, text = said(capsys, "compare", tmp_path / "split", tmp_path / "share", "--control", tmp_path / "share")
    assert code == 0 and "- model.architecture split: 2 runs (seed 1; splits 0, 1)" in text
    data = json.loads((tmp_path / "split" / "results.json").read_text())["data"]
    assert data == {"sources": ["regdb"], "synthetic": False}
    assert "2 splits, each trained and tested on its own" in text and "splits better / worse / alike" in text
    results = [json.loads((tmp_path / "split" / f"split_{split}" / "results.json").read_text()) for split in (0, 1)]
    assert f"{100 * np.mean([content['results'][1]['mAP'] for content in results]):.2f}" in text
    assert "variance by" in text and "split " in text and "identity " in text
    assert "level is 2.0" in refused(capsys, "compare", tmp_path / "split", "--level", "2")
    methods = group_runs(read_runs(tmp_path / "split"))
    first, second = methods[0].persons("regdb", "after BNNeck")
    tests = [run.tests["regdb", "after BNNeck"] for run in methods[0].runs]
    folders = [[path.split("/")[-2] for path in test.paths] for test in tests]
    shared = set(folders[0]) & set(folders[1])
    assert shared and len({*first, *second}) == len({*folders[0], *folders[1]})
    for person in shared:
        assert first[folders[0].index(person)] == second[folders[1].index(person)]
    shutil.rmtree(tmp_path / "share" / "split_1")
    assert "compare the same splits" in refused(capsys, "compare", tmp_path / "split", tmp_path / "share")


def test_figures_follow_from_the_scores_of_every_query(runs):
    tests = {(test.dataset, test.feature): test for test in load_scores(runs["split", 1] / "scores.npz")}
    for row in json.loads((runs["split", 1] / "results.json").read_text())["results"]:
        test = tests[row["dataset"], row["feature"]]
        assert test.mean("mAP") == row["mAP"] and [test.mean(f"rank{rank}") for rank in row["ranks"]] == row["cmc"]
        assert all((test.paths[0]).startswith("RegDB/") for test in tests.values())


def test_a_run_agrees_with_itself_from_features_and_from_images(runs, data_root, capsys):
    code, text = said(capsys, "verify", runs["split", 1], "--full", "--root", data_root)
    assert code == 0 and "DISAGREES" not in text and "not seen" not in text
    assert "figures from features: are the same, to the bit" in text and "figures from images: are the same, to the bit" in text


def test_without_data_the_features_still_verify(runs, capsys, tmp_path):
    copy = shutil.copytree(runs["split", 1], tmp_path / "copy")
    code, text = said(capsys, "verify", copy, "--root", tmp_path / "nowhere")
    assert code == 0 and "not seen   lists of images" in text


def test_every_tampered_byte_is_found(runs, capsys, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    generator = np.random.default_rng(0)
    for name in ("test_features.npz", "scores.npz", "train/model.pth", "results.json", "certificate.json", "config.yaml"):
        whole = (copy / name).read_bytes()
        for place in generator.integers(0, len(whole), 4):
            (copy / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
            code, text = said(capsys, "verify", copy)
            assert code == 1 and "DISAGREES" in text, (name, place)
        (copy / name).write_bytes(whole)
    assert said(capsys, "verify", copy)[0] == 0


def test_images_that_changed_are_found(runs, data_root, capsys, tmp_path):
    root = shutil.copytree(data_root / "RegDB", tmp_path / "data" / "RegDB")
    assert said(capsys, "verify", runs["share", 1], "--root", tmp_path / "data")[0] == 0
    query = load_scores(runs["share", 1] / "scores.npz")[0].paths[0]
    image = root.parent / query
    image.write_bytes(image.read_bytes() + b"\0")
    code, text = said(capsys, "verify", runs["share", 1], "--root", tmp_path / "data")
    assert code == 1 and "the query images of regdb are not those of the test" in text


def test_weights_from_elsewhere_are_verified_as_they_were_tested(runs, data_root, capsys, tmp_path):
    weights = shutil.copyfile(runs["share", 1] / "train" / "model.pth", tmp_path / "model.pth")
    keys = {**KEYS, "model.architecture": "share", "model.load_weights": weights}
    assert main(arguments(keys, data_root, tmp_path / "tested", "--stages", "test")) == 0
    assert main(arguments({**keys, "train.seed": 3}, data_root, tmp_path / "trained")) == 0
    for run in ("tested", "trained"):
        code, text = said(capsys, "verify", tmp_path / run, "--full")
        assert code == 0 and "figures from images: are the same, to the bit" in text
    weights.unlink()
    code, text = said(capsys, "verify", tmp_path / "tested")
    assert code == 0 and "not seen   weights" in text and "lies outside of the run" in text


def test_lists_are_verified_where_the_device_of_the_test_is_missing(runs, data_root, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub("(?m)^device: .*$", "device: cuda", config))
    assert "device: cuda" in (copy / "config.yaml").read_text()
    found = [finding.agrees for finding in verify_run(copy, root=data_root) if finding.what == "lists of images"]
    assert len(found) == 4 and all(found)


def test_results_that_are_gone_disagree_also_from_images(runs, data_root, capsys, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    edit(copy, lambda results: results["results"].pop())
    code, text = said(capsys, "verify", copy, "--full", "--root", data_root)
    assert code == 1 and "DISAGREES  figures from images: cannot be computed (KeyError" in text


def test_the_certificate_says_what_the_training_started_from(runs):
    certificate = json.loads((runs["share", 1] / "certificate.json").read_text())
    assert certificate["initial"] == json.loads((runs["share", 1] / "train" / "initial.json").read_text())
    assert certificate["initial"]["weights"] == "random" and certificate["data"]["interpolation"] == "bilinear"


def test_a_folder_without_a_certificate_is_refused(capsys, tmp_path):
    assert "holds no certificate.json" in refused(capsys, "verify", tmp_path)
