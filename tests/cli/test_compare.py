"""``compare`` and ``verify`` on runs of the command line: two architectures, two seeds each, on generated images."""
import json
import shutil

import numpy as np
import pytest
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.evidence.store import load_scores

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
])
def test_runs_that_cannot_be_compared_are_refused(change, sentence, runs, capsys, tmp_path):
    copy = shutil.copytree(runs["share", 1], tmp_path / "copy")
    change(copy)
    assert sentence in refused(capsys, "compare", copy, runs["split", 1])


def edit(run, change):
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))


def test_wrong_arguments_are_one_sentence(runs, capsys, tmp_path):
    run = runs["share", 1]
    assert "are one method with one seed" in refused(capsys, "compare", run, run)
    assert "no metric" in refused(capsys, "compare", run, "--scores", "map1")
    assert "--scores is empty" in refused(capsys, "compare", run, "--scores", ",")
    assert "was not tested on \"market1501\"" in refused(capsys, "compare", run, "--dataset", "market1501")
    assert "has no feature" in refused(capsys, "compare", run, "--feature", "after")
    assert "--control names" in refused(capsys, "compare", run, runs["split", 1], "--control", tmp_path)
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
    assert "2 splits, each trained and tested on its own" in text and "splits better / worse / alike" in text
    results = [json.loads((tmp_path / "split" / f"split_{split}" / "results.json").read_text()) for split in (0, 1)]
    assert f"{100 * np.mean([content['results'][1]['mAP'] for content in results]):.2f}" in text
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


def test_a_folder_without_a_certificate_is_refused(capsys, tmp_path):
    assert "holds no certificate.json" in refused(capsys, "verify", tmp_path)
