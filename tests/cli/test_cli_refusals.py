"""What the command line says to bad input, configs, data and files, and that it leaves nothing half-written."""
import errno
import functools
import re
import shutil
from pathlib import Path

import commands
import pytest
import torch
from commands import refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.engine import ResumableEngine

arguments = functools.partial(commands.arguments, TINY)

@pytest.mark.parametrize("call, words", [
    (["train.max_epochs", "3"], ['"train.max_epochs"', 'did you mean "train.max_epoch"']),
    (["train.lr", "fast"], ["train.lr", "'fast'", "a number"]),
    (["train.lr", "-1"], ["train.lr", "above 0"]),
    (["train.lr"], ["train.lr", "KEY VALUE"]),
    (["--config", "configs/nothing.yaml"], ["configs/nothing.yaml", "neither a file nor the name"]),
    (["--stages", "serach"], ['did you mean "search"']),
    (["--trials", "11"], ["0 to 9"]),
    (["--device", "gpu0"], ["gpu0", "cpu"]),
    (["model.name", "two_stream_resnet5"], ["model.name", 'did you mean "two_stream_resnet50"']),
    (["model.architecture", "firts-3"], ["firts-3", "preset"]),
    (["model.architecture", "arch.json"], ["arch.json", "cannot be read"]),
    (["train.batch_size", "10"], ["train.batch_size is 10", "multiple of 4 of at least 8"]),
    (["train.batch_size", "4"], ["train.batch_size is 4", "multiple of 4 of at least 8"]),
    (["data.sources", "regdbb"], ["regdbb", 'did you mean "regdb"']),
    (["data.split_id", "12"], ["12"]),
    (["data.transforms", "random_flipp"], ["random_flipp"]),
    (["--stages", "search", "model.architecture", "share"], ["model.architecture", "--stages"]),
])
def test_a_bad_word_is_answered_by_one_sentence(call, words, data_root, tmp_path, capsys):
    base = arguments(data_root, tmp_path / "run")
    overriding = call[:1] if not call[0].startswith("--") else []
    for key in overriding:
        if key in base and len(call) > 1:
            base = base[: base.index(key)] + base[base.index(key) + 2:]
    error = refused(capsys, *base, *call)
    for word in words:
        assert word in error
    # What is refused leaves no folder behind.
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes, words", [
    ({"data.targets": "['regdb', 'regdb_ir2viss']"}, ["regdb_ir2viss", 'did you mean "regdb_ir2vis"']),
    ({"data.targets": "['market1501', 'msmt17']"}, ["msmt17", "as torchreid expects it"]),
    ({"model.load_weights": "no/model.pth"}, ["no/model.pth", "does not exist"]),
    ({"model.pretrained": "no/resnet.pth"}, ["no/resnet.pth", "does not exist"]),
    ({"train.new_layers": "['bnneckk']"}, ["train.new_layers", 'did you mean "bnneck"']),
    ({"train.holdout": 0.9}, ["train.batch_size", "identities"]),
    ({"data.targets": "[]"}, ["data.targets", "--stages"]),
    ({"search.budget.macs": 1e9}, ["search.budget.macs", "search.split_cost"]),
])
@pytest.mark.parametrize("option", [[], ["--dry-run"], ["--trials", "0,1"]])
def test_what_a_later_stage_would_stumble_over_is_refused_before_the_first(
    option, changes, words, data_root, tmp_path, capsys, monkeypatch,
):
    monkeypatch.setattr(ResumableEngine, "forward_backward", None)
    error = refused(capsys, *arguments(data_root, tmp_path / "run", *option, **changes))
    for word in words:
        assert word in error
    assert not (tmp_path / "run").exists()


def test_a_trial_without_its_split_is_refused_before_another_is_trained(own_data, tmp_path, capsys):
    (own_data / "RegDB" / "idx" / "test_thermal_3.txt").unlink()
    call = arguments(own_data, tmp_path / "run", "--trials", "0,2", **{"model.architecture": "share"})
    assert "test_thermal_3.txt" in refused(capsys, *call)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_the_data_of_the_test_and_needs_its_weights(data_root, copied, capsys):
    assert main(arguments(data_root, copied, "--dry-run", "--stages", "test")) == 0
    assert "regdb_ir2vis: query" in capsys.readouterr().out
    (copied / "train" / "model.pth").unlink()
    assert "no weights to test" in refused(capsys, *arguments(data_root, copied, "--dry-run", "--stages", "test"))


def test_missing_data_names_layout_source_and_stand_in(tmp_path, capsys):
    error = refused(capsys, *arguments(tmp_path / "nowhere", tmp_path / "run"))
    for word in ("RegDB", "Visible", "idx", "http", "torchreid-nas synthetic regdb --root"):
        assert word in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stages, missing", [("train", "architecture.json"), ("test", "model.pth")])
def test_stages_without_what_they_need(stages, missing, data_root, tmp_path, capsys):
    assert missing in refused(capsys, *arguments(data_root, tmp_path / "run", "--stages", stages))


def test_an_architecture_of_another_backbone(data_root, tmp_path, capsys):
    path = tmp_path / "config.cfg"
    path.write_text(" ".join(["0"] * 53) + "\n")
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **{"model.architecture": path}))
    assert "53" in error and "20" in error


def test_a_checkpoint_of_another_model(data_root, copied, capsys):
    before = (copied / "config.yaml").read_bytes()
    changes = {"model.architecture": "share"}
    assert "another model" in refused(capsys, *arguments(data_root, copied, "--stages", "test", **changes))
    assert (copied / "config.yaml").read_bytes() == before
    other = arguments(data_root, copied.parent / "other", "--stages", "train", **changes)
    assert "another model" in refused(capsys, *other, "model.load_weights", copied / "train" / "model.pth")
    assert not (copied.parent / "other").exists()


@pytest.mark.parametrize("part", ["train", "search"])
def test_what_resume_goes_on_from_is_no_weights(part, data_root, finished, tmp_path, capsys):
    weights = finished / part / "checkpoint.pth"
    for stages in ("test", "search,train"):
        call = arguments(data_root, tmp_path / "run", "--stages", stages, **{"model.load_weights": weights})
        error = refused(capsys, *call)
        assert str(weights) in error and "--resume" in error and f'name "{finished / "train" / "model.pth"}"' in error
    assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint(data_root, copied, capsys):
    path = copied / "train" / "model.pth"
    path.write_bytes(path.read_bytes()[:1000])
    error = refused(capsys, *arguments(data_root, copied, "--stages", "test"))
    assert str(path) in error and "truncated" in error


@pytest.mark.parametrize("stage, others", [("search", ["architecture.json"]), ("train", []), ("train", ["figures"])])
def test_a_truncated_state_is_answered_by_how_to_start_its_stage_afresh(stage, others, data_root, copied, capsys):
    path = copied / stage / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:1000])
    path.with_name("checkpoint-1.pth").unlink()
    for name in others:
        (copied / name).rename(copied / f"{name}.away")
    error = refused(capsys, *arguments(data_root, copied, "--resume"))
    assert str(path) in error and f'remove "{copied / stage}" to start this stage afresh' in error


@pytest.fixture
def own_data(data_root, tmp_path):
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(data_root, tmp_path / "own"))


def test_a_truncated_image(own_data, tmp_path, capsys):
    listed = (own_data / "RegDB" / "idx" / "train_visible_1.txt").read_text().splitlines()
    image = own_data / "RegDB" / listed[0].split()[0]
    for line in listed:
        path = own_data / "RegDB" / line.split()[0]
        path.write_bytes(path.read_bytes()[:200])
    error = refused(capsys, *arguments(own_data, tmp_path / "run", **{"model.architecture": "share"}))
    assert str(image.parents[1]) in error and ".bmp" in error


def test_a_corrupt_index_line(own_data, tmp_path, capsys):
    path = own_data / "RegDB" / "idx" / "test_thermal_1.txt"
    path.write_text(path.read_text() + "no label here\n")
    error = refused(capsys, *arguments(own_data, tmp_path / "run", "--dry-run"))
    assert "test_thermal_1.txt" in error and "65" in error


def test_an_empty_split(own_data, tmp_path, capsys):
    (own_data / "RegDB" / "idx" / "train_visible_1.txt").write_text("")
    assert "train_visible_1.txt" in refused(capsys, *arguments(own_data, tmp_path / "run"))


def test_fewer_identities_than_a_batch_needs(data_root, tmp_path, capsys):
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **{"train.batch_size": 128, "model.architecture": "share"}))
    assert "train.batch_size" in error and "32 identities" in error


def test_no_overlap_of_query_and_gallery(own_data, tmp_path, capsys):
    path = own_data / "RegDB" / "idx" / "test_thermal_1.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    path.write_text("".join(f"{name} {int(label) + 500}\n" for name, label in lines))
    error = refused(capsys, *arguments(own_data, tmp_path / "run"))
    assert "test_thermal_1.txt" in error and "share no identity" in error


@pytest.mark.parametrize("option", [[], ["--dry-run"], ["--stages", "test"]])
def test_a_test_set_that_cannot_be_scored_is_found_before_training(option, own_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ResumableEngine, "forward_backward", None)
    for part in ("query", "bounding_box_test"):
        for path in (own_data / "market1501" / "Market-1501-v15.09.15" / part).glob("*.jpg"):
            if "_c1" not in path.name:
                path.unlink()
    changes = {"data.targets": "market1501", "model.architecture": "share"}
    if "--stages" in option:
        changes["model.load_weights"] = tmp_path / "weights.pth"
        torch.save({"state_dict": {"classifier.weight": torch.zeros(2, 2)}}, tmp_path / "weights.pth")
    error = refused(capsys, *arguments(own_data, tmp_path / "run", *option, **changes))
    assert 'queries of "market1501" can be scored: no gallery image shows the same person, seen by another camera,' in error
    assert not (tmp_path / "run").exists()


def test_a_full_disk_leaves_nothing_half_written(data_root, tmp_path, capsys, monkeypatch):
    save, calls = torch.save, []

    def full(state, file):
        calls.append(file)
        if len(calls) < 3:
            return save(state, file)
        file.write(b"part of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    folder = tmp_path / "run"
    error = refused(capsys, *arguments(data_root, folder, **{"model.architecture": "share"}))
    assert "No space left on device" in error
    monkeypatch.undo()
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]
    assert torch.load(folder / "train" / "checkpoint.pth", weights_only=True)["epoch"] == 2


@pytest.mark.parametrize("config, overrides, sentence", [
    ("demo_scratch", ["model.architecture", "first-99"], '"first-99" asks for 99 slots, the backbone has 20'),
    ("demo", ["model.architecture", "stages-layer5"], "the stages of the backbone are stem, layer1, layer2, layer3, layer4"),
    ("demo", [], "mobilenet_v2-b0353104.pth.*or train from scratch with model.pretrained False"),
    ("demo", ["model.name", "mobilenetv2_x1_0", "model.architecture", "none"], "downloads are off"),
])
def test_a_demo_that_cannot_start_is_refused_before_data_are_generated(
    config, overrides, sentence, tmp_path, capsys, monkeypatch,
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("TORCHREID_NAS_OFFLINE", "1")
    call = ["--config", config, "--root", tmp_path / "data", "--output", tmp_path / "run", *overrides]
    if overrides[:1] == ["model.architecture"]:
        call += ["model.pretrained", "False"]
    assert re.search(sentence, refused(capsys, *call))
    assert not list(tmp_path.iterdir())
