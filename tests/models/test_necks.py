"""The necks: what they pool, cut and return, on maps of any backbone."""
from __future__ import annotations

import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.layers import bnneck
from torchreid_nas.models import BatchNormNeck, BLNeck, BNNeck, FBLNeck, PlainNeck
from torchreid_nas.models.necks import build_neck


def maps(height: int = 6, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(4, channels, height, width, generator=generator) for channels in (10, 12))


def test_bnneck_is_the_layers_own():
    assert BNNeck is bnneck.BNNeck


@torch.no_grad()
def test_blneck_pools_the_last_map_and_classifies_behind_a_layer():
    neck = BLNeck(12, 5, dropout=0.0)
    (logits,), (feature,) = neck(maps())
    torch.testing.assert_close(feature, maps()[1].mean((2, 3)))
    linear, bn, _ = neck.global_branch.fc
    hidden = feature @ linear.weight.T + linear.bias
    hidden = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, unbiased=False) + bn.eps)
    classifier = neck.global_branch.classifier
    torch.testing.assert_close(logits, hidden.clamp_min(0) @ classifier.weight.T + classifier.bias)
    assert torch.equal(neck.eval()(maps()), feature) and neck.feature_dim == 12
    assert torch.equal(neck(maps()[1]), feature)


@torch.no_grad()
def test_fblneck_cuts_the_map_before_the_last_into_stripes_from_top_to_bottom():
    neck = FBLNeck((10, 12), 5, dropout=0.0, local_channels=7, stripes=3)
    before_last, last = maps()
    (global_logits, local_logits), (global_feature, local_feature) = neck((before_last, last))
    kernel = neck.squeeze.weight[:, :, 0, 0]
    expected = torch.cat([before_last[:, :, rows].mean((2, 3)) @ kernel.T for rows in ([0, 1], [2, 3], [4, 5])], dim=1)
    torch.testing.assert_close(local_feature, expected)
    torch.testing.assert_close(global_feature, last.mean((2, 3)))
    assert global_logits.shape == local_logits.shape == (4, 5)
    neck.eval()
    torch.testing.assert_close(neck((before_last, last)), torch.cat((global_feature, local_feature), dim=1))
    assert neck.feature_dim == 12 + 3 * 7


@torch.no_grad()
def test_a_height_that_the_stripes_do_not_divide_gives_the_upper_one_a_row_more():
    neck = FBLNeck((10, 12), 5, local_channels=4).eval()
    before_last, last = maps(height=5)
    squeezed = neck.squeeze(before_last)
    local = neck((before_last, last))[:, 12:]
    torch.testing.assert_close(local[:, :4], squeezed[:, :, :3].mean((2, 3)))
    torch.testing.assert_close(local[:, 4:], squeezed[:, :, 3:].mean((2, 3)))


def test_each_branch_gets_the_gradient_of_its_own_loss_only():
    neck = FBLNeck((10, 12), 5)
    logits, features = neck(maps())
    (logits[1].sum() + features[1].square().sum()).backward()
    assert neck.squeeze.weight.grad.abs().sum() > 0
    assert neck.local_branch.classifier.bias.grad is not None
    assert all(parameter.grad is None for parameter in neck.global_branch.parameters())


@pytest.mark.parametrize("neck", [BLNeck(12, 5, dropout=0.5), FBLNeck((10, 12), 5, dropout=0.5)])
@torch.no_grad()
def test_dropout_acts_on_the_features_that_the_triplet_sees_and_in_training_only(neck):
    torch.manual_seed(0)
    for feature in neck.train()(maps())[1]:
        assert 0.3 < (feature == 0).float().mean() < 0.7
    assert (neck.eval()(maps()) != 0).all()


@torch.no_grad()
def test_classify_gives_the_logits_in_eval_mode_too():
    neck = FBLNeck((10, 12), 5).eval()
    logits = neck.classify(neck.features(maps()))
    assert [logit.shape for logit in logits] == [(4, 5), (4, 5)]


@pytest.mark.parametrize(("fault", "message"), [
    (lambda: FBLNeck((10, 12), 5, stripes=8)(maps()), "8 stripes, which the map of 6x3 is too small for; give larger"),
    (lambda: FBLNeck((10, 12), 5)(maps()[1]), "needs the last two feature maps .* choose BLNeck"),
    (lambda: FBLNeck((10, 12), 5)([maps()[1]]), "needs the last two feature maps"),
    (lambda: FBLNeck((10, 12), 5, stripes=0), "one stripe or more, got 0"),
    (lambda: BLNeck(12, 5, dropout=1.0), "dropout is 1.0, expected a probability"),
    (lambda: FBLNeck((10, 12), 5, dropout=-0.1), "dropout is -0.1"),
])
def test_what_a_neck_cannot_do_is_one_sentence(fault, message):
    with pytest.raises(InputError, match=message):
        fault()


@torch.no_grad()
def test_the_plain_neck_classifies_the_feature_that_the_triplet_sees():
    neck = PlainNeck(12, 5, dropout=0.0)
    (logits,), (feature,) = neck(maps())
    torch.testing.assert_close(feature, maps()[1].mean((2, 3)))
    torch.testing.assert_close(logits, feature @ neck.classifier.weight.T + neck.classifier.bias)
    assert torch.equal(neck.eval()(maps()), feature)


@torch.no_grad()
def test_the_batchnorm_neck_normalises_for_classifier_and_test_but_not_for_the_triplet():
    neck = BatchNormNeck(12, 5)
    (logits,), (feature,) = neck(maps())
    torch.testing.assert_close(feature, maps()[1].mean((2, 3)))
    normalised = (feature - feature.mean(0)) / torch.sqrt(feature.var(0, unbiased=False) + neck.bnneck.eps)
    torch.testing.assert_close(logits, normalised @ neck.classifier.weight.T)
    neck.eval()
    expected = (feature - neck.bnneck.running_mean) / torch.sqrt(neck.bnneck.running_var + neck.bnneck.eps)
    torch.testing.assert_close(neck(maps()), expected)
    assert neck.classifier.bias is None


def test_a_neck_of_one_map_has_no_stripes():
    with pytest.raises(InputError, match="needs the last two feature maps"):
        build_neck("fblneck", (12,), 5, 0.2)
