"""model.pretrained imagenet with torchreid's networks: weights, or one sentence."""
from __future__ import annotations

import pytest
import torch
import torchreid
from torch import nn

from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.methods import make_method

MODELS = vars(torchreid.models)["__model_factory"]


def build(name):
    cfg = load_config(None, ["model.name", name, "model.architecture", "none"])
    return make_method(cfg, torch.device("cpu")).build_model(3, "none")


@pytest.mark.filterwarnings("ignore:The imagenet pretrained weights need to be manually downloaded")
@pytest.mark.parametrize("name", ["shufflenet", "hacnn", "mudeep"])
def test_a_network_that_torchreid_leaves_random_is_refused(name):
    with pytest.raises(InputError, match=f"no ImageNet weights for model.name {name} that it can fetch; set model.pretrained"):
        build(name)


@pytest.fixture
def factory():
    """``factory(function)`` is a model of torchreid's registry, forgotten after the test."""

    def register(function):
        MODELS["a_network"] = lambda num_classes, loss, pretrained, use_gpu: function(pretrained)

    yield register
    del MODELS["a_network"]


def network(pretrained):
    model = nn.Linear(3, 3)
    if pretrained:
        nn.init.ones_(model.weight)
    return model


def test_fetched_weights_are_taken_and_move_no_random_state(factory):
    factory(network)
    torch.manual_seed(0)
    network(True)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert build("a_network").weight.eq(1).all()
    assert torch.equal(torch.rand(1), expected)


def test_a_factory_that_always_loads_its_weights_is_not_random(factory):
    def loaded(pretrained):
        model = network(True)
        nn.init.zeros_(model.bias)
        return model

    factory(loaded)
    assert build("a_network").weight.eq(1).all()


def test_a_download_that_fails_is_one_sentence(factory):
    def fails(pretrained):
        raise OSError("no route to host")

    factory(fails)
    with pytest.raises(InputError, match=r"model.name a_network cannot be had \(no route to host\); set model.pretrained"):
        build("a_network")
