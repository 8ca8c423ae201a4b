"""The search by paths: what it trains, how it scores, and that a killed search goes on."""
import copy

import pytest
import torch

from torchreid_nas.engine import CrossModalityPathSearchEngine, CrossModalitySearchEngine
from torchreid_nas.errors import InputError
from torchreid_nas.run.build import search_engine
from torchreid_nas.run.setup import RunSetup


def searching(tiny_config, **changes):
    return search_engine(RunSetup.of(tiny_config(**{"search.method": "paths", "search.paths": 8, **changes})))


def test_paths_are_the_default_of_the_space_and_gradients_can_be_chosen(tiny_config):
    engines = [type(search_engine(RunSetup.of(tiny_config(**{"search.method": name})))[0]) for name in ("auto", "gradient")]
    assert engines == [CrossModalityPathSearchEngine, CrossModalitySearchEngine]


def test_each_step_goes_through_another_architecture(tiny_config, tmp_path, monkeypatch):
    engine, space = searching(tiny_config)
    seen, choose = [], space.choose
    monkeypatch.setattr(space, "choose", lambda model, split: seen.append(split) or choose(model, split))
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    steps = len(engine.train_loader)
    assert len({tuple(split) for split in seen[:steps]}) == steps and seen[-1] is None


def test_the_last_epoch_scores_and_the_architecture_follows_the_effects(tiny_config, tmp_path):
    engine, space = searching(tiny_config)
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    split = [choice == "split" for _, choice in space.derive(engine.model).choices]
    assert engine.effects.error.min() > 0 and split == (engine.effects.mean < engine.effects.error).tolist()
    bold, space = searching(tiny_config, **{"search.margin": 0.0})
    bold.run(save_dir=tmp_path / "bold", max_epoch=2)
    torch.testing.assert_close(bold.effects.mean, engine.effects.mean)
    assert [choice == "split" for _, choice in space.derive(bold.model).choices] == (engine.effects.mean < 0).tolist()


def test_a_path_has_the_loss_of_the_network_that_is_derived_from_it(tiny_config):
    engine, space = searching(tiny_config)
    path = torch.rand(engine.slots, generator=torch.Generator().manual_seed(3)) < 0.5
    calibration, validation = [batch["img"] for batch in engine.train_loader], list(engine.val_loader)
    expected = engine.identity_losses(path, calibration, validation)
    space.prefer(engine.model, path.double() - 0.5)
    engine.model = space.derive_network(engine.model)
    engine.space = copy.copy(space)
    engine.space.choose = lambda model, split: None
    torch.testing.assert_close(engine.identity_losses(path, calibration, validation), expected)


def test_state_goes_on_exactly(tiny_config, tmp_path):
    engine, _ = searching(tiny_config)
    engine.run(save_dir=tmp_path / "whole", max_epoch=2)
    first, _ = searching(tiny_config)
    first.max_epoch, first.save_dir = 2, tmp_path / "parts"
    first.epoch = 0
    first.train()
    second, _ = searching(tiny_config)
    second.run(save_dir=tmp_path / "parts", max_epoch=2, start_epoch=second.resume(tmp_path / "parts"))
    for key, value in second.model.state_dict().items():
        torch.testing.assert_close(value, engine.model.state_dict()[key], rtol=0, atol=0)


def test_paths_are_refused_where_the_space_has_none(tiny_config, monkeypatch):
    from torchreid_nas.search import BNSplitSpace

    monkeypatch.setattr(BNSplitSpace, "has_paths", False)
    with pytest.raises(InputError, match="search.method is paths, which the space norm_split has none of"):
        searching(tiny_config)
