"""A damaged file of a run's folder with ``--resume``: one sentence, exit code 2, and nothing is lost."""
from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import commands
import pytest
import torch
from commands import refused
from digests import digests
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.run.folder import RunFolder, StageFolder

arguments = functools.partial(commands.arguments, TINY)


def as_folder(path):
    path.unlink()
    path.mkdir()


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


CONFIGS = {
    "empty": lambda path: path.write_text(""),
    "a list": lambda path: path.write_text("- train\n"),
    "text": lambda path: path.write_text("hello"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00train"),
    "no YAML": lambda path: path.write_text("train: {lr: [1"),
    "half a file": lambda path: path.write_text(path.read_text()[:700]),
    "deep": lambda path: path.write_text("[" * 3000),
    "a number of 5,000 digits": lambda path: path.write_text("train: " + "1" * 5000),
    "a folder": as_folder,
}
STATES = {
    "a list": [1], "nothing": {}, "text for the epoch": {"epoch": "a"}, "None for the epoch": {"epoch": None},
    "an epoch below 1": {"epoch": -1}, "half an epoch": {"epoch": 0.5}, "only an epoch": {"epoch": 1, "history": ""},
}


@pytest.mark.parametrize("damage", CONFIGS.values(), ids=CONFIGS)
def test_a_damaged_config_of_a_stage(damage, data_root, copied, capsys):
    path = copied / "train" / "config.yaml"
    damage(path)
    before = digests(copied)
    error = refused(capsys, *arguments(data_root, copied, "--resume"))
    assert str(path) in error or "train stage" in error
    assert digests(copied) == before


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("trained", [True, False])
def test_a_checkpoint_with_other_content(state, trained, data_root, copied, capsys):
    path = copied / "train" / "checkpoint.pth"
    # A folder of version 0.1 has neither older checkpoints nor digests.
    (copied / "train" / "checkpoint-1.pth").unlink()
    (copied / "train" / "checkpoints.json").unlink()
    torch.save(state, path)
    if not trained:
        (copied / "train" / "model.pth").unlink()
    before = digests(copied)
    error = refused(capsys, *arguments(data_root, copied, "--resume"))
    assert str(path) in error or "the checkpoint is of another model" in error
    assert digests(copied) == before


@pytest.mark.parametrize("name", ["search/checkpoint.pth", "train/checkpoint.pth", "train/model.pth"])
def test_a_flipped_bit_is_found(name, data_root, copied, capsys):
    flipped(copied / name)
    (copied / name).with_name("checkpoint-1.pth").unlink()
    if name.startswith("search"):
        (copied / "architecture.json").unlink()
    error = refused(capsys, *arguments(data_root, copied, "--resume"))
    assert str(copied / name) in error and "damaged" in error


@pytest.mark.parametrize("with_digests", [True, False])
def test_the_newest_whole_checkpoint_is_used(with_digests, copied, caplog):
    stage = RunFolder(copied).train
    assert [path.name for path in stage.checkpoints()] == ["checkpoint.pth", "checkpoint-1.pth"]
    newest, older = (torch.load(path, weights_only=True)["epoch"] for path in stage.checkpoints())
    assert newest == older + 1 == stage.load_state()["epoch"]
    flipped(stage.checkpoint)
    if not with_digests:
        stage.digests.unlink()
    assert stage.load_state()["epoch"] == older
    assert str(stage.checkpoint) in caplog.text and "damaged" in caplog.text and "checkpoint-1.pth\" is used" in caplog.text


@pytest.mark.parametrize("results", ["[]", '{"results": 1}', '{"results": [1]}', "{", ""])
def test_damaged_results_of_a_trial(results, data_root, copied, tmp_path, capsys):
    trial = tmp_path / "runs" / "split_0"
    shutil.copytree(copied, trial)
    (trial / "results.json").write_text(results)
    error = refused(capsys, *arguments(data_root, tmp_path / "runs", "--trials", "0", "--resume"))
    assert str(trial / "results.json") in error


# -- the history ----------------------------------------------------------------


def rows(folder):
    return [json.loads(line) for line in folder.history.read_text().splitlines()]


@pytest.fixture
def half(data_root, tmp_path):
    """A training of two epochs, to go on to the third."""
    folder = RunFolder(tmp_path / "run")
    call = arguments(data_root, folder, "--stages", "train", **{"model.architecture": "share"})
    at = call.index("train.max_epoch") + 1
    config = [*call[:at], "2", *call[at + 1:]]
    assert main(config) == 0
    # The length of a training may not change; the saved config is that of three epochs.
    folder.train.config.write_text(folder.train.config.read_text().replace("max_epoch: 2", "max_epoch: 3"))
    return folder, [*call, "--resume"]


HISTORIES = {
    "half a line": lambda lines: [lines[0], lines[1][: len(lines[1]) // 2]], "a missing line": lambda lines: lines[1:],
    "no line": lambda lines: [], "a line too many": lambda lines: [*lines, lines[1]], "bytes": lambda lines: ["\udcff"],
}


@pytest.mark.parametrize("damage", HISTORIES.values(), ids=HISTORIES)
def test_a_damaged_history_is_mended_from_the_checkpoint(damage, half):
    folder, call = half
    kept = rows(folder.train)
    lines = damage(folder.train.history.read_text().splitlines())
    folder.train.history.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    assert main(call) == 0
    assert [row["epoch"] for row in rows(folder.train)] == [1, 2, 3] and rows(folder.train)[:2] == kept


def test_a_history_without_its_copy_in_the_checkpoint_is_read_line_by_line(tmp_path):
    folder = StageFolder(Path(tmp_path))
    lines = [json.dumps({"epoch": epoch, "ce": 1.0}) for epoch in (1, 2, 3)]
    folder.history.write_text("\n".join(lines))
    assert folder.read_history(2) == f"{lines[0]}\n{lines[1]}\n"
    from torchreid_nas.errors import InputError

    for text, line in (("", 1), (f"{lines[0]}\n{lines[2]}", 2), (f"{lines[0]}\n{lines[1][:9]}", 2), ("[" * 9999, 1)):
        folder.history.write_text(text)
        with pytest.raises(InputError, match=f"line {line}, is no row of epoch {line}; restore the file"):
            folder.read_history(3)


def test_a_checkpoint_that_the_stage_has_not_written_is_not_used(copied, caplog):
    stage = RunFolder(copied).train
    state = torch.load(stage.checkpoints()[1], weights_only=True)
    torch.save({**state, "epoch": 7}, stage.checkpoint)
    assert stage.load_state()["epoch"] == state["epoch"]
    assert f'its SHA-256 is not in "{stage.digests}"' in caplog.text
