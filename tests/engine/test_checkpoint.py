"""The state of an engine: what is collected is what is restored, and another one's is one sentence."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from torchreid_nas.engine import ResumableEngine, TrainingOptions
from torchreid_nas.engine.checkpoint import Position, collect_state, restore_state
from torchreid_nas.engine.precision import Precision
from torchreid_nas.errors import InputError


class Loader(list):
    sampler = None


class Data:
    train_loader, test_loader, sources, num_train_pids = Loader([torch.ones(2, 3)]), {}, [], 1


class Engine(ResumableEngine):
    def losses(self, data, metric_only=False):
        return {"squares": self.model(data).square().mean()}


def parts(rate=0.1):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return {"model": model, "optimizer": optimizer, "scheduler": None}


def test_what_is_collected_is_restored():
    first, second = parts(), parts(rate=0.2)
    position = Position(epoch=3, best_score=0.25, best_epoch=2, stopped=True)
    state = collect_state(first, position)
    assert restore_state(second, state) == position
    assert torch.equal(second["model"].weight, first["model"].weight)
    assert second["optimizer"].param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("spoil", [
    lambda state: state.pop("epoch"), lambda state: state.pop("optimizer"),
    lambda state: state["model"].pop("weight"), lambda state: state.update(model=5),
])
def test_the_state_of_another_engine_is_one_sentence(spoil):
    state = collect_state(parts(), Position())
    spoil(state)
    with pytest.raises(InputError, match="the checkpoint is of another model or engine .*resume with the config"):
        restore_state(parts(), state)


def test_a_precision_that_does_not_exist_is_named_as_the_argument():
    with pytest.raises(InputError, match=r'amp \(train.amp\) is "fp8", expected one of none, bf16, fp16'):
        Precision(torch.device("cpu"), "fp8")


def test_an_engine_without_an_optimiser_says_that_it_only_evaluates():
    engine = Engine(Data, nn.Linear(3, 2), options=TrainingOptions())
    with pytest.raises(InputError, match="this Engine has no optimizer and can only evaluate; give it one to train"):
        engine.forward_backward(Data.train_loader[0])
