"""Optimisers and schedules against the authors' numbers and torchreid's rules."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.optim import build_lr_scheduler, build_optimizer, fuse, warmup_multi_step

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
    scheduler = warmup_multi_step(sgd(), [1], 0.1, warmup_epochs=2, warmup_factor=0.5)
    assert rates(scheduler, 3) == pytest.approx([0.5, 0.075, 0.1])


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


@pytest.mark.parametrize(("overrides", "expected"), [
    (["train.lr_scheduler", "multi_step"], [1, 0.5, 0.5, 0.25]),
    (["train.lr_scheduler", "single_step", "train.stepsize", "[2]"], [1, 1, 0.5, 0.5]),
    (["train.warmup_epochs", "2", "train.warmup_factor", "0.2"], [0.2, 0.3, 0.5, 0.25]),
])
def test_gamma_and_the_warmup_are_heeded(overrides, expected):
    """Other values than the recipe's, which are torchreid's defaults too."""
    cfg = load_config(overrides=["train.stepsize", "[1, 3]", "train.gamma", "0.5", *overrides])
    assert rates(build_lr_scheduler(sgd(), cfg), 4) == pytest.approx(expected)


# -- optimisers ---------------------------------------------------------------


@pytest.mark.parametrize(("overrides", "expected"), [
    (["train.optim", "sgd", "sgd.momentum", "0.7", "sgd.nesterov", "True"], {"momentum": 0.7, "nesterov": True}),
    (["train.optim", "adam", "adam.beta1", "0.6", "adam.beta2", "0.8"], {"betas": (0.6, 0.8)}),
])
def test_an_optimisers_keys_are_heeded(model, overrides, expected):
    common = ["train.lr", "0.3", "train.weight_decay", "0.2", "train.staged_lr", "False"]
    group, = build_optimizer(model, load_config(overrides=[*common, *overrides])).param_groups
    expected = {"lr": 0.3, "weight_decay": 0.2, **expected}
    assert {key: group[key] for key in expected} == expected


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
    # torchreid's own default is the paper's multiplier, 0.1: another one shows that the key is heeded.
    other = build_optimizer(model, load_config(overrides=["train.base_lr_mult", "0.3"]))
    assert {group["lr"] for group in other.param_groups} == {0.003, 0.01}
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


# -- fused optimisers ---------------------------------------------------------


def convolution() -> nn.Module:
    torch.manual_seed(0)
    # A bias before a BatchNorm has no gradient but rounding, which Adam would blow up.
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    return model.to(memory_format=torch.channels_last)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for seed in range(count):
        optimizer.zero_grad()
        images = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(seed))
        model(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("optim", ["adam", "amsgrad", "sgd"])
def test_a_fused_optimiser_takes_the_same_steps(optim):
    weights = []
    for fused in (False, True):
        cfg = load_config(overrides=["train.optim", optim, "train.staged_lr", "False", "train.fused", str(fused)])
        model = convolution()
        optimizer = build_optimizer(model, cfg)
        assert bool(optimizer.param_groups[0]["fused"]) is fused
        steps(model, optimizer, 5)
        weights.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)


def test_fused_groups_keep_their_rates(model):
    groups = [build_optimizer(model, load_config(overrides=["train.fused", text])).param_groups for text in ("True", "False")]
    for fused, plain in zip(*groups):
        differing = {key for key in plain if fused[key] is not plain[key] and fused[key] != plain[key]}
        assert differing == {"fused"}


@pytest.mark.parametrize("optim", ["adam", "sgd"])
def test_a_fused_optimiser_goes_on_from_its_state(optim, tmp_path):
    cfg = load_config(overrides=["train.optim", optim, "train.staged_lr", "False", "train.fused", "True"])
    whole, first, second = (convolution() for _ in range(3))
    steps(whole, build_optimizer(whole, cfg), 3)
    optimizer = build_optimizer(first, cfg)
    steps(first, optimizer, 3)
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    second.load_state_dict(state["model"])
    resumed = build_optimizer(second, cfg)
    resumed.load_state_dict(state["optimizer"])
    for model, own in ((first, optimizer), (second, resumed)):
        steps(model, own, 2)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@pytest.mark.parametrize("optim", ["rmsprop", "radam"])
def test_optimisers_without_a_fused_kernel_stay_as_they_are(optim, model):
    cfg = load_config(overrides=["train.optim", optim, "train.fused", "True"])
    assert not any(group.get("fused") for group in build_optimizer(model, cfg).param_groups)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_may_get_their_first_gradient_at_different_steps(momentum):
    weights = []
    for prepare in (lambda optimizer: optimizer, fuse):
        parameters = [nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(3)]
        optimizer = prepare(torch.optim.SGD(parameters, lr=0.1, momentum=momentum, weight_decay=0.1))
        for used in ((0,), (0, 1), (1, 2), (0, 2)):
            optimizer.zero_grad()
            sum(parameters[index].pow(3).sum() for index in used).backward()
            optimizer.step()
        weights.append(torch.stack(parameters))
    torch.testing.assert_close(*weights)
