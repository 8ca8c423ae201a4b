"""The optimized form: the features of the plain network, in every precision, batch size and layout."""
from __future__ import annotations

import copy
import shutil

import pytest
import torch
import torchreid
from calibrated import calibrated, noise
from torch import nn
from torch.nn import functional as F

from torchreid_nas import device as devices
from torchreid_nas.deploy.fuse import can_fuse
from torchreid_nas.deploy.optimize import images_at_once
from torchreid_nas.errors import InputError, InputWarning
from torchreid_nas.models import (
    cdnet_x0_25,
    deploy_network,
    optimize_network,
    two_stream_cdnet,
    two_stream_resnet18,
    two_stream_resnet50,
)

compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


DEPLOYED = {
    "cdnet": lambda: calibrated(cdnet_x0_25(5)).deploy(),
    "cdnet, blneck": lambda: calibrated(cdnet_x0_25(5, neck="blneck")).deploy(),
    "two-stream resnet18": lambda: calibrated(two_stream_resnet18(5, pretrained=False, width=0.25)).deploy("infrared"),
    "two-stream resnet50": lambda: calibrated(two_stream_resnet50(5, pretrained=False, width=0.25)).deploy("visible"),
    "two-stream cdnet": lambda: calibrated(two_stream_cdnet(5, width=0.25)).deploy("visible"),
    "osnet": lambda: deploy_network(calibrated(torchreid.models.build_model("osnet_x0_25", 5, pretrained=False)), 512),
}


@pytest.mark.parametrize("name", DEPLOYED)
@torch.no_grad()
def test_features_in_float32_and_bfloat16(name):
    deployed = DEPLOYED[name]()
    images = noise(11)
    expected = deployed(images)
    exact = deployed.optimize("fp32")(images)
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    half = deployed.optimize("bf16")(images)
    assert half.dtype == exact.dtype == torch.float32 and half.shape == expected.shape
    # Untrained networks amplify rounding; what counts is that fusing adds none to that of the format.
    rounded = deployed.network.to(torch.bfloat16)(images.bfloat16()).float()
    assert 0 < (half - expected).norm() < 1.2 * (rounded - expected).norm()


@torch.no_grad()
def test_any_batch_size_memory_format_and_dtype_of_images():
    deployed = DEPLOYED["cdnet"]()
    network = deployed.optimize("fp32", at_once=4)
    images = noise(9)
    expected = deployed(images)
    tolerance = {"rtol": 0, "atol": 1e-4 * expected.abs().max().item()}
    for count in (1, 3, 4, 5, 8, 9):
        torch.testing.assert_close(network(images[:count]), expected[:count], **tolerance)
    torch.testing.assert_close(network(images.contiguous(memory_format=torch.channels_last)), expected, **tolerance)
    torch.testing.assert_close(network(images.double()), expected, **tolerance)


@pytest.mark.parametrize("batch_size, at_once", [(1, 1), (31, 31), (32, 32), (33, 17), (100, 25), (128, 32)])
def test_parts_of_a_batch_are_equal_and_of_32_images_at_most(batch_size, at_once):
    assert images_at_once(batch_size) == at_once


def test_the_original_is_left_as_it_was():
    deployed = DEPLOYED["two-stream resnet18"]()
    state, kinds = copy.deepcopy(deployed.state_dict()), [type(module) for module in deployed.modules()]
    for precision in ("fp32", "bf16"):
        network = deployed.optimize(precision)
        assert not {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in deployed.parameters()}
        assert not any(p.requires_grad for p in network.parameters())
        assert not network.train().training and not network(noise(2).requires_grad_()).requires_grad
    assert [type(module) for module in deployed.modules()] == kinds
    assert all(torch.equal(value, state[key]) and value.dtype == state[key].dtype
               for key, value in deployed.state_dict().items())


@torch.no_grad()
def test_any_network_even_one_that_takes_one_size_only():
    fixed = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 62 * 30, 5))
    for size in ((64, 32), (256, 128)):
        network = optimize_network(fixed, "fp32", size=size)
        torch.testing.assert_close(network(noise(3)), fixed(noise(3)))


class Residual(nn.Module):
    """Small, for compilation takes seconds per layer: stem, one residual block, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.stem(images))
        return F.relu(y + self.conv(y)).mean((2, 3))


@compiler
@torch.no_grad()
def test_compiled():
    """One batch size is compiled, whatever comes; keys of the state dict stay what they are."""
    network = Residual()
    images = noise(6)
    expected = network(images)
    for precision, tolerance in (("fp32", 1e-5), ("bf16", 2e-2)):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled = optimize_network(network, precision, compile=True, at_once=4)
        for count in (6, 4, 1):
            torch.testing.assert_close(compiled(images[:count]), expected[:count], rtol=0, atol=tolerance)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
        if can_fuse("cpu", compiled.dtype):
            # Weights are constants: only then the compiler lays the two of them out once and fuses twice what follows.
            assert torch._dynamo.utils.counters["inductor"]["pattern_matcher_count"] >= 4
        assert [f"network.{key}" for key in network.state_dict()] == list(compiled.state_dict())


@torch.no_grad()
def test_without_a_compiler_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    network = optimize_network(Residual(), "fp32", compile=True)
    message = r"cannot be compiled here .*install a C\+\+ compiler"
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(InputError, match=message):
        network(noise(1))


def test_automatic_precision_follows_the_hardware(monkeypatch):
    from torchreid_nas.deploy import optimize

    for supported, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(optimize, "computes_bfloat16", lambda device, answer=supported: answer)
        network = DEPLOYED["cdnet"]().optimize()
        assert network.dtype == dtype == next(network.parameters()).dtype
    assert devices.computes_bfloat16(torch.device("cpu")) in (True, False)


def test_bfloat16_that_is_only_emulated_is_warned_of(monkeypatch):
    monkeypatch.setattr(devices, "computes_bfloat16", lambda device: False)
    with pytest.warns(InputWarning, match="the precision is bf16, which cpu here does not compute .*; choose fp32 or auto"):
        assert optimize_network(Residual(), "bf16").dtype == torch.bfloat16


def test_bad_arguments():
    deployed = DEPLOYED["cdnet"]()
    with pytest.raises(InputError, match='precision "fp16" is unknown, expected one of fp32, bf16, auto; did you mean'):
        deployed.optimize("fp16")
    with pytest.raises(InputError, match="at_once is 0, expected at least one image"):
        deployed.optimize(at_once=0)


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
@torch.no_grad()
def test_on_a_gpu(compile):
    deployed = DEPLOYED["two-stream resnet18"]()
    network = deployed.optimize("bf16", compile=compile, device="cuda")
    assert next(deployed.parameters()).device.type == "cpu"
    images = noise(40)
    expected = deployed(images)
    centre = expected.mean(0)
    for count in (40, 3):
        found = network(images[:count].cuda()).cpu()
        assert F.cosine_similarity(found - centre, expected[:count] - centre).min() > 0.98


@torch.no_grad()
def test_a_network_that_breaks_on_channels_last_keeps_its_own_format():
    """torchreid's PCB and MuDeep call view on pooled maps, which channels-last maps do not allow."""
    network, images = ViewsItsMaps().eval(), torch.randn(3, 3, 64, 32)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        network(images.to(memory_format=torch.channels_last))
    optimized = optimize_network(network, "fp32", size=(64, 32))
    assert optimized.memory_format == torch.contiguous_format
    torch.testing.assert_close(optimized(images.to(memory_format=torch.channels_last)), network(images))
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert optimize_network(plain, "fp32", size=(64, 32)).memory_format == torch.channels_last


class ViewsItsMaps(nn.Module):
    """Stripes of a map as rows."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d((2, 1))

    def forward(self, images):
        pooled = self.pool(self.conv(images))
        return pooled.view(len(images), -1)
