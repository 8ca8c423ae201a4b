"""A study from the command line: every run is the run by hand, it goes on where it ended, and past runs that fail."""
import json

import pytest
import torch
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main

ROWS = """
title: Found and its controls
config: small_cmnas
set: {{{common}}}
seeds: [1]
rows:
  found: {{}}
  late: {{train.stepsize: [1]}}
  first k: {{model.architecture: first-k of found}}
  share: {{model.architecture: share}}
  re-ranked: {{model.architecture: share, test.ranks: [1, 10]}}
"""
COMMON = {
    **TINY, "synthetic.enabled": False, "train.max_epoch": 2, "search.method": "gradient", "search.max_epoch": 2,
    "search.val_fraction": 0.5,
}


def study_file(folder, text=ROWS):
    path = folder / "own.yaml"
    path.write_text(text.format(common=", ".join(f"{key}: {json.dumps(value)}" for key, value in COMMON.items())))
    return path


@pytest.fixture(scope="module")
def studied(data_root, tmp_path_factory):
    """A finished study of five rows and one seed."""
    folder = tmp_path_factory.mktemp("studied")
    assert main(["study", str(study_file(folder)), "--root", str(data_root), "--output", str(folder / "runs")]) == 0
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())


def weights(folder):
    return torch.load(folder / "train" / "model.pth", weights_only=True)["state_dict"]


@pytest.mark.parametrize("row, overrides", [
    ("late", {"train.stepsize": "[1]"}), ("re-ranked", {"model.architecture": "share", "test.ranks": "[1,10]"}),
    ("first-k", {}),
])
def test_each_run_equals_the_run_by_hand_bit_for_bit(studied, data_root, tmp_path, row, overrides):
    own = studied / "runs" / row / "seed_1"
    if row == "first-k":
        split = results(studied / "runs" / "found" / "seed_1")["split_slots"]
        overrides = {"model.architecture": f"first-{split}"}
    call = arguments({**COMMON, "train.seed": 1, **overrides}, data_root, tmp_path / "hand")
    assert main(["--config", "small_cmnas", *call]) == 0
    assert results(own)["results"] == results(tmp_path / "hand")["results"]
    assert results(own)["config"] == results(tmp_path / "hand")["config"]
    one, other = weights(own), weights(tmp_path / "hand")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_shared_stages_are_made_once(studied):
    runs = {run["row"]: run for run in json.loads((studied / "runs" / "study.json").read_text())["runs"]}
    assert runs["late"]["took"] == {"search": "found/seed_1"} and runs["re-ranked"]["took"] == {"train": "share/seed_1"}
    searched = [studied / "runs" / row / "seed_1" / "architecture.json" for row in ("found", "late")]
    assert searched[0].read_bytes() == searched[1].read_bytes()


def test_a_study_ends_with_its_tables_and_picture(studied):
    folder = studied / "runs"
    assert (folder / "figures" / "study.png").read_bytes().startswith(b"\x89PNG")
    for suffix in ("txt", "md", "tex", "csv"):
        assert "re-ranked" in (folder / f"table.{suffix}").read_text()
    content = json.loads((folder / "study.json").read_text())
    assert [run["state"] for run in content["runs"]] == ["finished"] * 5
    assert all(run["user_seconds"] > 0 for run in content["runs"])
    # One seed: the interval holds for other persons, and no row is compared.
    assert all(0 <= cell["scores"]["mAP"]["low"] <= cell["scores"]["mAP"]["mean"] <= cell["scores"]["mAP"]["high"] <= 1
               for cell in content["cells"]) and content["differences"] == []


def test_a_finished_study_runs_nothing_again(studied, data_root, capsys):
    before = json.loads((studied / "runs" / "study.json").read_text())
    call = ["study", studied / "own.yaml", "--root", data_root / "nowhere", "--output", studied / "runs"]
    assert main(list(map(str, call))) == 0
    assert "== train" not in capsys.readouterr().out
    assert json.loads((studied / "runs" / "study.json").read_text()) == before


def test_a_folder_of_another_study_is_refused(studied, data_root, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text("config: small_cmnas\nrows: {a: {}}\n")
    assert 'holds the study "own", not "other"' in refused(capsys, "study", other, "--output", studied / "runs")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_is_named_and_the_others_go_on(data_root, tmp_path, capsys, jobs):
    text = """
config: small_cmnas
set: {{{common}, model.architecture: share}}
rows: {{bad: {{train.batch_size: 6}}, good: {{train.max_epoch: 1}}}}
"""
    path = study_file(tmp_path, text)
    call = ["study", path, "--root", data_root, "--output", tmp_path / "runs", "--seeds", "3", "--jobs", jobs]
    error = refused(capsys, *call)
    assert '1 of 2 runs failed, first "bad, seed 3": train.batch_size is 6, expected a multiple of 4' in error
    content = json.loads((tmp_path / "runs" / "study.json").read_text())
    assert [(run["row"], run["state"]) for run in content["runs"]] == [("bad", "failed"), ("good", "finished")]
    assert "1 of 2 runs failed and are left out: bad, seed 3." in (tmp_path / "runs" / "table.md").read_text()
    if jobs == 1:
        # The same command goes on with the run that failed.
        path.write_text(path.read_text().replace("batch_size: 6", "batch_size: 8"))
        assert main(list(map(str, call))) == 0


@pytest.mark.parametrize("call, words", [
    (["c3mmd_term"], 'did you mean "c3mmd_terms"'), (["list", "train.lr"], "takes no further word"),
    (["c3mmd_terms", "--seeds", "1,1"], '--seeds is "1,1"'), (["c3mmd_terms", "--jobs", "0"], "--jobs is"),
    (["c3mmd_terms", "--rows", "none; bot"], 'has no row "bot", expected none; correlation; MMD; both; did you mean "both"'),
    (["c3mmd_terms", "train.lrr", "1"], 'unknown key "train.lrr"'),
])
def test_a_bad_word_on_the_command_line_is_one_sentence(call, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, "study", *call)
    assert not list(tmp_path.iterdir())
