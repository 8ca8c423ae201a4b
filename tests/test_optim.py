"""Optimisers and schedules against the authors' numbers and torchreid's rules."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.optim import build_lr_scheduler, build_optimizer, warmup_multi_step

DATA = Path(__file__).resolve().parent / "data"


def rates(scheduler: torch.optim.lr_scheduler.LRScheduler, epochs: int) -> list[float]:
    """The rate that each epoch trains with; the schedule is stepped after every epoch."""
    seen = []
    for _ in range(epochs):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def sgd(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict({
        "backbone": nn.Linear(2, 2), "bnneck": nn.BatchNorm1d(2), "classifier": nn.Linear(2, 3, bias=False),
    })


# -- schedules ----------------------------------------------------------------


def test_warmup_multi_step_equals_the_authors_schedule():
    golden = json.loads((DATA / "warmup_multistep_lr.json").read_text())
    scheduler = warmup_multi_step(
        sgd(golden["base_lr"]), golden["milestones"], golden["gamma"], golden["warmup_epochs"], golden["warmup_factor"],
    )
    assert rates(scheduler, len(golden["lr_per_epoch"])) == pytest.approx(golden["lr_per_epoch"], rel=1e-12)


def test_the_default_config_gives_that_schedule():
    golden = json.loads((DATA / "warmup_multistep_lr.json").read_text())
    cfg = load_config()
    assert rates(build_lr_scheduler(sgd(cfg.train.lr), cfg), 120) == pytest.approx(golden["lr_per_epoch"], rel=1e-12)


def test_without_warmup_the_first_epoch_has_the_full_rate():
    assert rates(warmup_multi_step(sgd(), [2], gamma=0.5, warmup_epochs=0), 4) == pytest.approx([1, 1, 0.5, 0.5])


def test_milestones_inside_the_warmup_count_too():
    scheduler = warmup_multi_step(sgd(), [1], 0.1, warmup_epochs=2, warmup_factor=0.0)
    assert rates(scheduler, 3) == pytest.approx([0, 0.05, 0.1])


def test_a_resumed_schedule_goes_on_where_it_stopped():
    cfg = load_config()
    whole = rates(build_lr_scheduler(sgd(cfg.train.lr), cfg), 80)
    optimizer = sgd(cfg.train.lr)
    scheduler = build_lr_scheduler(optimizer, cfg)
    rates(scheduler, 37)
    states = optimizer.state_dict(), scheduler.state_dict()
    optimizer = sgd(cfg.train.lr)
    scheduler = build_lr_scheduler(optimizer, cfg)
    optimizer.load_state_dict(states[0]), scheduler.load_state_dict(states[1])
    assert rates(scheduler, 43) == whole[37:]


@pytest.mark.parametrize(("name", "stepsize", "expected"), [
    ("single_step", "[2]", [1, 1, 0.1, 0.1, 0.01]),
    ("multi_step", "[1, 3]", [1, 0.1, 0.1, 0.01, 0.01]),
    ("cosine", "[1]", [1.0, 0.8535533905932737, 0.5, 0.14644660940672627, 0.0]),
])
def test_torchreids_schedules(name, stepsize, expected):
    cfg = load_config(overrides=["train.lr_scheduler", name, "train.stepsize", stepsize, "train.max_epoch", "4"])
    assert rates(build_lr_scheduler(sgd(), cfg), 5) == pytest.approx(expected, abs=1e-12)


# -- optimisers ---------------------------------------------------------------


def test_the_new_layers_get_the_rate_and_the_backbone_a_tenth(model):
    cfg = load_config()
    optimizer = build_optimizer(model, cfg)
    assert isinstance(optimizer, torch.optim.Adam)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        assert group["lr"] == pytest.approx(0.001 if name.startswith("backbone") else 0.01)
        assert group["betas"] == (0.5, 0.999) and group["weight_decay"] == 5e-4


def test_the_schedule_scales_both_rates(model):
    cfg = load_config()
    optimizer = build_optimizer(model, cfg)
    build_lr_scheduler(optimizer, cfg)
    assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([1e-5, 1e-4])


def test_one_rate_for_all_without_staging(model):
    cfg = load_config(overrides=["train.staged_lr", "False", "train.new_layers", "['absent']", "train.optim", "sgd"])
    optimizer = build_optimizer(model, cfg)
    assert isinstance(optimizer, torch.optim.SGD) and {group["lr"] for group in optimizer.param_groups} == {0.01}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_a_new_layer_that_the_model_lacks_is_named_with_those_it_has(model):
    cfg = load_config(overrides=["train.new_layers", "['bnneck', 'head']"])
    with pytest.raises(InputError, match='train.new_layers names "head", the model has backbone, bnneck, classifier'):
        build_optimizer(model, cfg)
