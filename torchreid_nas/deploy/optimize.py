"""The fastest form of a network: bfloat16 where the hardware computes it, channels-last, fused or compiled."""
from __future__ import annotations

__all__ = ["PRECISIONS", "OptimizedNetwork", "images_at_once", "optimize_network"]

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from torchreid_nas.deploy.fuse import can_fuse, fuse_layers
from torchreid_nas.device import computes_bfloat16, warn_of_emulation
from torchreid_nas.errors import InputError, nearest

PRECISIONS = ("fp32", "bf16", "auto")
"""Precisions of a network; ``"auto"`` is bfloat16 where the hardware multiplies in bfloat16, else float32."""
_MOST_AT_ONCE = 32


class OptimizedNetwork(nn.Module):
    """A network for features alone: images (B, 3, H, W) in any float dtype and memory format -> float32 (B, D).

    The weights are converted once; autocast converts them at every call. The
    batch passes in equal parts of at most ``at_once`` images, which bounds the
    memory. A compiled network sees one batch size only: the last part is filled
    up with black images, and the features of the black images are dropped. The
    network is so never compiled again for a last, smaller batch.

    :func:`optimize_network` makes it. No gradients; eval mode after any call of ``train``.

    Args:
        network: maps images to features, in its final dtype and device.
        dtype: of the weights.
        at_once: images per part.
        compiled: whether ``network`` was compiled for parts of exactly ``at_once`` images.
        memory_format: of the images that ``network`` takes.
    """

    def __init__(
        self, network: nn.Module, dtype: torch.dtype, at_once: int, compiled: bool,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype, self.at_once, self.compiled, self.memory_format = dtype, at_once, compiled, memory_format
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of ``images``, float32."""
        images = images.to(self.dtype, memory_format=self.memory_format)
        if self.compiled:
            features, size = self._features_of_compiled, self.at_once
        else:
            features, size = self.network, images_at_once(len(images), self.at_once)
        return torch.cat([features(part).float() for part in images.split(size)])

    def _features_of_compiled(self, images: torch.Tensor) -> torch.Tensor:
        missing = self.at_once - len(images)
        if missing:
            images = F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)).contiguous(memory_format=self.memory_format)
        try:
            # The weights become constants, laid out once. The first half of torch.compile does not read this from its options.
            with torch._inductor.config.patch(freezing=images.device.type == "cpu"):
                features = self.network(images)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise InputError(
                f"the network cannot be compiled here ({str(error).strip().splitlines()[0]}); install a C++ compiler (g++; "
                "the variable CXX names another one), or do without compilation"
            ) from error
        return features[:len(images) - missing]

    def train(self, mode: bool = True) -> OptimizedNetwork:
        """Keep eval mode."""
        return super().train(False)


def optimize_network(
    network: nn.Module, precision: str = "auto", compile: bool = False, device: torch.device | str | None = None,
    at_once: int | None = None, size: tuple[int, int] = (256, 128),
) -> OptimizedNetwork:
    """Return a copy of ``network`` that computes its features as fast as the device allows.

    The copy takes channels-last images, except networks that channels-last breaks
    (torchreid's PCB and MuDeep view their maps as rows). Without ``compile``, on
    CPUs, convolutions take in the ReLUs and sums behind them
    (:mod:`torchreid_nas.deploy.fuse`). With ``compile``, torch.compile does that and
    fuses the other layers too, which takes 5 to 60 s at the first call.

    Args:
        network: maps images (B, 3, H, W) to features (B, D), as ``deploy()``
            returns it. :func:`torchreid_nas.deploy.fold.deploy_network` folds the
            BatchNorms of other networks. ``network`` is not changed.
        precision: ``"fp32"`` for the features of ``network`` up to rounding,
            ``"bf16"``, or ``"auto"`` (see :data:`PRECISIONS`). In bfloat16 a
            feature keeps 8 bits in every layer; benchmarks/inference.py measures
            the loss of accuracy.
        compile: with torch.compile; needs a C++ compiler on CPUs, Triton on GPUs.
        device: of the copy; default the device of ``network``.
        at_once: images per part of a batch, see :func:`images_at_once`.
        size: height and width of the image on which the fused form is compared with ``network``.

    Raises:
        InputError: the precision is unknown or ``at_once`` is below 1; at the first
            call: the network cannot be compiled.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> optimize_network(network, "fp32", size=(8, 8))(torch.zeros(5, 3, 8, 8)).shape
    torch.Size([5, 4])
    """
    if at_once is not None and at_once < 1:
        raise InputError(f"at_once is {at_once}, expected at least one image")
    if device is None:
        device = next(network.parameters(), torch.empty(0)).device
    device = torch.device(device)
    dtype = _dtype(precision, device)
    network = copy.deepcopy(network).eval().to(device)
    if can_fuse(device, dtype) and not compile:
        network = fuse_layers(network.float(), size)
    memory_format = _memory_format(network.to(dtype), torch.zeros(1, 3, *size, dtype=dtype, device=device))
    # Again: a convolution has laid its weight out for the one image of the check.
    network = network.to(dtype).to(memory_format=memory_format)
    if compile:
        network.compile(dynamic=False)  # in place: the keys of the state dict do not change
    return OptimizedNetwork(network, dtype, at_once or _MOST_AT_ONCE, compile, memory_format)


def images_at_once(batch_size: int, most: int = _MOST_AT_ONCE) -> int:
    """Return the number of images that pass together: a batch in equal parts of at most ``most`` images.

    Few calls spend little on the overhead of a call, and a few hundred megabytes
    hold the maps.

    >>> images_at_once(50, most=32)
    25
    """
    return math.ceil(batch_size / max(1, math.ceil(batch_size / most)))


@torch.no_grad()
def _memory_format(network: nn.Module, image: torch.Tensor) -> torch.memory_format:
    """Return channels-last, or the contiguous format where the network computes only in the contiguous format."""
    for memory_format in (torch.channels_last, torch.contiguous_format):
        try:
            network.to(memory_format=memory_format)(image.to(memory_format=memory_format))
            return memory_format
        except (AttributeError, RuntimeError, TypeError):
            continue
    # The network takes no image of this size. The first real image raises its error.
    return torch.channels_last


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision not in PRECISIONS:
        raise InputError(f'the precision "{precision}" is unknown, expected one of {", ".join(PRECISIONS)}'
                         f"{nearest(precision, PRECISIONS)}")
    if precision == "bf16":
        warn_of_emulation(device, "the precision", "choose fp32 or auto")
    half = precision == "bf16" or precision == "auto" and computes_bfloat16(device)
    return torch.bfloat16 if half else torch.float32
