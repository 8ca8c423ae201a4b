"""The advisor before a training: deterministic, recorded as the architecture's source, and refusals of one sentence."""
import json

import pytest
import torch
from tiny import TINY_CDNET

from torchreid_nas.errors import InputError
from torchreid_nas.run.advice import advice_table, advise
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
