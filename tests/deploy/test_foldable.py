"""What may be folded and dropped: exactly the pairs and layers whose folding changes no output."""
from __future__ import annotations

import pytest
import torch
from randomised import count, images, randomised
from torch import nn

from torchreid_nas.deploy.fold import drop_unused, fold_batchnorm, select_modality
from torchreid_nas.layers import SplitBatchNorm2d, modality_context


class Parts(nn.Module):
    """A convolution and a BatchNorm, joined as a function says."""

    def __init__(self, join, **options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, **{"padding": 1, **options})
        self.bn = nn.BatchNorm2d(3)
        self.join = join

    def forward(self, x: torch.Tensor):
        return self.join(self.conv, self.bn, x)


def shape_reader(conv, bn, x):
    y = conv(x)
    assert y.shape[0] == x.shape[0] == len(y) and y.dtype == x.dtype and y.dim() == 4 and y.size(1) == 3
    return bn(y)


def reader(use):
    """A join whose convolution's output, or layers, ``use`` also gets."""
    def join(conv, bn, x):
        y = conv(x)
        return use(conv, bn, y, bn(y))
    return join


EXACT = {
    "plain": (lambda conv, bn, x: bn(conv(x)), {}),
    "its shape is read": (shape_reader, {}),
    "bias": (lambda conv, bn, x: bn(conv(x)), {"bias": True}),
    "grouped, strided, dilated": (
        lambda conv, bn, x: bn(conv(x)), {"groups": 3, "stride": 2, "dilation": 2, "bias": False},
    ),
    "reflected borders": (lambda conv, bn, x: bn(conv(x)), {"padding_mode": "reflect"}),
}
NOT_FOLDABLE = {
    "read elsewhere": reader(lambda conv, bn, y, z: z + y),
    "returned": reader(lambda conv, bn, y, z: (z, {"map": [y]})),
    "in a list": reader(lambda conv, bn, y, z: torch.cat([z, y])),
    "detached": reader(lambda conv, bn, y, z: z * y.detach().max()),
    "a number of it": reader(lambda conv, bn, y, z: z * float(y.sum())),
    "changed in place": lambda conv, bn, x: bn(conv(x).relu_()),
    "a function between": lambda conv, bn, x: bn(torch.relu(conv(x))),
    "a view between": lambda conv, bn, x: bn(conv(x).flip(2)),
    "batchnorm first": lambda conv, bn, x: conv(bn(x)),
    "convolution called twice": lambda conv, bn, x: bn(conv(conv(x))),
    "batchnorm called twice": lambda conv, bn, x: bn(bn(conv(x))),
    "the pair called twice": lambda conv, bn, x: bn(conv(bn(conv(x)))),
    "the convolution's weight read": reader(lambda conv, bn, y, z: z * conv.weight.mean()),
    "the batchnorm's weight read": reader(lambda conv, bn, y, z: z * bn.weight.mean()),
}


def leaves(output) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else [output[0], *output[1]["map"]]


@pytest.mark.parametrize("name", EXACT)
@torch.no_grad()
def test_fold_where_it_is_exact(name):
    torch.manual_seed(0)
    join, options = EXACT[name]
    model = randomised(Parts(join, **options)).double()
    folded = fold_batchnorm(model)
    assert count(folded) == 0 and count(model) == 1 and folded.conv.bias is not None
    torch.testing.assert_close(folded(images().double()), model(images().double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NOT_FOLDABLE)
@torch.no_grad()
def test_do_not_fold_where_it_is_not(name):
    torch.manual_seed(0)
    model = randomised(Parts(NOT_FOLDABLE[name]))
    folded = fold_batchnorm(model)
    assert count(folded) == 1
    for actual, expected in zip(leaves(folded(images())), leaves(model(images())), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@torch.no_grad()
def test_layers_that_compute_more_than_their_class_are_left_alone():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    def pair() -> nn.Sequential:
        torch.manual_seed(0)
        return randomised(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))

    hooked, subclass, statistics, tied = pair(), pair(), pair(), nn.Sequential(pair(), pair())
    hooked[0].register_forward_hook(lambda module, args, output: output + 1)
    subclass[0] = Doubled(3, 3, 1)
    statistics[1] = nn.BatchNorm2d(3, track_running_stats=False).eval()
    tied[1][0].weight = tied[0][0].weight
    for model, left in ((pair(), 0), (hooked, 1), (subclass, 1), (statistics, 1), (tied, 2)):
        folded = fold_batchnorm(model)
        assert count(folded) == left
        torch.testing.assert_close(folded(images()), model(images()))


@torch.no_grad()
def test_one_layer_under_two_names():
    model = randomised(Parts(lambda conv, bn, x: bn(conv(x))))
    model.again = nn.ModuleList([model.conv, model.bn])
    folded = fold_batchnorm(model)
    assert count(folded) == 0 and folded.again[0] is folded.conv and type(folded.again[1]) is nn.Identity
    torch.testing.assert_close(folded(images()), model(images()))


@torch.no_grad()
def test_unused_layers_are_dropped_and_layers_read_without_a_call_kept():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = nn.Linear(4, 4)
            self.read = nn.Linear(4, 4)
            self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.head = nn.Sequential(nn.Linear(4, 2), nn.Dropout())
            self.dropout = nn.Dropout2d()

        def forward(self, x):
            return self.dropout(self.kept(self.blocks[1](x)) @ self.read.weight)

    model = Network().eval()
    x = torch.randn(2, 3, 5, 4)
    dropped = drop_unused(model, x)
    assert dropped.head is None and dropped.blocks[0] is None and type(dropped.dropout) is nn.Identity
    assert count(dropped, nn.Linear) == 3 and count(model, nn.Linear) == 5
    assert torch.equal(dropped(x), model(x))


@torch.no_grad()
def test_select_modality_works_on_any_network():
    model = randomised(nn.Sequential(SplitBatchNorm2d(3), nn.Conv2d(3, 4, 1)))
    for modality in ("visible", "infrared"):
        selected = select_modality(model, modality)
        with modality_context(modality):
            assert torch.equal(selected(images()), model(images()))
        assert count(selected, SplitBatchNorm2d) == 0 and count(model, SplitBatchNorm2d) == 1
    assert type(select_modality(model[0], "visible")) is nn.BatchNorm2d
