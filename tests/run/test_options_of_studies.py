"""Options that the papers' studies vary, from config key to network, training and test."""
import pytest
import torch
from tiny import TINY_CDNET

from torchreid_nas.errors import InputError
from torchreid_nas.layers import FusionGate, SplitConv2d, Standard
from torchreid_nas.run.build import search_engine, train_engine
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.run.stages import Run
from torchreid_nas.search.depth_space import MBlock


def test_raw_weights_are_tested_where_they_are_asked_for(tiny_config):
    common = {"model.architecture": "share", "train.max_epoch": 1}
    Run(tiny_config(**common)).execute(["train", "test"])
    averaged = Run(tiny_config(**common)).folder.read_results()["results"]
    run = Run(tiny_config(**common, **{"test.averaged": False}))
    run.execute(["test"])
    assert run.folder.read_results()["results"] != averaged
    raw = torch.load(run.folder.train.raw_weights, weights_only=True)["state_dict"]
    live = torch.load(run.folder.train.checkpoint, weights_only=True)["model"]
    assert all(torch.equal(raw[key], live[key]) for key in live)
    Run(tiny_config(**common)).execute(["test"])
    assert run.folder.read_results()["results"] == averaged


def test_two_stream_options_reach_the_network_and_the_loss(tiny_config):
    engine = train_engine(RunSetup.of(tiny_config(**{
        "model.architecture": "stages-stem", "model.separate": "convolutions", "model.classifier_dropout": 0.5,
        "loss.triplet.normalize": True,
    })))
    assert isinstance(engine.model.backbone.conv1, SplitConv2d) and engine.model.dropout.p == 0.5
    assert engine.criterion_t.normalize
    engine.model.train()
    features = torch.ones(64, engine.model.feature_dim)
    assert len(engine.model.classify(features).unique(dim=0)) > 1


def test_separate_convolutions_do_not_start_from_a_supernet(tiny_config):
    with pytest.raises(InputError, match="search.keep_weights True starts from a supernet"):
        tiny_config(**{"model.separate": "convolutions", "search.keep_weights": True})


@pytest.mark.parametrize("build", [search_engine, lambda setup: (train_engine(setup, "cdnet"), None)], ids=["search", "train"])
def test_cdnets_blocks_are_what_the_config_says_in_search_and_training(tiny_config, build):
    changes = {"model.fusion_gate": False, "model.convolutions": "standard", "loss.triplet.normalize": True}
    config = tiny_config(**{**TINY_CDNET, **changes})
    engine = build(RunSetup.of(config))[0]
    kinds = [type(module) for module in engine.model.modules()]
    assert Standard in kinds and FusionGate not in kinds and (MBlock in kinds) == (build is search_engine)
    assert engine.criterion_t.normalize
