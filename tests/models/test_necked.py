"""Networks of torchreid behind the necks of CDNet's paper: whose maps the necks read, and what stays of the networks."""
from __future__ import annotations

import pytest
import torch
import torchreid
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.models import NeckedNetwork, attach_neck, cdnet_x0_25
from torchreid_nas.neck_names import NECKS

BACKBONES = {"osnet_x0_25": (96, 128), "mobilenetv2_x1_0": (160, 1280), "resnet18": (256, 512)}


def torchreids(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return torchreid.models.build_model(name, 5, pretrained=False, **options)


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_the_maps_are_those_of_the_network_before_and_behind_its_last_stage(name):
    network = torchreids(name).eval()
    backbone = attach_neck(network, "fblneck", 5).eval().backbone
    images = torch.randn(2, 3, 64, 32)
    before, last = backbone.stage_maps(images)
    assert torch.equal(last, network.featuremaps(images))
    assert backbone.stage_dims == BACKBONES[name] == (before.shape[1], last.shape[1])


@pytest.mark.parametrize("name", [*BACKBONES, "cdnet_x0_25"])
@pytest.mark.parametrize("neck", NECKS)
def test_every_neck_trains_and_is_deployed_on_every_backbone(name, neck):
    network = attach_neck(torchreids(name), neck, 5, loss="triplet")
    images = torch.randn(4, 3, 64, 32)
    logits, features = network(images)
    assert all(branch.shape == (4, 5) for branch in logits) and len(logits) == len(features) == 1 + (neck == "fblneck")
    sum(branch.square().sum() for branch in (*logits, *features)).backward()
    unused = [key for key, value in network.named_parameters() if value.grad is None]
    assert not unused
    network.eval()
    with torch.no_grad():
        tested = network(images)
        assert tested.shape == (4, network.feature_dim)
        torch.testing.assert_close(network.deploy()(images), tested, rtol=1e-3, atol=1e-3)
        assert [branch.shape for branch in network.logits(images)] == [branch.shape for branch in logits]


def test_the_head_of_the_network_is_left_out():
    network = attach_neck(torchreids("osnet_x0_25"), "plain", 7)
    keys = set(network.state_dict())
    assert {key.partition(".")[0] for key in keys} == {"backbone", "neck"}
    assert not any("backbone.fc" in key or "backbone.classifier" in key for key in keys)


def test_a_neck_takes_the_weights_of_its_backbone_over():
    network = torchreids("resnet18")
    weights = {key: value.clone() for key, value in network.layer4.state_dict().items()}
    taken = attach_neck(network, "blneck", 5).backbone.layer4.state_dict()
    assert all(torch.equal(taken[key], value) for key, value in weights.items())


def test_loss_softmax_returns_the_logits_of_every_branch_alone():
    logits = attach_neck(torchreids("osnet_x0_25"), "fblneck", 5)(torch.randn(2, 3, 64, 32))
    assert [branch.shape for branch in logits] == [(2, 5), (2, 5)]


def test_the_neck_of_a_cdnet_can_be_changed():
    network = attach_neck(cdnet_x0_25(5), "plain", 3)
    assert type(network) is NeckedNetwork and network.feature_dim == 128


@pytest.mark.parametrize(("fault", "message"), [
    (lambda: attach_neck(torchreids("hacnn"), "plain", 5), "which HACNN does not give as a chain of layers; set model.neck own"),
    (lambda: attach_neck(torchreids("squeezenet1_0"), "blneck", 5), "which SqueezeNet does not give"),
    (lambda: attach_neck(torchreids("osnet_x0_25"), "blnek", 5), 'neck "blnek" is unknown.*did you mean "blneck"'),
    (lambda: attach_neck(torchreids("osnet_x0_25"), "blneck", 5, loss="ce"), 'loss "ce" is unknown'),
])
def test_what_cannot_be_attached_is_one_sentence(fault, message):
    with pytest.raises(InputError, match=message):
        fault()
