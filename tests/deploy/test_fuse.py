"""Fused convolutions: what is fused, what must not be, and that nothing but the number of passes changes."""
from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torchreid
from torch import nn
from torch.nn import functional as F

from torchreid_nas.aten import find_operator
from torchreid_nas.deploy import fuse
from torchreid_nas.deploy.fuse import FusedConv2d, PackedConv2d, can_fuse, fuse_layers, mean_of_map
from torchreid_nas.deploy.optimize import optimize_network
from torchreid_nas.models import cdnet_x0_25, deploy_network, two_stream_resnet18, two_stream_resnet50

pytestmark = pytest.mark.skipif(not can_fuse("cpu"), reason="this PyTorch has no oneDNN")


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def count(model: nn.Module, kind: type) -> int:
    return sum(type(module) is kind for module in model.modules())


def with_packed(model: nn.Module) -> nn.Module:
    """A copy whose own plain convolutions are packed, and that is all."""
    model = copy.deepcopy(model)
    for name, layer in model.named_children():
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            setattr(model, name, PackedConv2d(layer))
    return model


class Parts(nn.Module):
    """Two convolutions, a shared ReLU and an identity, joined as a function says."""

    def __init__(self, join, **options) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, **{"padding": 1, **options})
        self.second = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.identity = nn.Identity()
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(self, x).flatten(1)


def on_first(join):
    """A join that goes on from the first convolution's output."""
    return lambda m, x: join(m, m.first(x))


def residual_in_place(m, x):
    y = m.relu(m.first(x))
    z = m.second(y)
    z += y
    return m.relu(z)


def a_sum_in_place_that_others_see(m, x):
    y = m.first(x)
    z = y * 2
    w = y
    w += m.second(z)
    return F.relu(w) + y


def the_input_changed_meanwhile(m, x):
    y = m.first(x)
    z = m.second(y)
    F.relu_(y)
    return F.relu(z) + y


FUSED = {
    "layer": (lambda m, x: m.relu(m.first(x)), 1, {}),
    "function": (lambda m, x: F.relu(m.first(x)), 1, {}),
    "function in place": (lambda m, x: F.relu(m.first(x), inplace=True), 1, {}),
    "methods": (lambda m, x: m.second(m.first(x).relu()).relu_(), 2, {}),
    "identities between": (lambda m, x: m.relu(m.identity(m.identity(m.first(x)))), 1, {}),
    "without bias, strided, dilated": (
        lambda m, x: m.relu(m.first(x)), 1, {"bias": False, "stride": 2, "dilation": 2, "padding": 2},
    ),
    "residual": (on_first(lambda m, y: F.relu(m.second(y) + m.identity(y))), 1, {}),
    "residual in place": (residual_in_place, 2, {}),
    "sum of two convolutions": (lambda m, x: F.relu(m.first(x) + m.identity(m.second(F.relu(m.first(x))))), 2, {}),
    "the input changed meanwhile": (the_input_changed_meanwhile, 1, {}),
}
LEFT_ALONE = {
    "another activation": (lambda m, x: torch.sigmoid(m.first(x)), {}),
    "read elsewhere": (on_first(lambda m, y: F.relu(y) + y), {}),
    "a scaled sum": (lambda m, x: F.relu(torch.add(m.first(x), m.second(m.first(x)), alpha=2)), {}),
    "the sum of one map with itself": (on_first(lambda m, y: F.relu(y + y)), {}),
    "a number added": (lambda m, x: F.relu(m.first(x) + 0.1), {}),
    "a sum in place that others see": (a_sum_in_place_that_others_see, {}),
    "reflected borders": (lambda m, x: m.relu(m.first(x)), {"padding_mode": "reflect"}),
    "padding by name": (lambda m, x: m.relu(m.first(x)), {"padding": "same"}),
    "a broadcast sum": (lambda m, x: F.relu(m.first(x) + m.second(m.first(x)).amax((2, 3), keepdim=True)), {}),
}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", FUSED)
@torch.no_grad()
def test_fused_and_the_same(name, memory_format):
    torch.manual_seed(0)
    join, fusions, options = FUSED[name]
    model = Parts(join, **options).eval()
    fused = fuse_layers(model)
    assert count(fused, FusedConv2d) == fusions and count(model, FusedConv2d) == 0
    x = images().contiguous(memory_format=memory_format)
    torch.testing.assert_close(fused(x.clone()), model(x.clone()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LEFT_ALONE)
@torch.no_grad()
def test_left_alone(name):
    torch.manual_seed(0)
    join, options = LEFT_ALONE[name]
    model = Parts(join, **options).eval()
    fused = fuse_layers(model)
    assert count(fused, FusedConv2d) == 0
    # Tracing takes the sum in place for one that is not: all of it is thrown away. Else only weights are laid out.
    packed = 0 if "in place" in name else 1 if options else 2
    assert count(fused, PackedConv2d) == packed
    assert torch.equal(fused(images()), (with_packed(model) if packed else model)(images()))
    torch.testing.assert_close(fused(images()), model(images()), rtol=1e-5, atol=1e-6)


# The second summand: whether the sum may take its place.
IN_PLACE = {
    "a projection": (lambda m, y: F.relu(m.second(y) + m.identity(m.third(y))), True),
    "a projection, in place": (lambda m, y: F.relu_(m.third(y).add_(m.second(y))), True),
    "a fused map read by others before": (
        lambda m, y: (lambda z: F.relu(m.third(m.second(z)) + z))(F.relu(m.second(y))), True,
    ),
    "what the convolution itself reads": (on_first(lambda m, y: F.relu(m.second(y) + y)), False),
    "what the convolution reads under another name": (lambda m, y: F.relu(m.second(m.identity(y)) + y), False),
    "the input": (lambda m, y: F.relu(m.second(m.third(y)) + y), False),
    "a map read afterwards": (
        lambda m, y: (lambda z: F.relu(m.second(y) + z) + m.third(z))(m.third(y)), False,
    ),
    "a map returned as well": (
        lambda m, y: (lambda z: F.relu(m.second(y) + m.identity(z)) * z)(m.third(y)), False,
    ),
    "a map with a view": (lambda m, y: (lambda z, v: F.relu(m.second(y) + z) + v)(*views(m.third(y))), False),
}


def views(z):
    return z, z.view_as(z)


class Summands(nn.Module):
    """Two convolutions that keep the shape, on a map that may be the module's input."""

    def __init__(self, join) -> None:
        super().__init__()
        self.second, self.third, self.identity = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.Identity()
        self.first = nn.Conv2d(3, 3, 1)
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(self, x).flatten(1)


@pytest.mark.parametrize("name", IN_PLACE)
@torch.no_grad()
def test_sums_take_the_place_of_maps_that_nobody_reads_any_more(name):
    torch.manual_seed(0)
    join, in_place = IN_PLACE[name]
    model = Summands(join).eval()
    fused = fuse_layers(model)
    sums = [module.in_place for module in fused.modules() if isinstance(module, FusedConv2d)]
    assert sums[-1] is in_place
    x = images()
    torch.testing.assert_close(fused(x), model(images()), rtol=1e-5, atol=1e-6)
    assert torch.equal(x, images())


@torch.no_grad()
def test_the_layout_of_weights_is_no_state():
    """Other shapes than the first are computed with it; copies, loads and pickles lay out their own."""
    torch.manual_seed(0)
    conv, other = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(3, 32, 3, padding=1)
    packed = PackedConv2d(conv)
    for x in (images(), images(5), torch.randn(1, 3, 7, 9)):
        torch.testing.assert_close(packed(x), conv(x), rtol=1e-5, atol=1e-6)
    assert list(packed.state_dict()) == ["weight", "bias"]
    twin = pickle.loads(pickle.dumps(packed))
    assert twin._packed is None and torch.equal(twin(images()), packed(images()))
    twin = copy.deepcopy(packed)
    twin.load_state_dict(other.state_dict())
    torch.testing.assert_close(twin(images()), other(images()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed(images()), conv(images()), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not can_fuse("cpu", torch.bfloat16), reason="oneDNN takes bfloat16 from AVX-512 on")
@torch.no_grad()
def test_a_cast_lays_the_weights_out_anew():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 32, 3, padding=1)
    packed = PackedConv2d(conv)
    torch.testing.assert_close(packed(images()), conv(images()), rtol=1e-5, atol=1e-6)
    half = packed.bfloat16()(images().bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), copy.deepcopy(conv).float()(images()), rtol=0, atol=5e-2)


class Gated(nn.Module):
    """Gates that a mean over the map feeds, in every spelling, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        total = y * y.mean((2, 3), keepdim=True) + y.relu() * self.pool(y) + y * torch.mean(y, dim=[-2, -1], keepdim=True)
        return (total + y.sigmoid() * y.mean((2, 3), True)).mean((2, 3))


@torch.no_grad()
def test_gates_pool_by_windows_and_sum_by_addcmul():
    torch.manual_seed(0)
    model = Gated().eval()
    fused = fuse_layers(model)
    called = [node.target for node in fused.graph.nodes if node.op == "call_function"]
    assert called.count(mean_of_map) == 5 and called.count(torch.addcmul) == 3
    torch.testing.assert_close(fused(images()), model(images()), rtol=1e-5, atol=1e-6)


class NotGated(nn.Module):
    """Means over other sides, in another type, or of a product with a number; a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d((2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = y * y.mean(1, keepdim=True) + 2 * y
        w = (y * z).add_(y * y.mean((2, 3), keepdim=True, dtype=torch.float64).float())
        return torch.cat([w.mean((1, 3)), self.pool(z).flatten(1)], dim=1)


@torch.no_grad()
def test_other_means_and_sums_are_left_alone():
    torch.manual_seed(0)
    model = NotGated().eval()
    fused = fuse_layers(model)
    assert torch.equal(fused(images()), with_packed(model)(images())) and not isinstance(fused, torch.fx.GraphModule)
    torch.testing.assert_close(fused(images()), model(images()), rtol=1e-5, atol=1e-6)


def test_layers_with_hooks_or_of_other_classes_are_left_alone():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    hooked, subclass = (nn.Sequential(kind(3, 4, 1), nn.ReLU(), nn.Flatten()) for kind in (nn.Conv2d, Doubled))
    hooked[0].register_forward_hook(lambda module, args, output: output + 1)
    for model in (hooked, subclass):
        fused = fuse_layers(model)
        assert count(fused, FusedConv2d) == 0
        torch.testing.assert_close(fused(images()), model(images()), rtol=0, atol=0)


def test_what_tracing_misreads_is_thrown_away():
    class Deceived(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            y = F.relu(self.conv(x)).mean((2, 3))
            return 2 * y if isinstance(x, torch.Tensor) else y

    model = Deceived().eval()
    fused = fuse_layers(model)
    assert count(fused, FusedConv2d) == 0 and torch.equal(fused(images()), model(images()))


def test_damaged_weights_stay_visible():
    """oneDNN's ReLU turns NaN into 0."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert count(fuse_layers(model), FusedConv2d) == 1
    model[0].weight.data[0, 0] = float("nan")
    assert fuse_layers(model)(images()).isnan().any()


NETWORKS = {
    # Convolutions with a ReLU behind them, and those without: Lite's pointwise ones, gates, projections, the squeeze.
    "cdnet": (lambda: cdnet_x0_25(5).eval().deploy(), 81),
    "resnet18": (lambda: two_stream_resnet18(5, pretrained=False, width=0.25).eval().deploy("visible"), 17),
    "resnet50": (lambda: two_stream_resnet50(5, pretrained=False, width=0.125).eval().deploy("visible"), 49),
    "osnet": (lambda: deploy_network(torchreid.models.build_model("osnet_x0_25", 5, pretrained=False).eval(), 512), 100),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_relu_behind_a_convolution_or_a_sum_is_fused(name):
    torch.manual_seed(0)
    build, fusions = NETWORKS[name]
    deployed = build()
    fused = fuse_layers(deployed)
    expected = deployed(images())
    assert count(fused, FusedConv2d) == fusions
    torch.testing.assert_close(fused(images()), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert torch.equal(copy.deepcopy(fused)(images()), fused(images()))
    assert sum(p.numel() for p in fused.parameters()) == sum(p.numel() for p in deployed.parameters())


@pytest.mark.parametrize("gone", [
    "_convolution_pointwise.default", "_convolution_pointwise.binary", "_convolution_pointwise_.binary",
    "_is_mkldnn_bf16_supported",
])
def test_an_operator_that_torch_renamed_costs_the_fast_path_only(monkeypatch, gone):
    monkeypatch.setattr(fuse, "find_operator", lambda name: None if name == f"mkldnn::{gone}" else find_operator(name))
    assert not can_fuse("cpu")
    network = optimize_network(Parts(lambda m, x: m.relu(m.first(x))), "fp32", size=(16, 8))
    assert count(network, nn.Conv2d) == 2 and count(network, PackedConv2d) == 0
