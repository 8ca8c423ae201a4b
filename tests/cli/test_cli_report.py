"""The end of a command, a picture that cannot be drawn, and ``torchreid-nas report``."""
from __future__ import annotations

import functools
import json
import shlex
import shutil

import commands
import pytest
from commands import refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.engine import ResumableEngine
from torchreid_nas.run import pictures

arguments = functools.partial(commands.arguments, TINY)


def broken(*_, **__):
    raise ZeroDivisionError("no room for the axes")


def test_a_run_ends_with_its_files_and_one_next_command(data_root, copied, capsys):
    assert main(arguments(data_root, copied, "--stages", "test")) == 0
    table, figures, following = capsys.readouterr().out.splitlines()[-3:]
    assert table == f"table:   {copied / 'results.json'}"
    assert figures == f"figures: {copied / 'figures' / 'architecture.png'}, {copied / 'figures' / 'training.png'}"
    assert shlex.split(following) == [
        "next:", "torchreid-nas", "match", "QUERY", "GALLERY", "--model", str(copied), "--query-modality", "visible",
        "--gallery-modality", "infrared",
    ]


def test_the_next_command_after_a_training_tests_it(copied, capsys):
    (copied / "results.json").unlink()
    assert main(["report", str(copied)]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:2] == ["next:", "torchreid-nas"] and main(words[2:]) == 0
    assert (copied / "results.json").exists()


def test_report_makes_table_and_pictures_again(copied, capsys):
    shutil.rmtree(copied / "figures")
    before = (copied / "results.json").read_bytes()
    assert main(["report", str(copied)]) == 0
    assert "before BNNeck" in capsys.readouterr().out and (copied / "results.json").read_bytes() == before
    for picture in ("architecture", "training"):
        assert (copied / "figures" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_run_has_nothing_to_report(tmp_path, capsys):
    assert "is no folder of a run" in refused(capsys, "report", tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert "no epoch is finished" in refused(capsys, "report", tmp_path)


@pytest.mark.parametrize("stage, picture", [("search", "draw_architecture"), ("train", "report.draw_training")])
def test_a_fault_of_drawing_costs_no_stage(stage, picture, data_root, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    call = arguments(data_root, folder, "--stages", stage, **{"model.architecture": "search" if stage == "search" else "share"})
    with monkeypatch.context() as patch:
        patch.setattr(f"torchreid_nas.run.pictures.{picture}", broken)
        assert main(call) == 0
    said = capsys.readouterr().err
    assert "no room for the axes" in said and f'"torchreid-nas report {folder}" draws it again' in said
    assert not (folder / "figures").exists()
    # The stage is finished: nothing of it is computed again.
    monkeypatch.setattr(ResumableEngine, "forward_backward", None)
    assert main([*call, "--resume"]) == 0
    assert f"== {stage}: finished already" in capsys.readouterr().out
    assert main(["report", str(folder)]) == 0
    assert len(list((folder / "figures").iterdir())) == 1


def test_a_final_test_is_announced_only_where_something_is_tested(data_root, tmp_path, capsys):
    call = arguments(data_root, tmp_path / "run", **{"model.architecture": "share", "train.max_epoch": 1})
    assert main([*call, "--stages", "train"]) == 0
    assert "Final test" not in capsys.readouterr().out
    assert main([*call, "--stages", "train", "--resume"]) == 0
    assert "Final test" not in capsys.readouterr().out


def test_a_second_process_on_a_run_is_refused(data_root, copied, capsys, monkeypatch):
    from torchreid_nas.run import lock
    from torchreid_nas.run.folder import RunFolder

    monkeypatch.setattr(lock, "_HELD", set())
    for more in (["--resume"], ["--stages", "test"]):
        with lock.hold(RunFolder(copied)):
            lock._HELD.clear()
            error = refused(capsys, *arguments(data_root, copied, *more))
            assert f'"{copied}" is in use by process' in error
    assert main(arguments(data_root, copied, "--stages", "train", "--dry-run", "--resume")) == 0


def test_results_name_the_commit_of_a_checkout_and_none_without_git(finished, monkeypatch, tmp_path):
    from torchreid_nas.run import provenance

    commit = json.loads((finished / "results.json").read_text())["commit"]
    assert commit is None or len(commit.rstrip("+")) == 40
    provenance._commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._commit() is None
    provenance._commit.cache_clear()


def test_pictures_of_an_unfinished_run_are_left_out(copied):
    from torchreid_nas.run.folder import RunFolder

    (copied / "architecture.json").unlink()
    folder = RunFolder(copied)
    assert pictures.draw_pictures(folder) == [folder.training_figure]
