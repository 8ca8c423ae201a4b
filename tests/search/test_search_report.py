"""The report of the default search: its random draw, and that a stopped report goes on."""
import subprocess
from pathlib import Path

import pytest
from scripts import benchmark_script

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.run.folder import RunFolder


@pytest.fixture(scope="module")
def search_report():
    with benchmark_script("search_report") as module:
        yield module


def test_the_random_draw_has_as_many_split_slots_in_other_places(search_report):
    found = Architecture(BN_SPACE, tuple((f"bn{slot}", SPLIT if slot < 12 else SHARE) for slot in range(20)))
    drawn = [search_report.drawn_like(found, seed) for seed in (1, 1, 2)]
    for each in drawn:
        assert [slot for slot, _ in each.choices] == [slot for slot, _ in found.choices]
        assert sorted(choice for _, choice in each.choices) == sorted(choice for _, choice in found.choices)
    assert drawn[0] == drawn[1] != drawn[2] and drawn[0].choices != found.choices


def test_a_report_leaves_finished_runs_alone_and_resumes_others(search_report, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: called.append(command))
    finished, begun, new = (RunFolder(tmp_path / name) for name in ("finished", "begun", "new"))
    for folder in (finished, begun):
        folder.path.mkdir()
    finished.results.write_text("{}")
    for folder in (finished, begun, new):
        search_report.run(folder, 3, "imagenet", Path("data"), {"model.architecture": "split"})
    assert [command[command.index("--output") + 1] for command in called] == [str(begun), str(new)]
    assert ["--resume" in command for command in called] == [True, False]
    assert all(command[command.index("train.seed") + 1] == "3" for command in called)
