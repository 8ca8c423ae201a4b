"""What a run was initialised from is written beside its weights and its results."""
from __future__ import annotations

import hashlib
import json

import pytest

from torchreid_nas.run.stages import Run


@pytest.fixture
def executed(tiny_config, tmp_path):
    """``executed(folder, **changes)``: the folder of a finished run."""

    def run(name, **changes):
        cfg = tiny_config(**{"model.architecture": "share", "data.save_dir": tmp_path / name, **changes})
        run = Run(cfg)
        run.execute(["train", "test"])
        return run.folder

    return run


def test_a_run_names_the_weights_that_it_started_from(executed):
    random = executed("random")
    entry = json.loads(random.train.initial.read_text())
    assert entry["weights"] == "random" and len(entry["sha256"]) == 64 and set(entry) == {"weights", "sha256"}
    assert random.read_results()["initial"] == entry

    further = executed("further", **{"model.load_weights": random.train.weights, "train.seed": 2})
    loaded = json.loads(further.train.initial.read_text())
    assert loaded["weights"] == str(random.train.weights)
    assert loaded["file_sha256"] == hashlib.sha256(random.train.weights.read_bytes()).hexdigest()
    assert loaded["sha256"] != entry["sha256"]


def test_the_same_start_has_the_same_digest(executed):
    one, other = (json.loads(executed(name).train.initial.read_text()) for name in ("one", "other"))
    assert one == other
