"""The advisor before a training: deterministic, recorded as the architecture's source, and refusals of one sentence."""
import json

import pytest
import torch
from commands import refused
from PIL import Image
from tiny import TINY, TINY_CDNET

from torchreid_nas.architecture import Architecture
from torchreid_nas.cli import main
from torchreid_nas.errors import InputError
from torchreid_nas.run.advice import advice_table, advise
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.run.stages import Run


def test_a_training_starts_with_the_advice_and_keeps_it_with_its_source(tiny_config, tmp_path):
    cfg = tiny_config(**{"model.architecture": "advise", "train.max_epoch": 1, "data.save_dir": tmp_path / "run"})
    Run(cfg).execute(["train"])
    kept = json.loads((tmp_path / "run" / "train" / "architecture.json").read_text())
    again = advise(RunSetup.of(cfg))
    assert list(kept["choices"].items()) == list(again.architecture().choices)
    assert "advisor" in kept["source"] and kept["source"]["seed"] == cfg.train.seed
    table = advice_table(again)
    assert all(slot.slot in table and 0 < slot.p <= 1 and slot.error >= 0 for slot in again.slots)


def test_a_model_without_slots_is_refused(tiny_config):
    with pytest.raises(InputError, match="no slots to advise on in model.name cdnet"):
        advise(RunSetup.of(tiny_config(**TINY_CDNET)))


def test_images_without_labels_are_refused(tiny_config, monkeypatch):
    from torchreid_nas.engine import CrossModalityPathSearchEngine

    batch = {"img": torch.zeros(4, 3, 48, 24), "pid": torch.zeros(4, dtype=torch.long)}
    monkeypatch.setattr(CrossModalityPathSearchEngine, "held_out", lambda self: ([batch["img"]], [batch]))
    with pytest.raises(InputError, match="name fewer than two; label them"):
        advise(RunSetup.of(tiny_config()))


def refused_advice(capsys, root, out, data):
    keys = [part for key, value in TINY.items() if key != "model.name" for part in (key, value)]
    sentence = refused(capsys, "advise", TINY["model.name"], data, "--root", root, "--out", out, *keys)
    assert sentence.count("\n") == 1 and (not out.exists() or not list(out.iterdir()))
    return sentence


def test_the_command_refuses_images_of_one_modality(data_root, tmp_path, capsys):
    sentence = refused_advice(capsys, data_root, tmp_path / "out", "market1501")
    assert "identities have visible images only" in sentence and "of both modalities in data.sources" in sentence


def test_the_command_refuses_images_without_labels(tmp_path, capsys):
    for modality in ("visible", "infrared"):
        (tmp_path / "images" / modality).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (24, 48)).save(tmp_path / "images" / modality / f"img_{number}.png")
    sentence = refused_advice(capsys, tmp_path, tmp_path / "out", f"folder:{tmp_path / 'images'}")
    assert "have no labels" in sentence and "data.layout" in sentence


def test_the_command_writes_architecture_and_picture(data_root, tmp_path, capsys):
    keys = [str(part) for key, value in TINY.items() if key != "model.name" for part in (key, value)]
    folder = RunFolder(tmp_path / "out")
    assert main(["advise", TINY["model.name"], "regdb", "--root", str(data_root), "--out", str(folder), *keys]) == 0
    shown = capsys.readouterr().out
    assert str(folder.architecture) in shown and folder.advice_figure.stat().st_size > 1000
    assert Architecture.load(folder.architecture).source["seed"] == 1
