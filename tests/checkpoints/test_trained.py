"""Trained models from a module at hand."""

import pytest
import torch
import torchreid
from torch import nn

from torchreid_nas.checkpoints.trained import wrap_model
from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d, modality_context, split_batchnorm
from torchreid_nas.models import cdnet, two_stream_resnet18


def test_a_module_at_hand_stays_as_it_is():
    model = torchreid.models.build_model("osnet_x0_25", 4, pretrained=False).train()
    trained = wrap_model(model, 64, 32)
    network = trained.network()
    assert model.training and not network.training and trained.feature_dim == 512 and trained.name == "OSNet"
    x = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(network(x), model.eval()(x))


def test_a_split_backbone_of_torchreid_has_a_network_per_modality():
    torch.manual_seed(0)
    model = torchreid.models.build_model("osnet_x0_25", 4, pretrained=False)
    split_batchnorm(model, "first-3")
    for module in model.modules():
        if isinstance(module, SplitBatchNorm2d):
            module.infrared.running_mean += 1
    trained = wrap_model(model, 64, 32)
    x = torch.rand(2, 3, 64, 32)
    for modality in ("visible", "infrared"):
        with modality_context(modality):
            expected = model.eval()(x)
        torch.testing.assert_close(trained.network(modality)(x), expected)
    with pytest.raises(InputError, match="visible or infrared"):
        trained.network()


def test_a_network_that_splits_nothing_needs_no_modality_and_takes_one():
    trained = wrap_model(two_stream_resnet18(4, "share", pretrained=False, width=0.125), 48, 24)
    x = torch.rand(2, 3, 48, 24)
    torch.testing.assert_close(trained.network()(x), trained.network("infrared")(x), rtol=0, atol=0)


def test_a_network_that_gives_no_features_is_refused():
    with pytest.raises(InputError, match=r"Conv2d.*64x32.*\(1, 4, 62, 30\).*features"):
        wrap_model(nn.Conv2d(3, 4, 3), 64, 32)


def test_cdnet_at_hand():
    trained = wrap_model(cdnet(4, width=0.125), 64, 32, name="mine")
    assert trained.modalities == () and trained.name == "mine"
    assert not any(isinstance(module, nn.Linear) and module.out_features == 4 for module in trained.network().modules())
