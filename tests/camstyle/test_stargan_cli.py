"""``torchreid-nas camstyle`` end to end: what it writes, how it goes on, what it says to bad input."""
from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from commands import refused

import torchreid_nas.device
from torchreid_nas.camstyle.generation import MARKER
from torchreid_nas.camstyle.images import load_camera_images
from torchreid_nas.cli import main
from torchreid_nas.data.camstyle import FileStyler
from torchreid_nas.data.camstyle.names import CAMSTYLE_FOLDER
from torchreid_nas.files import load_checkpoint
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.lock import hold

TINY = ["--height", "32", "--width", "16", "--channels", "4", "--residual-blocks", "1", "--iterations", "6",
        "--batch-size", "4", "--n-critic", "2"]
QUICK = ["--workers", "0", "--log-every", "2", "--checkpoint-every", "4", "--sample-every", "100", "--device", "cpu"]


def market(data_root, root):
    """A copy of the synthetic Market-1501 that a test may write into, with twelve training images."""
    shutil.copytree(data_root / "market1501", root / "market1501")
    folder = next(root.rglob("bounding_box_train"))
    for path in sorted(folder.glob("*.jpg"))[12:]:
        path.unlink()
    return root


def call(root, output, *more):
    keys = {"--dataset": "market1501", "--root": root, "--output": output}
    return ["camstyle", *(str(part) for item in keys.items() for part in item), *QUICK, *map(str, more)]


@pytest.fixture(scope="module")
def finished(data_root, tmp_path_factory):
    """Folder of the data and folder of the run of a whole call."""
    root = market(data_root, tmp_path_factory.mktemp("camstyle-data"))
    output = tmp_path_factory.mktemp("camstyle") / "run"
    assert main(call(root, output, *TINY)) == 0
    return root, output


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of both that a test may spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "data")), Path(shutil.copytree(finished[1], tmp_path / "run"))


def styles(root):
    return {path.name: path.read_bytes() for path in next(root.rglob(CAMSTYLE_FOLDER)).iterdir()}


# -- the whole way --------------------------------------------------------------


def test_a_run_writes_its_files_and_images_that_ecn_finds(finished):
    root, output = finished
    state = load_checkpoint(output / "checkpoint.pth")
    assert state["iteration"] == 6 and state["dataset"] == "market1501" and state["settings"]["channels"] == 4
    assert [json.loads(line)["iteration"] for line in (output / "history.jsonl").read_text().splitlines()] == [2, 4, 6]
    pictures = {path.relative_to(output).as_posix() for path in output.rglob("*.png")}
    assert pictures == {"samples/iteration-0000006.png", "figures/losses.png"}
    images = load_camera_images("market1501", root, 32, 16)
    styler = FileStyler(images.items)
    assert styler.num_files == 12 * (len(images.camids) - 1) and styler.num_missing == 0
    marker = json.loads((next(root.rglob(CAMSTYLE_FOLDER)) / MARKER).read_text())
    assert marker["dataset"] == "market1501" and marker["iteration"] == 6
    assert not [path for folder in finished for path in folder.rglob("*.tmp*")]


def test_the_same_call_gives_the_same_images_and_says_where_they_lie(finished, data_root, tmp_path, capsys):
    root = market(data_root, tmp_path / "data")
    assert main(call(root, tmp_path / "run", *TINY)) == 0
    said = capsys.readouterr().out
    assert styles(root) == styles(finished[0])
    assert str(next(root.rglob(CAMSTYLE_FOLDER))) in said and "data.targets market1501 ecn.camstyle files" in said
    assert f"{len(styles(root)) - 1} of them new" in said and "16 x 32 pixels" in said


def test_an_interrupted_call_goes_on_to_the_same_images(finished, data_root, tmp_path, monkeypatch):
    from torchreid_nas.camstyle import training

    root, step = market(data_root, tmp_path / "data"), training.Trainer.step

    def interrupted(self, *batch):
        if self.iteration == 5:
            raise KeyboardInterrupt
        step(self, *batch)

    monkeypatch.setattr(training.Trainer, "step", interrupted)
    assert main(call(root, tmp_path / "run", *TINY)) == 130
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pth")["iteration"] == 4
    # The settings are those of the checkpoint: nothing has to be repeated.
    assert main(call(root, tmp_path / "run", "--resume")) == 0
    assert styles(root) == styles(finished[0])
    whole, resumed = (load_checkpoint(folder / "checkpoint.pth") for folder in (finished[1], tmp_path / "run"))
    for network in ("generator", "discriminator"):
        assert all(torch.equal(value, resumed[network][key]) for key, value in whole[network].items())
    assert (finished[1] / "history.jsonl").read_text() == (tmp_path / "run" / "history.jsonl").read_text()


def test_only_generate_restores_what_is_missing_and_trains_nothing(copied, capsys):
    root, output = copied
    before, trained = styles(root), (output / "checkpoint.pth").stat().st_mtime_ns
    folder = next(root.rglob(CAMSTYLE_FOLDER))
    victim = sorted(folder.glob("*.jpg"))[3]
    victim.unlink()
    assert main(call(root, output, "--only-generate")) == 0
    assert "1 of them new" in capsys.readouterr().out
    assert styles(root) == before and (output / "checkpoint.pth").stat().st_mtime_ns == trained
    victim.write_bytes(b"broken")
    assert main(call(root, output, "--resume")) == 0 and victim.read_bytes() == b"broken"
    assert main(call(root, output, "--resume", "--overwrite")) == 0 and styles(root) == before


def test_help_names_the_defaults_of_the_paper(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["camstyle", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert exit.value.code == 0
    for text in ("--iterations I updates of the discriminator (default 200000)", "--n-critic", "(default 0.0001)"):
        assert text in shown


# -- bad input --------------------------------------------------------------------


def test_an_unknown_data_set_is_named(tmp_path, capsys):
    said = refused(capsys, "camstyle", "--dataset", "market1502", "--root", tmp_path, "--output", tmp_path / "run")
    assert 'there is no image data set "market1502"' in said and 'did you mean "market1501"?' in said


def test_missing_data_are_named(tmp_path, capsys):
    said = refused(capsys, "camstyle", "--dataset", "msmt17", "--root", tmp_path / "none", "--output", tmp_path / "run")
    assert 'the data set "msmt17" is missing or incomplete' in said and not (tmp_path / "run").exists()


def test_a_single_camera_is_not_enough(copied, tmp_path, capsys):
    root, _ = copied
    for path in next(root.rglob("bounding_box_train")).glob("*.jpg"):
        if "_c1" not in path.name:
            path.unlink()
    said = refused(capsys, *call(root, tmp_path / "new"))
    assert "market1501: the training part has images of 1 camera" in said and "at least 2" in said


@pytest.mark.parametrize("options, said", [
    (["--height", 50], "height is 50, expected a multiple of 4"),
    (["--iterations", 0], "iterations is 0, expected a whole number from 1"),
    (["--amp", "fp17"], 'amp is "fp17"'),
    (["--log-every", 0], "log_every is 0, expected at least 1"),
    (["--device", "gpu7"], 'the device "gpu7" is unknown to torch'),
    (["--only-generate"], "holds no checkpoint.pth to generate with; train first"),
])
def test_an_option_at_fault_is_named(options, said, finished, tmp_path, capsys):
    assert said in refused(capsys, *call(finished[0], tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()


def test_images_that_are_there_are_refused_before_the_training(finished, tmp_path, capsys):
    said = refused(capsys, *call(finished[0], tmp_path / "run", *TINY))
    assert "camera-style images already; add --overwrite" in said and not (tmp_path / "run").exists()


def test_folders_that_cannot_be_made_are_refused_before_the_training(copied, tmp_path, capsys):
    root, _ = copied
    folder = next(root.rglob(CAMSTYLE_FOLDER))
    shutil.rmtree(folder)
    folder.write_text("kept")
    said = refused(capsys, *call(root, tmp_path / "new", *TINY))
    assert f'--root: the folder "{folder}" cannot be made' in said and not (tmp_path / "new").exists()
    folder.unlink()
    said = refused(capsys, *call(root, tmp_path / "run" / "checkpoint.pth", *TINY))
    assert f'--output: the folder "{tmp_path / "run" / "checkpoint.pth"}" cannot be made' in said and not folder.exists()


def test_another_run_is_not_overwritten(finished, capsys):
    assert "already holds a StarGAN; add --resume" in refused(capsys, *call(*finished, *TINY))


@pytest.mark.parametrize("options, said", [
    (["--resume", "--lr", "0.01"], "was made with --lr 0.0001, not 0.01"),
    (["--only-generate", "--height", "64"], "was made with --height 32, not 64"),
    (["--resume", "--n-critic", "5"], "was made with --n-critic 2, not 5"),
])
def test_a_resumed_run_keeps_its_settings(options, said, finished, capsys):
    assert said in refused(capsys, *call(*finished, *options))


def test_a_run_on_other_data_is_not_resumed(copied, data_root, tmp_path, capsys):
    root, output = copied
    next(next(root.rglob("bounding_box_train")).glob("*.jpg")).unlink()
    assert "was trained on 12 images of market1501" in refused(capsys, *call(root, output, "--resume"))
    state = load_checkpoint(output / "checkpoint.pth")
    torch.save({**state, "dataset": "dukemtmcreid"}, output / "checkpoint.pth")
    assert "is of dukemtmcreid, not market1501" in refused(capsys, *call(root, output, "--resume"))
    torch.save({"state_dict": {}}, output / "checkpoint.pth")
    assert "is not of a StarGAN across cameras" in refused(capsys, *call(root, output, "--resume"))


def test_emulated_bfloat16_is_one_line_on_stderr(data_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torchreid_nas.device, "computes_bfloat16", lambda _: False)
    root = market(data_root, tmp_path / "data")
    assert main(call(root, tmp_path / "run", *TINY, "--iterations", 1, "--amp", "bf16")) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "bf16" in line]
    assert len(said) == 1 and said[0].startswith("warning: --amp is bf16")


def test_a_second_process_on_the_same_run_is_told_who_holds_it(copied, capsys):
    root, output = copied
    held, release = threading.Event(), threading.Event()

    def holder():
        with hold(RunFolder(output)):
            held.set()
            release.wait(60)

    thread = threading.Thread(target=holder)
    thread.start()
    try:
        assert held.wait(60)
        said = refused(capsys, *call(root, output, "--resume"))
    finally:
        release.set()
        thread.join()
    assert f'"{output}" is in use by process {os.getpid()} on ' in said and "choose another --output" in said
    assert main(call(root, output, "--resume")) == 0
