"""The check of an exported file: is the graph valid, does it compute the features of the network, and how fast."""
from __future__ import annotations

__all__ = ["Agreement", "TOLERANCE", "agreement", "check_graph", "compare", "latencies"]

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.export.runtime import quiet

TOLERANCE = 1e-4
"""Largest accepted difference of a number of a feature, relative to the mean length of the network's features (ours)."""

_WARM_UP = 2

Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Agreement:
    """The distance of the features of a file from the features of the network.

    Attributes:
        images: number of images compared.
        difference: largest absolute difference of a number.
        relative: ``difference`` over the mean length of the network's features.
        cosine: least cosine similarity of the two features of an image; 1 where both are zero.
    """

    images: int
    difference: float
    relative: float
    cosine: float


def agreement(expected: torch.Tensor, actual: torch.Tensor) -> Agreement:
    """Compare the features of the network with the features of the file.

    Args:
        expected: (N, D) features of the network.
        actual: (N, D) features of the file.

    Raises:
        InputError: a feature is not finite, or the shapes differ.

    >>> agreement(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.5]])).relative
    0.1
    """
    if actual.shape != expected.shape:
        raise InputError(
            f"the exported file gives features of shape {tuple(actual.shape)}, the network {tuple(expected.shape)}; "
            "the file was not kept"
        )
    for whose, features in (("network", expected), ("exported file", actual)):
        if not features.isfinite().all():
            raise InputError(
                f"the {whose} gives features that are not finite; check the weights, and the run that made the weights"
            )
    expected, actual = expected.double(), actual.double()
    difference = float((actual - expected).abs().max())
    length = float(expected.norm(dim=1).mean())
    both_zero = (expected == 0).all(dim=1) & (actual == 0).all(dim=1)
    cosine = F.cosine_similarity(expected, actual).masked_fill(both_zero, 1.0)
    relative = difference / length if length else (0.0 if difference == 0 else float("inf"))
    return Agreement(len(expected), difference, relative, float(cosine.min()))


def check_graph(path: str | os.PathLike) -> None:
    """Check an ONNX file by onnx's own checker, with the shapes of all its values.

    Args:
        path: of the file.

    Raises:
        InputError: the file is no valid graph.
    """
    import onnx

    try:
        with quiet():
            onnx.checker.check_model(os.fspath(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(
            f"the exported file is no valid ONNX graph ({str(error).strip().splitlines()[0]}); the file was not kept, "
            "try another --opset"
        ) from error


@torch.inference_mode()
def compare(reference: Network, candidate: Network, images: torch.Tensor, batch_size: int) -> Agreement:
    """Compare two networks on images, in batches; the last batch may be smaller.

    Args:
        reference: maps images to features.
        candidate: maps the same images to features; a network that needs other images converts them.
        images: (N, 3, H, W).
        batch_size: images at once.

    Raises:
        InputError: see :func:`agreement`.

    >>> compare(torch.nn.Flatten(), torch.nn.Flatten(), torch.ones(3, 3, 2, 2), batch_size=2).difference
    0.0
    """
    # TF32 would blur the comparison on GPUs.
    with torch.backends.cudnn.flags(allow_tf32=False):
        pairs = [(reference(batch).cpu(), candidate(batch).cpu()) for batch in torch.split(images, batch_size)]
    expected, actual = zip(*pairs)
    return agreement(torch.cat(expected), torch.cat(actual))


@torch.inference_mode()
def latencies(networks: Sequence[Network], images: torch.Tensor, repetitions: int = 10) -> list[float]:
    """Return the median seconds per image of every network; the networks run in turn on the same batch, after a warm-up.

    Args:
        networks: map images to features.
        images: (N, 3, H, W), one batch.
        repetitions: measured calls of each network.

    >>> len(latencies([torch.nn.Flatten(), torch.nn.Flatten()], torch.ones(2, 3, 2, 2)))
    2
    """
    times: list[list[float]] = [[] for _ in networks]
    for repetition in range(_WARM_UP + repetitions):
        for network, taken in zip(networks, times):
            start = time.perf_counter()
            # The features are read back: the call of a GPU returns before the GPU is done.
            network(images).cpu()
            if repetition >= _WARM_UP:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) / len(images) for taken in times]
