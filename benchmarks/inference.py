"""Inference of deployed networks, batch 32 at 256x128: what each step from the plain to the fastest form brings.

Plain is the network in eval mode, float32, NCHW. Ours is its deployed form (BatchNorms folded), then channels-last,
then bfloat16, convolutions fused with ReLUs and sums, eight images at once; last, compiled. OSNet x1.0 is torchreid's,
under the same treatment.
"""
from __future__ import annotations

import time
from typing import Callable

import torch
import torchreid
from harness import (
    Limits, Turns, arguments, flops_of, machine, markdown, measure_limits, peak_memory, synchronize, take_turns,
)
from torch import nn
from torch.nn import functional as F

import torchreid_nas  # noqa: F401 — first, for its filter of torchreid's warning
from torchreid_nas.layers import modality_context
from torchreid_nas.models import cdnet, deploy_network, optimize_network, two_stream_resnet50

HEIGHT, WIDTH = 256, 128
PLAIN, FOLDED, CHANNELS_LAST, BF16, COMPILED = (
    "plain: fp32, NCHW", "folded", "folded, channels-last", "ours: bf16, fused", "ours: bf16, compiled",
)
# Times faster than plain, of the two networks that have a target.
TARGETS = {BF16: 4.0, COMPILED: 6.0}
OVER_OSNET = 1.15

Network = Callable[[torch.Tensor], torch.Tensor]


def networks() -> dict[str, tuple[nn.Module, nn.Module]]:
    """Return the plain network, in eval mode, and its deployed form by name."""
    two_stream = calibrated(two_stream_resnet50(1, pretrained=False), "both")
    osnet = calibrated(torchreid.models.build_model("osnet_x1_0", 1, pretrained=False))
    own = calibrated(cdnet(1))
    return {
        "CDNet": (own, own.deploy()),
        "two-stream ResNet-50": (two_stream, two_stream.deploy("visible")),
        "OSNet x1.0": (osnet, deploy_network(osnet, osnet.feature_dim)),
    }


@torch.no_grad()
def calibrated(model: nn.Module, modality: str = "visible") -> nn.Module:
    """Give BatchNorms the statistics of noise: under those of a fresh network its features overflow any precision."""
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None
    with modality_context(modality):
        model.train()(torch.randn(8, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def forms(plain: nn.Module, deployed: nn.Module, device: torch.device, compiled: bool) -> tuple[dict[str, Network], float]:
    """Return what is compared, by name, and the seconds of compilation."""
    deployed = deployed.to(device)
    found: dict[str, Network] = {PLAIN: plain.to(device), FOLDED: deployed}
    network = optimize_network(deployed, "fp32", at_once=1024)
    found[CHANNELS_LAST] = network
    found[BF16] = optimize_network(deployed, "bf16")
    seconds = 0.0
    if compiled:
        found[COMPILED] = optimize_network(deployed, "bf16", compile=True)
        start = time.perf_counter()
        found[COMPILED](torch.zeros(1, 3, HEIGHT, WIDTH, device=device))
        synchronize(device)
        seconds = time.perf_counter() - start
    return found, seconds


if __name__ == "__main__":
    pass
