"""CDNet and CNet: the authors' numbers, the published counts, torchreid's conventions."""
from __future__ import annotations

import types

import numpy as np
import pytest
import torch
import torchreid
from recipe import recipe_state
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas.architecture import Architecture
from torchreid_nas.checkpoints.load import load_authors_checkpoint
from torchreid_nas.errors import InputError
from torchreid_nas.layers import bn_slots, split_batchnorm
from torchreid_nas.models import (
    CDNet,
    CDNetBackbone,
    TwoStreamNetwork,
    cdnet,
    cdnet_x0_5,
    cdnet_x0_25,
    cdnet_x0_75,
    cnet,
)


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def assert_close(actual: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    """Equal to ``tolerance`` of the array's scale: activations of the recipe's weights grow large."""
    expected = torch.from_numpy(expected)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def tiny(**options) -> CDNet:
    return cdnet(5, width=0.125, **options)


@pytest.fixture(scope="module")
def numbers(golden) -> dict[str, np.ndarray]:
    return golden("cdnet_fblneck")


@pytest.fixture
def authors(numbers) -> CDNet:
    """The published CDNet with FBLNeck and the recipe's weights, through the converter."""
    model = cdnet(int(numbers["num_classes"]), loss="triplet", dropout=0.0)
    return load_authors_checkpoint(model, recipe_state("cdnet_fblneck"))


# -- golden -------------------------------------------------------------------


@torch.no_grad()
def test_eval_features_and_the_second_stages_map_equal_the_authors(authors, numbers):
    authors.eval()
    images = torch.from_numpy(numbers["x"])
    assert_close(authors(images), numbers["eval_feature"], 1e-4)
    assert_close(authors.backbone.stage_maps(images)[0].mean((2, 3)), numbers["stage2_mean"], 1e-4)


@torch.no_grad()
def test_train_scores_and_features_of_both_branches_equal_the_authors(authors, numbers):
    scores, features = authors.train()(torch.from_numpy(numbers["x"]))
    for index, branch in enumerate(("global", "local")):
        assert_close(features[index], numbers[f"train_{branch}_feat"], 3e-4)
    assert_close(scores[1], numbers["train_local_scores"], 3e-4)
    # A BatchNorm1d over two images divides by half their difference, which blows the features' rounding up:
    # in float64 the scores move by 2e-3. From the authors' own features they agree closely.
    assert_close(scores[0], numbers["train_global_scores"], 1e-2)
    given = tuple(torch.from_numpy(numbers[f"train_{branch}_feat"]) for branch in ("global", "local"))
    for score, branch in zip(authors.neck.classify(given), ("global", "local")):
        assert_close(score, numbers[f"train_{branch}_scores"], 1e-4)


# -- counts -------------------------------------------------------------------


def test_parameters_are_the_published_ones():
    model = cdnet(751)
    assert count(model.backbone) == 1_747_448
    assert count(model.backbone, model.neck.squeeze) == 1_796_600
    small = cnet(751)
    assert count(small.backbone, small.neck.squeeze) == 1_436_240


@torch.no_grad()
def test_multiply_adds_at_256x128_are_the_published_ones():
    with FlopCounterMode(display=False) as counter:
        cdnet(751).eval()(torch.zeros(1, 3, 256, 128))
    assert counter.get_total_flops() / 2 == pytest.approx(955.1e6, abs=0.05e6)


@pytest.mark.parametrize(("factory", "width"), [(cdnet_x0_75, 0.75), (cdnet_x0_5, 0.5), (cdnet_x0_25, 0.25)])
def test_narrower_ones_scale_every_channel(factory, width):
    model = factory(4)
    assert model.backbone.stage_dims == (256 * width, 384 * width, 512 * width)
    assert model.backbone.stem.conv.out_channels == 64 * width
    assert model.feature_dim == 512 * width + 256
    assert 0.9 * width**2 < count(model.backbone) / 1_747_448 < 1.3 * width**2
    assert factory(4, neck="blneck").feature_dim == 512 * width


# -- structure ----------------------------------------------------------------


@torch.no_grad()
def test_the_maps_have_the_papers_shapes():
    backbone = CDNetBackbone.from_architecture("cdnet", width=0.125).eval()
    images = torch.zeros(1, 3, 256, 128)
    assert backbone.stem(images).shape == (1, 8, 64, 32)
    assert backbone.stage1(backbone.stem(images)).shape == (1, 32, 32, 16)
    second, third = backbone.stage_maps(images)
    assert second.shape == (1, 48, 16, 8) and third.shape == (1, 64, 16, 8)
    assert torch.equal(backbone(images), third)


def test_the_architecture_decides_kernels_and_depths():
    names = ["3,9x2", "7,9x1", "3,5x1", "5,9x2", "5,7x1", "3,7x2"]
    backbone = CDNetBackbone.from_architecture(names, width=0.125)
    for (slot, choice), name in zip(Architecture.genotype(names).choices, names):
        block = backbone.get_submodule(slot)
        assert choice == name and len(block) == int(name[-1])
        for part in block:
            assert (2 * len(part.branch1) + 1, 2 * len(part.branch2) + 1) == (int(name[0]), int(name[2]))


def test_weights_start_as_the_authors_do():
    torch.manual_seed(0)
    model = cdnet(100)
    assert model.backbone.stage3[1][0].expand.conv.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert model.neck.global_branch.fc[0].weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert model.neck.local_branch.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    # Kaiming's normal distribution, not his uniform one, which ends at the root of three deviations.
    weight = model.backbone.stage3.get_submodule("1")[0].reduce.conv.weight
    deviation = (2 / weight.shape[1]) ** 0.5
    assert weight.std().item() == pytest.approx(deviation, rel=0.02) and weight.abs().max() > 2 * deviation
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name


def test_the_papers_dropout_unless_told():
    assert [cdnet(3, **options).neck.dropout.p for options in ({}, {"neck": "blneck"}, {"dropout": 0.0})] == [0.2, 0.2, 0.0]


@torch.no_grad()
def test_the_stem_for_small_images_keeps_their_size():
    model = tiny(small_images=True).eval()
    assert model.backbone.stem(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 32, 32)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 64 + 256)


@torch.no_grad()
def test_the_backbone_takes_split_batchnorms_and_the_two_stream_head():
    backbone = CDNetBackbone.from_architecture("cnet", width=0.125)
    slots = bn_slots(backbone)
    assert slots[0] == "stem.bn" and len(slots) == sum(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    model = TwoStreamNetwork(split_batchnorm(backbone, "random-1"), backbone.feature_dim, 4).eval()
    before, after = model.features(torch.randn(2, 3, 32, 16), "infrared")
    assert before.shape == after.shape == (2, 64)


# -- torchreid's conventions --------------------------------------------------


@pytest.mark.parametrize(("neck", "branches", "dim"), [("fblneck", 2, 768), ("blneck", 1, 512)])
@torch.no_grad()
def test_outputs_by_loss_and_mode(neck, branches, dim):
    images = torch.randn(2, 3, 64, 32)
    model = cdnet(5, loss="triplet", neck=neck)
    logits, features = model(images)
    assert len(logits) == len(features) == branches and isinstance(logits, tuple) and isinstance(features, tuple)
    assert all(logit.shape == (2, 5) for logit in logits)
    model.loss = "softmax"
    assert isinstance(model(images), tuple) and [logit.shape for logit in model(images)] == [(2, 5)] * branches
    assert model.eval()(images).shape == (2, dim) and model.feature_dim == dim


@pytest.mark.parametrize("name", ["cdnet", "cdnet_x0_75", "cdnet_x0_5", "cdnet_x0_25", "cnet"])
def test_torchreid_builds_them_by_name(name):
    model = torchreid.models.build_model(name, num_classes=3, loss="triplet", pretrained=False, use_gpu=False)
    assert isinstance(model, CDNet) and model.loss == "triplet" and model.training
    assert model.architecture == Architecture.genotype(name.partition("_")[0])


@pytest.mark.parametrize(("engine", "loss"), [("ImageTripletEngine", "triplet"), ("ImageSoftmaxEngine", "softmax")])
def test_torchreids_stock_engines_train_it(engine, loss):
    torch.manual_seed(0)
    model = tiny(loss=loss, dropout=0.0)
    pids = torch.arange(4).repeat_interleave(2)
    batch = {"img": torch.randn(4, 3, 64, 32).repeat_interleave(2, dim=0) + torch.randn(8, 3, 64, 32), "pid": pids}
    manager = types.SimpleNamespace(train_loader=[batch], test_loader={}, num_train_pids=5)
    stock = getattr(torchreid.engine, engine)(
        manager, model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), use_gpu=False, label_smooth=False,
    )
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    losses = [stock.forward_backward(batch)["loss_x" if loss == "triplet" else "loss"] for _ in range(15)]
    assert losses[0] == pytest.approx(np.log(5), rel=0.02) and losses[-1] < 0.7 * losses[0]
    assert all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


# -- bad input ----------------------------------------------------------------


@pytest.mark.parametrize(("fault", "message"), [
    (lambda: cdnet(5, width=0.3), "76.8 115.2 153.6 channels, expected multiples of 16; choose a multiple of 0.125"),
    (lambda: cdnet(5, width=0), "width 0 .* above 0 and at most 4"),
    (lambda: cdnet(5, neck="fblnek"), 'neck "fblnek" is unknown.*mean "fblneck"'),
    (lambda: cdnet(5, loss="centre"), 'loss "centre" is unknown'),
    (lambda: cdnet(5, architecture="cdnett"), 'neither a file nor a preset .*mean "cdnet"'),
    (lambda: tiny()(torch.zeros(2, 3, 8, 64)), "images of 8x64 are too small for CDNet.*at least 16x16"),
    (lambda: tiny()(torch.zeros(2, 3, 16, 64)), "2 stripes, which the map of 1x4 is too small for"),
])
def test_bad_input_is_one_sentence(fault, message):
    with pytest.raises(InputError, match=message):
        fault()
