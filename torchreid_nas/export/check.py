"""Does the exported file compute what the network computes, and how fast? Compared in one process."""
from __future__ import annotations

__all__ = ["Agreement", "TOLERANCE", "agreement", "compare", "latencies"]

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError

TOLERANCE = 1e-4
"""Largest difference of a feature that passes, relative to the mean length of the network's features (ours)."""

_WARM_UP = 2

Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Agreement:
    """How far the features of a file are from those of the network.

    Attributes:
        images: how many were compared.
        difference: largest absolute difference of a number.
        relative: the same over the mean length of the network's features.
        cosine: least cosine similarity of the two features of an image; 1 where both are zero.
    """

    images: int
    difference: float
    relative: float
    cosine: float


def agreement(expected: torch.Tensor, actual: torch.Tensor) -> Agreement:
    """Compare features, (N, D) each; the network's first.

    Raises:
        InputError: features that are not finite, or of another shape.
    """
    if actual.shape != expected.shape:
        raise InputError(
            f"the exported file gives features of shape {tuple(actual.shape)}, the network {tuple(expected.shape)}; "
            "nothing was kept of it"
        )
    for whose, features in (("network", expected), ("exported file", actual)):
        if not features.isfinite().all():
            raise InputError(
                f"the {whose} gives features that are not finite; its weights or the run that made them are at fault"
            )
    expected, actual = expected.double(), actual.double()
    difference = float((actual - expected).abs().max())
    length = float(expected.norm(dim=1).mean())
    both_zero = (expected == 0).all(dim=1) & (actual == 0).all(dim=1)
    cosine = F.cosine_similarity(expected, actual).masked_fill(both_zero, 1.0)
    relative = difference / length if length else (0.0 if difference == 0 else float("inf"))
    return Agreement(len(expected), difference, relative, float(cosine.min()))


@torch.inference_mode()
def compare(reference: Network, candidate: Network, images: torch.Tensor, batch_size: int) -> Agreement:
    """Run both on the images, (N, 3, H, W), in batches; the last one may be smaller.

    Args:
        reference, candidate: give features of images; where they need them otherwise than given, they convert them.

    Raises:
        InputError: see :func:`agreement`.
    """
    # TF32 would blur the comparison on GPUs.
    with torch.backends.cudnn.flags(allow_tf32=False):
        pairs = [(reference(batch).cpu(), candidate(batch).cpu()) for batch in images.split(batch_size)]
    expected, actual = zip(*pairs)
    return agreement(torch.cat(expected), torch.cat(actual))


@torch.inference_mode()
def latencies(networks: Sequence[Network], images: torch.Tensor, repetitions: int = 10) -> list[float]:
    """Return the median seconds per image of every network, run turn by turn on the same batch after a warm-up."""
    times: list[list[float]] = [[] for _ in networks]
    for repetition in range(_WARM_UP + repetitions):
        for network, taken in zip(networks, times):
            start = time.perf_counter()
            # The features are read back: a GPU answers before it is done.
            network(images).cpu()
            if repetition >= _WARM_UP:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) / len(images) for taken in times]
