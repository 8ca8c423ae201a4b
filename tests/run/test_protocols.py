"""``test.protocol``, ``--settings`` and ``test.flip`` from the command line: LLCM's two scales, SYSU-MM01's four settings."""
from __future__ import annotations

import json
import shutil

import pytest
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.data.synthetic import SyntheticSettings, write_llcm, write_sysu_mm01
from torchreid_nas.engine import RetrievalEngine
from torchreid_nas.evidence.store import load_scores

KEYS = {
    **TINY, "train.max_epoch": 1, "train.warmup_epochs": 0, "train.stepsize": [1], "train.num_batches": 2, "search.max_epoch": 2,
}
SYSU = {"model.architecture": "share", "data.sources": ["sysu_mm01"], "data.targets": ["sysu_mm01", "sysu_mm01_indoor"]}
SETTINGS = [f"SYSU-MM01 {search}-search, {shot}-shot, random galleries" for search in ("all", "indoor") for shot in (1, 10)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    settings = SyntheticSettings(identities=24, images=2, height=48, width=24)
    write_llcm(folder, settings)
    write_sysu_mm01(folder, settings)
    return folder


@pytest.fixture(scope="module")
def llcm(root, tmp_path_factory):
    """The shipped config from a generated folder: search, training and test under both protocols."""
    folder = tmp_path_factory.mktemp("llcm") / "run"
    keys = {key: value for key, value in KEYS.items() if not key.startswith("data.t")}
    assert main(["--config", "cmnas_llcm", *arguments(keys, root, folder)]) == 0
    return folder


def rows(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def said(capsys, *call):
    capsys.readouterr()
    code = main(list(map(str, call)))
    return code, capsys.readouterr().out


def test_llcm_is_tested_on_both_scales_side_by_side(llcm, capsys):
    assert (llcm / "architecture.json").is_file()
    found = {(row["dataset"], row["protocol_name"], row["protocol"]) for row in rows(llcm)}
    assert found == {
        (name, protocol, said) for name in ("llcm", "llcm_ir2vis")
        for protocol, said in (("llcm", "LLCM paper"), ("llcm_repository", "LLCM repository"))
    }
    _, table = said(capsys, "report", llcm)
    assert table.splitlines()[0].split()[-4:] == ["LLCM", "paper", "LLCM", "repository"]
    scores = {(row["dataset"], row["protocol_name"], row["feature"]): row for row in rows(llcm)}
    # The repository's branch infrared → visible is not transposed.
    for part in ("mAP", "cmc", "num_valid_queries"):
        both = [scores["llcm_ir2vis", name, "after BNNeck"][part] for name in ("llcm", "llcm_repository")]
        assert both[0] == both[1]
    forth = [scores["llcm", name, "after BNNeck"]["num_valid_queries"] for name in ("llcm", "llcm_repository")]
    assert forth[0] != forth[1]


@pytest.mark.parametrize("name, split", [("baseline_share_llcm", 0), ("baseline_split_llcm", 20)])
def test_a_baseline_of_llcm_goes_from_a_folder_to_both_scales(name, split, root, tmp_path):
    keys = {key: value for key, value in KEYS.items() if not key.startswith("data.t")}
    assert main(["--config", name, *arguments(keys, root, tmp_path / "run")]) == 0
    assert {row["protocol_name"] for row in rows(tmp_path / "run")} == {"llcm", "llcm_repository"}
    assert json.loads((tmp_path / "run" / "results.json").read_text())["split_slots"] == split


def test_both_scales_verify_and_the_certificate_names_them(llcm, capsys):
    code, text = said(capsys, "verify", llcm, "--full")
    assert code == 0 and "DISAGREES" not in text and text.count("to the bit") == 3
    tests = json.loads((llcm / "certificate.json").read_text())["tests"]
    assert [(test["dataset"], test["protocol"]) for test in tests] == [
        (name, protocol) for name in ("llcm", "llcm_ir2vis") for protocol in ("llcm", "llcm_repository")
    ]
    assert all(test["flipped"] is False and len(test["galleries"]) == 10 for test in tests)


def test_queries_that_every_trial_draws_anew_are_not_compared(llcm, root, capsys, tmp_path):
    stored = {(test.dataset, test.protocol): test for test in load_scores(llcm / "scores.npz")}
    drawn = stored["llcm", "LLCM repository"]
    assert drawn.drawn_queries and "test_nir" in drawn.paths[0] and not stored["llcm", "LLCM paper"].drawn_queries
    code, text = said(capsys, "compare", llcm, "--scores", "mAP", "--resamples", "100")
    assert code == 0 and "== llcm, after BNNeck, mAP (LLCM paper)" in text and "== llcm: LLCM repository" not in text
    keys = {**KEYS, "data.sources": ["llcm"], "data.targets": ["llcm"], "test.protocol": "llcm_repository",
            "model.architecture": llcm / "architecture.json", "model.load_weights": llcm / "train" / "model.pth"}
    assert main(arguments(keys, root, tmp_path / "run", "--stages", "test")) == 0
    assert "was tested under LLCM repository alone" in refused(capsys, "compare", tmp_path / "run")


@pytest.fixture(scope="module")
def sysu(root, tmp_path_factory):
    """A training whose weights the tests below test, and how many times images were extracted in its own test."""
    folder = tmp_path_factory.mktemp("sysu") / "run"
    keys = {**KEYS, **SYSU}
    extracted = []
    original = RetrievalEngine.extract
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RetrievalEngine, "extract", lambda self, *args: extracted.append(1) or original(self, *args))
        assert main(arguments(keys, root, folder, "--settings", "all")) == 0
    return folder, len(extracted)


def test_four_settings_come_from_one_extraction_in_one_table(sysu, capsys):
    folder, extractions = sysu
    assert extractions == 2  # queries and gallery
    assert [row["protocol"] for row in rows(folder)[::2]] == SETTINGS
    assert {row["dataset"] for row in rows(folder)} == {"sysu_mm01"}
    _, table = said(capsys, "report", folder)
    head = table.partition("------")[0]
    assert head.count("SYSU-MM01") == 4 and head.count("10-shot") == head.count("indoor-search") == 2
    assert sum(line.split()[:1] == ["mAP"] for line in table.splitlines()) == 2


def test_each_setting_has_the_figures_of_its_own_test(sysu, root, tmp_path):
    folder, _ = sysu
    weights = {"model.load_weights": folder / "train" / "model.pth", "model.architecture": "share"}
    one = {**KEYS, **weights, "data.sources": ["sysu_mm01"], "data.targets": ["sysu_mm01_indoor"], "test.shot": 10}
    assert main(arguments(one, root, tmp_path / "one", "--stages", "test")) == 0
    alone = rows(tmp_path / "one")[1]
    together = rows(folder)[-1]
    assert alone["protocol_name"] == together["protocol_name"] == "sysu_mm01_indoor_10shot_random"
    assert [alone[key] for key in ("cmc", "mAP", "mINP")] == [together[key] for key in ("cmc", "mAP", "mINP")]


def test_flip_is_named_in_results_and_certificate_and_verifies(sysu, root, capsys, tmp_path):
    folder, _ = sysu
    keys = {**KEYS, "model.load_weights": folder / "train" / "model.pth", "model.architecture": "share", "test.flip": True,
            "data.sources": ["sysu_mm01"], "data.targets": ["sysu_mm01"], "test.protocol": "sysu_mm01_all_1shot_official"}
    assert main(arguments(keys, root, tmp_path / "run", "--stages", "test")) == 0
    (row, *_), (test,) = rows(tmp_path / "run"), json.loads((tmp_path / "run" / "certificate.json").read_text())["tests"]
    assert row["flipped"] and test["flipped"] and row["protocol"] == "SYSU-MM01 all-search, 1-shot, official galleries, flipped"
    code, text = said(capsys, "verify", tmp_path / "run", "--full")
    assert code == 0 and "figures from images: are the same, to the bit" in text
    assert "flipped" in refused(capsys, "compare", folder, tmp_path / "run")


def test_a_protocol_of_no_target_is_one_sentence_before_anything_runs(root, capsys, tmp_path):
    call = lambda name: refused(capsys, *arguments({**KEYS, "data.sources": ["llcm"], "data.targets": ["llcm"],
                                                   "test.protocol": name}, root, tmp_path / "run"))
    assert 'names "llcm_repo"' in call("llcm_repo") and 'did you mean "llcm_repository"' in call("llcm_repo")
    assert "none of data.targets (llcm) can be tested so" in call("regdb_identities")
    assert not (tmp_path / "run").exists()


def test_a_test_that_was_killed_before_its_certificate_is_made_again(sysu, root, capsys, tmp_path):
    folder = shutil.copytree(sysu[0], tmp_path / "run")
    keys = {**KEYS, **SYSU}
    call = arguments(keys, root, folder, "--settings", "all", "--resume")
    (folder / "certificate.json").unlink()
    assert main(call) == 0 and "== test" in capsys.readouterr().out
    assert said(capsys, "verify", folder)[0] == 0
