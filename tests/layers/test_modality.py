"""The declared modality: it holds in the thread that declares it and nowhere else."""
from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers import MODALITIES, MixedBatchNorm2d, SplitBatchNorm2d, active_modality, modality_context
from torchreid_nas.models import two_stream_resnet18

KINDS = pytest.mark.parametrize("kind", [SplitBatchNorm2d, MixedBatchNorm2d])


def layer(kind: type[nn.Module], channels: int = 3) -> nn.Module:
    """A layer in eval mode whose modalities differ by their bias."""
    built = kind(channels).eval()
    nn.init.constant_(built.visible.bias, 1.0)
    nn.init.constant_(built.infrared.bias, -1.0)
    return built


class Meet(nn.Module):
    """Waits until every thread has declared its modality."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.barrier.wait(timeout=60)
        return x


def in_a_thread(function):
    """The result of a function in a fresh thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_two_threads_of_one_network_keep_their_modalities_apart():
    torch.manual_seed(0)
    model = two_stream_resnet18(2, "split", pretrained=False, width=0.125).eval()
    for bn in model.backbone.modules():
        if isinstance(bn, SplitBatchNorm2d):
            nn.init.uniform_(bn.infrared.weight, 0.5, 1.5)
    images = torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        expected = {modality: model(images, modality) for modality in MODALITIES}
    assert not torch.allclose(*expected.values())
    model.backbone.conv1 = nn.Sequential(Meet(threading.Barrier(2)), model.backbone.conv1)

    def features(modality: str) -> torch.Tensor:
        with torch.no_grad():
            return model(images, modality)

    with ThreadPoolExecutor(2) as pool:
        for modality, found in zip(MODALITIES, pool.map(features, MODALITIES)):
            assert torch.equal(found, expected[modality])


@KINDS
def test_a_fresh_thread_has_no_modality_and_says_so(kind):
    built, x = layer(kind), torch.randn(2, 3, 2, 2)
    with modality_context("visible"), pytest.raises(InputError, match="cannot tell in eval mode which modality"):
        in_a_thread(lambda: built(x))


@KINDS
def test_a_copy_of_data_parallel_takes_what_its_maker_declared(kind):
    built, x = layer(kind), torch.randn(2, 3, 2, 2)
    with modality_context("infrared"):
        copy, expected = built._replicate_for_data_parallel(), built(x)
    # What torch gives the copies next: parameters and parts on their GPU.
    copy._parameters, copy._modules = built._parameters, built._modules
    assert torch.equal(in_a_thread(lambda: copy(x)), expected)

    def visible() -> torch.Tensor:
        with modality_context("visible"):
            return copy(x)

    assert torch.equal(in_a_thread(visible), visible())
    assert not torch.equal(in_a_thread(visible), expected)


@KINDS
def test_the_backward_pass_asks_for_no_modality(kind):
    built = kind(3)
    joint = torch.randn(4, 3, 2, 2, requires_grad=True)
    loss = built(joint).pow(3).sum()
    in_a_thread(loss.backward)
    single = torch.randn(4, 3, 2, 2, requires_grad=True)
    with modality_context("infrared"):
        loss = built(single).pow(3).sum()
    in_a_thread(loss.backward)
    assert joint.grad.abs().sum() > 0 < single.grad.abs().sum()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_network_follows_the_declaration():
    built, x = layer(SplitBatchNorm2d), torch.randn(2, 3, 2, 2)
    compiled = torch.compile(nn.Sequential(built, nn.ReLU()))
    for modality in (*MODALITIES, *MODALITIES):
        with modality_context(modality):
            torch.testing.assert_close(compiled(x), built(x).relu())
    with pytest.raises(InputError, match="in eval mode which modality"):
        compiled(x)


@pytest.mark.parametrize("modality", MODALITIES)
def test_an_exported_program_keeps_the_modality_of_its_making(modality):
    built, x = layer(SplitBatchNorm2d), torch.randn(2, 3, 2, 2)
    with modality_context(modality):
        program = torch.export.export(built, (x,))
        expected = built(x)
    assert torch.equal(program.module()(x), expected)


def test_an_error_ends_the_declaration():
    with pytest.raises(KeyError), modality_context("visible"), modality_context("infrared"):
        raise KeyError
    with pytest.raises(InputError, match="in eval mode"):
        active_modality(training=False)
