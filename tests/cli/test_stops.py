"""A run that a signal stops inside epochs of its search and training, again and again, ends in the numbers of a whole run."""
from __future__ import annotations

import json
import signal

import pytest
import torch
from commands import arguments
from tiny import TINY, TINY_ECN

from torchreid_nas import preemption
from torchreid_nas.cli import main
from torchreid_nas.engine import ResumableEngine
from torchreid_nas.run.folder import RunFolder

SHORT = {"search.max_epoch": 2, "train.max_epoch": 1, "train.stepsize": [1], "search.warmup_epochs": 0}
RUNS = {
    "search by gradient": {**TINY, **SHORT, "search.method": "gradient", "search.interval": 1},
    "search by paths, two batches a step": {**TINY, **SHORT, "train.accumulate": 2, "train.num_batches": 4},
    "ECN": {**TINY_ECN, "ecn.target_epoch": 0, "train.max_epoch": 2, "train.stepsize": [1], "train.num_batches": 3},
}


def numbers(folder):
    """The histories without times, the weights and the figures of a run."""
    found = {"results": json.loads(folder.results.read_text())["results"]}
    for stage in (folder.search, folder.train):
        if stage.path.exists():
            rows = [json.loads(line) for line in stage.history.read_text().splitlines()]
            found[str(stage.path.name)] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    weights = torch.load(folder.train.weights, weights_only=True)["state_dict"]
    return found, {name: value.tolist() for name, value in weights.items()}


@pytest.mark.parametrize("config", RUNS.values(), ids=RUNS)
def test_a_run_that_is_stopped_inside_its_epochs(config, data_root, tmp_path, monkeypatch, capsys):
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    assert main(arguments(config, data_root, whole)) == 0
    learn, steps, starts = ResumableEngine.learn, [], []

    def stopping(self, loss):
        steps.append(loss)
        if len(steps) % 2 == 0:
            preemption.request(signal.SIGTERM)
        return learn(self, loss)

    monkeypatch.setattr(ResumableEngine, "learn", stopping)
    code = 143
    while code == 143:
        starts.append(1)
        code = main(arguments(config, data_root, stopped, "--resume"))
    assert code == 0 and len(starts) > 2
    assert "SIGTERM came after batch 2 of epoch 1, and the state is saved" in capsys.readouterr().err
    assert numbers(stopped) == numbers(whole)
