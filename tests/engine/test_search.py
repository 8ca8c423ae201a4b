"""BilevelSearch: what an epoch changes, in which order, and when it stops."""
import copy
import json

import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.run.build import search_engine
from torchreid_nas.run.setup import RunSetup


def searching(tiny_config, **changes):
    engine, space = search_engine(RunSetup.of(tiny_config(**{"search.method": "gradient", **changes})))
    return engine, space, space.architecture_parameters(engine.model)


def read_history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_warm_up_leaves_the_architecture_alone_then_it_moves(tiny_config, tmp_path):
    engine, space, alphas = searching(tiny_config)
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    assert all((alpha == 0).all() for alpha in alphas)
    engine.run(save_dir=tmp_path / "run", max_epoch=2, start_epoch=1)
    assert any((alpha != 0).any() for alpha in alphas)


def test_interval_counts_architecture_steps(tiny_config, monkeypatch, tmp_path):
    engine, _, _ = searching(tiny_config, **{"search.interval": 2, "train.num_batches": 5})
    steps = []
    step = engine.bilevel.step_architecture
    monkeypatch.setattr(engine.bilevel, "step_architecture", lambda *a: steps.append(1) or step(*a))
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    assert len(steps) == 2


def test_an_interval_longer_than_an_epoch_is_refused_rather_than_never_stepping(tiny_config):
    for changes in ({"search.interval": 4}, {"search.interval": 2, "train.accumulate": 2}):
        with pytest.raises(InputError, match="3 batches and an architecture step comes after every 4"):
            searching(tiny_config, **changes)
    searching(tiny_config, **{"search.interval": 3})


@pytest.mark.parametrize("changes", [
    {"search.order": 2}, {"search.sampling": "gumbel"}, {"search.split": "image"}, {"search.split_cost": 0.5},
    {"train.amp": "bf16"}, {"train.channels_last": True},
])
def test_every_option_searches(tiny_config, tmp_path, changes):
    engine, space, alphas = searching(tiny_config, **changes)
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    assert all(torch.isfinite(alpha).all() for alpha in alphas)
    assert len(space.derive(engine.model)) == 20


def test_the_validation_part_has_other_identities_and_no_cross_entropy(tiny_config):
    engine, _, _ = searching(tiny_config)
    classes = engine.model.classifier.out_features
    assert next(iter(engine.val_loader))["pid"].min() >= classes
    assert engine.search.metric_only
    by_image, _, _ = searching(tiny_config, **{"search.split": "image"})
    assert next(iter(by_image.val_loader))["pid"].max() < by_image.model.classifier.out_features
    assert not by_image.search.metric_only


def test_a_cost_on_split_slots_prefers_sharing(tiny_config, tmp_path):
    shares = []
    for cost in (0.0, 100.0):
        folder = tmp_path / str(cost)
        engine, space, _ = searching(tiny_config, **{"search.split_cost": cost, "data.save_dir": folder})
        engine.run(save_dir=folder, max_epoch=3)
        shares.append(sum(p["share"] for p in space.probabilities(engine.model).values()))
    assert shares[1] > shares[0]


def test_stops_when_the_architecture_has_not_changed(tiny_config, tmp_path, monkeypatch):
    engine, _, _ = searching(tiny_config, **{"search.patience": 2, "search.arch_lr": 1e-12})
    monkeypatch.setattr(engine.bilevel, "step_architecture", lambda *a: torch.zeros(()))
    engine.run(save_dir=tmp_path / "run", max_epoch=9)
    assert len(read_history(tmp_path / "run")) == 3


def test_a_resumed_search_remembers_how_long_the_architecture_has_stood(tiny_config, tmp_path, monkeypatch):
    for epochs in (2, 9):
        engine, _, _ = searching(tiny_config, **{"search.patience": 2})
        monkeypatch.setattr(engine.bilevel, "step_architecture", lambda *a: torch.zeros(()))
        start = engine.resume(tmp_path / "run") if epochs == 9 else 0
        engine.run(save_dir=tmp_path / "run", max_epoch=epochs, start_epoch=start)
    assert len(read_history(tmp_path / "run")) == 3


def test_gumbel_noise_is_drawn_anew_at_every_step_and_off_after_the_epoch(tiny_config, tmp_path, monkeypatch):
    engine, _, _ = searching(tiny_config, **{"search.sampling": "gumbel"})
    layers = [module for module in engine.model.modules() if hasattr(module, "noise")]
    drawn = []
    learn = engine.learn
    monkeypatch.setattr(engine, "learn", lambda loss: drawn.append(torch.stack([m.noise for m in layers])) or learn(loss))
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    assert len(drawn) == 6 and len({tuple(noise.flatten().tolist()) for noise in drawn}) == 6
    assert len(layers) == 20 and all(layer.noise is None for layer in layers)


def test_the_temperature_falls_from_the_end_of_warm_up(tiny_config, tmp_path):
    engine, _, _ = searching(tiny_config, **{
        "search.temperature": 4.0, "search.temperature_decay": 0.5, "search.warmup_epochs": 2, "search.max_epoch": 4,
    })
    engine.run(save_dir=tmp_path / "run", max_epoch=4)
    assert [row["temperature"] for row in read_history(tmp_path / "run")] == [4.0, 4.0, 4.0, 2.0]


@pytest.mark.parametrize(("split", "expected"), [("identity", {"triplet", "c3mmd"}), ("image", {"ce", "triplet", "c3mmd"})])
def test_the_architectures_loss_has_cross_entropy_where_the_classifier_knows_the_identities(
    tiny_config, tmp_path, monkeypatch, split, expected,
):
    engine, _, _ = searching(tiny_config, **{"search.split": split})
    terms, losses = [], engine.losses
    monkeypatch.setattr(engine, "losses", lambda *a, **k: terms.append(losses(*a, **k)) or terms[-1])
    step = engine.bilevel.step_architecture

    def step_alone(*closures):
        terms.clear()
        return step(*closures)

    monkeypatch.setattr(engine.bilevel, "step_architecture", step_alone)
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    # What the last architecture step looked at, then a weight step.
    assert [set(found) for found in terms] == [expected, {"ce", "triplet", "c3mmd"}]


def test_every_pass_and_epoch_walks_the_validation_part_in_an_order_of_its_own(tiny_config, tmp_path, monkeypatch):
    engine, _, _ = searching(tiny_config, **{"search.warmup_epochs": 0})
    passes = 2 * len(engine.val_loader)
    walks = []
    for engine.epoch in range(2):
        engine.begin_epoch()
        walks.append([engine._next_validation_batch()["index"].tolist() for _ in range(passes)])
    halves = [walk[i * passes // 2:(i + 1) * passes // 2] for walk in walks for i in range(2)]
    assert all(one != other for i, one in enumerate(halves) for other in halves[:i])


def test_half_precision_is_refused(tiny_config):
    with pytest.raises(InputError, match="fp16"):
        searching(tiny_config, **{"train.amp": "fp16"})


def test_state_goes_on_exactly(tiny_config, tmp_path):
    engine, _, alphas = searching(tiny_config)
    engine.run(save_dir=tmp_path / "whole", max_epoch=3)
    expected = copy.deepcopy(engine.model.state_dict())

    first, _, _ = searching(tiny_config)
    first.max_epoch = 3
    first.save_dir = tmp_path / "parts"
    for first.epoch in range(2):
        first.train()
    second, _, _ = searching(tiny_config)
    second.run(save_dir=tmp_path / "parts", max_epoch=3, start_epoch=second.resume(tmp_path / "parts"))
    for key, value in second.model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
    histories = [(tmp_path / name / "history.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    assert len(histories[0]) == len(histories[1]) == 3


def test_the_architectures_learning_rate_falls_at_its_epochs(tiny_config, tmp_path):
    engine, _, _ = searching(tiny_config, **{"search.arch_stepsize": [1, 2], "search.arch_gamma": 0.5})
    rates = []
    (group,) = engine.bilevel.architecture_optimizer.param_groups
    record = engine.record
    engine.record = lambda values: rates.append(group["lr"]) or record(values)
    engine.run(save_dir=tmp_path / "run", max_epoch=3)
    assert rates == [0.1] * 3 + [0.05] * 3 + [0.025] * 3


def test_the_weights_learning_rate_falls_by_a_cosine_to_its_end(tiny_config, tmp_path):
    engine, _, _ = searching(tiny_config, **{"search.lr": 0.05, "search.lr_min": 0.01})
    engine.run(save_dir=tmp_path / "run", max_epoch=3)
    assert [row["lr"] for row in read_history(tmp_path / "run")] == pytest.approx([0.05, 0.04, 0.02])
    assert engine.get_current_lr() == pytest.approx(0.01)
