"""Gradient accumulation: one step by the mean gradient of several batches, in training, search and domain adaptation."""
import copy

import pytest
import torch
from tiny import TINY_ECN
from torch import nn

from torchreid_nas.engine import ResumableEngine, TrainingOptions
from torchreid_nas.run.build import search_engine, train_engine
from torchreid_nas.run.setup import RunSetup


class Batches(list):
    """A loader of given batches."""

    sampler = None


class Data:
    """The least that an engine asks of a data manager."""

    test_loader: dict = {}

    def __init__(self, batches):
        self.train_loader = Batches(batches)


class Regression(ResumableEngine):
    """Mean squares of a network without BatchNorm, whose batches therefore do not see each other."""

    def losses(self, data, metric_only=False):
        x, y = data
        return {"squares": (self.model(x) - y).square().mean()}


def batches(count, size=4):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 3, generator=generator), torch.randn(size, 2, generator=generator)) for _ in range(count)]


def joined(parts):
    return [tuple(torch.cat(side) for side in zip(*parts))]


def engine_of(loader, accumulate, ema=0.0, amp="none"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    return Regression(Data(loader), model, optimizer, scheduler, TrainingOptions(ema=ema, accumulate=accumulate, amp=amp))


def assert_same(first, second, exactly=False):
    for key, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[key], value, **({"rtol": 0, "atol": 0} if exactly else {}))


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_two_batches_are_one_step_of_their_union(tmp_path, ema):
    parts = batches(4)
    halves = engine_of(parts, 2, ema)
    whole = engine_of(joined(parts[:2]) + joined(parts[2:]), 1, ema)
    for name, engine in (("halves", halves), ("whole", whole)):
        engine.run(save_dir=tmp_path / name, max_epoch=3)
    assert_same(whole.model, halves.model)
    if ema:
        assert_same(whole.ema.module, halves.ema.module)
    assert halves.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)


def test_the_last_step_of_an_epoch_takes_what_is_left(tmp_path):
    parts = batches(5)
    halves = engine_of(parts, 2)
    whole = engine_of(joined(parts[:2]) + joined(parts[2:4]) + parts[4:], 1)
    for name, engine in (("halves", halves), ("whole", whole)):
        engine.run(save_dir=tmp_path / name, max_epoch=2)
    assert_same(whole.model, halves.model)


def test_more_batches_than_an_epoch_has_are_one_step(tmp_path):
    parts = batches(3)
    many, whole = engine_of(parts, 7), engine_of(joined(parts), 1)
    for name, engine in (("many", many), ("whole", whole)):
        engine.run(save_dir=tmp_path / name, max_epoch=2)
    assert_same(whole.model, many.model)


def test_the_optimiser_waits_for_its_turn():
    engine = engine_of(batches(4), 2)
    before = copy.deepcopy(engine.model)
    engine.forward_backward(engine.train_loader[0])
    assert_same(before, engine.model, exactly=True)
    engine.forward_backward(engine.train_loader[1])
    assert not torch.equal(engine.model[0].weight, before[0].weight)


def test_a_resumed_run_goes_on_exactly(tmp_path):
    whole, first, second = (engine_of(batches(5), 2, 0.5) for _ in range(3))
    whole.run(save_dir=tmp_path / "whole", max_epoch=3)
    first.save_dir, first.max_epoch = tmp_path / "parts", 3
    first.train()
    second.run(save_dir=tmp_path / "parts", max_epoch=3, start_epoch=second.resume(tmp_path / "parts"))
    assert_same(whole.model, second.model, exactly=True)
    assert_same(whole.ema.module, second.ema.module, exactly=True)


def test_every_epoch_draws_other_random_numbers_and_the_same_ones_again(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Regression, "losses", lambda self, data: drawn.append(torch.rand(()).item()) or {
        "squares": (self.model(data[0]) - data[1]).square().mean()})
    for _ in range(2):
        engine_of(batches(2), 1).run(save_dir=tmp_path / "run", max_epoch=3)
    assert len(set(drawn[:6])) == 6 and drawn[:6] == drawn[6:]


def test_a_resumed_run_scales_the_loss_as_before(tmp_path):
    whole, first, second = (engine_of(batches(5), 2, amp="fp16") for _ in range(3))
    for engine in (whole, first):
        engine.precision.scaler.set_growth_interval(2)
    whole.run(save_dir=tmp_path / "whole", max_epoch=3)
    first.run(save_dir=tmp_path / "parts", max_epoch=1)
    second.run(save_dir=tmp_path / "parts", max_epoch=3, start_epoch=second.resume(tmp_path / "parts"))
    # 9 steps of which every second doubled the scale, and one that waits for its second.
    assert second.precision.scaler.state_dict() == whole.precision.scaler.state_dict()
    assert whole.precision.scaler.get_scale() == 2.0**20


@pytest.mark.parametrize("order", [1, 2])
def test_a_search_takes_either_step_over_as_many_batches(tiny_config, tmp_path, monkeypatch, order):
    changes = {
        "search.method": "gradient", "train.accumulate": 2, "train.num_batches": 9, "search.interval": 2,
        "search.warmup_epochs": 0, "search.order": order,
    }
    engine, space = search_engine(RunSetup.of(tiny_config(**changes)))
    counted = {"weights": 0, "architecture": []}
    apply, step = engine.bilevel.apply_gradient, engine.bilevel.step_architecture

    def count_weights():
        counted["weights"] += 1
        apply()

    def count_architecture(validation, training):
        counted["architecture"].append((len(validation), len(training)))
        return step(validation, training)

    monkeypatch.setattr(engine.bilevel, "apply_gradient", count_weights)
    monkeypatch.setattr(engine.bilevel, "step_architecture", count_architecture)
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    assert counted == {"weights": 5, "architecture": [(2, 2), (2, 2)]}
    assert all(torch.isfinite(alpha).all() and alpha.any() for alpha in space.architecture_parameters(engine.model))


def test_the_memory_moves_with_every_batch_and_the_weights_with_every_second(tiny_config):
    engine = train_engine(RunSetup.of(tiny_config(**{**TINY_ECN, "train.accumulate": 2})))
    engine.epoch = 0
    engine.begin_epoch()
    engine.model.train()
    before = copy.deepcopy(list(engine.model.parameters()))
    first, second = (data for _, data in zip(range(2), engine.train_loader))
    engine.forward_backward(first)
    slots = [engine._entries[path] for path in first["target"]["impath"]]
    assert (engine.memory.features[slots].norm(dim=1) > 0).all()
    assert all(map(torch.equal, before, engine.model.parameters()))
    engine.forward_backward(second)
    assert not all(map(torch.equal, before, engine.model.parameters()))
