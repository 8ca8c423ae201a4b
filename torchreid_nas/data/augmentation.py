"""Augmentation of whole batches: what a ``Compose`` does to PIL images one by one, as a few tensor operations."""
from __future__ import annotations

__all__ = ["BatchTransform", "Erase", "Flip", "PadCrop", "Translate"]

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torchreid
from torch.nn import functional as F
from torchvision import transforms as T

from torchreid_nas.data.channels import FIRST_VISIBLE, ChannelDraw, change_channels
from torchreid_nas.data.resize import resize_pixels
from torchreid_nas.data.transforms import INTERPOLATIONS, RandomErase, RandomSizedRectCrop
from torchreid_nas.device import move


class Step(Protocol):
    """One random operation on pixels. Draws are int64 (B, k) on the CPU, one row per image: no GPU is waited for.

    It is done image by image on a CPU, where an image stays in the cache from
    step to step, and to whole batches on a GPU, with the same pixels.
    """

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        """Draw what is random for ``count`` images."""

    def apply(self, image: np.ndarray, *drawn: int) -> np.ndarray:
        """Return an image, uint8 (H, W, 3), after it, in place or not."""

    def apply_to_batch(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return images, uint8 (B, H, W, 3), after it, in place or not."""


@dataclasses.dataclass(frozen=True)
class PadCrop:
    """torchvision's ``RandomCrop`` to the images' own size after padding by zeros; draws top and left."""

    padding: int

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        """See :meth:`Step.draw`."""
        return torch.randint(2 * self.padding + 1, (count, 2), generator=generator)

    def apply(self, image: np.ndarray, *drawn: int) -> np.ndarray:
        """See :meth:`Step.apply`."""
        moved = np.zeros_like(image)
        own, new = [], []
        for place, size in zip(drawn, image.shape):
            # What stands at ``start`` comes to 0, and so on; an image may be smaller than the padding.
            start = place - self.padding
            own.append(slice(max(start, 0), max(size + min(start, 0), 0)))
            new.append(slice(max(-start, 0), max(size - max(start, 0), 0)))
        moved[tuple(new)] = image[tuple(own)]
        return moved

    def apply_to_batch(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """See :meth:`Step.apply_to_batch`."""
        _, height, width, _ = images.shape
        edge = self.padding
        return _crop(F.pad(images, (0, 0, edge, edge, edge, edge)), drawn[:, 0], drawn[:, 1], height, width)


@dataclasses.dataclass(frozen=True)
class Translate:
    """torchreid's ``Random2DTranslation``: enlarge by 1.125, bilinearly, and crop; draws whether, top and left.

    Its crop's place is a rounded uniform number, so the outermost places come
    half as often as the others.
    """

    probability: float = 0.5

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        """See :meth:`Step.draw`."""
        room = torch.tensor([large - small for large, small in zip(_enlarged(height, width), (height, width))])
        places = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * room).round()
        return torch.cat([_happens(count, self.probability, generator), places.long()], dim=1)

    def apply(self, image: np.ndarray, *drawn: int) -> np.ndarray:
        """See :meth:`Step.apply`."""
        happens, top, left = drawn
        if not happens:
            return image
        height, width, _ = image.shape
        large = np.empty((*_enlarged(height, width), 3), np.uint8)
        resize_pixels(image, large)
        return large[top:top + height, left:left + width]

    def apply_to_batch(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """See :meth:`Step.apply_to_batch`."""
        _, height, width, _ = images.shape
        which = drawn[:, 0].nonzero()[:, 0]
        chosen = move(which, images.device)
        channels_first = images.index_select(0, chosen).permute(0, 3, 1, 2)
        large = F.interpolate(channels_first.float(), size=_enlarged(height, width), mode="bilinear", align_corners=False)
        large = large.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return images.index_copy_(0, chosen, _crop(large, drawn[which, 1], drawn[which, 2], height, width))


@dataclasses.dataclass(frozen=True)
class Flip:
    """torchvision's ``RandomHorizontalFlip``; draws whether."""

    probability: float = 0.5

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        """See :meth:`Step.draw`."""
        return _happens(count, self.probability, generator)

    def apply(self, image: np.ndarray, *drawn: int) -> np.ndarray:
        """See :meth:`Step.apply`."""
        (happens,) = drawn
        # OpenCV, which torchreid imports itself, takes a tenth of NumPy's time.
        return cv2.flip(image, 1) if happens else image

    def apply_to_batch(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """See :meth:`Step.apply_to_batch`."""
        which = move(drawn[:, 0].nonzero()[:, 0], images.device)
        return images.index_copy_(0, which, images.index_select(0, which).flip(2))


@dataclasses.dataclass(frozen=True)
class Erase:
    """torchreid's ``RandomErasing`` (Zhong et al., AAAI 2020); draws whether, top, left, height and width.

    A share of the area uniform in ``least`` to ``most`` and an aspect ratio
    (height over width) uniform in ``ratio`` to ``largest_ratio`` (None: 1/``ratio``), again until the
    rectangle is smaller than the image both ways; after ``ATTEMPTS`` nothing
    is erased. The erased pixels take the values ``fill``.
    """

    fill: tuple[float, ...]
    probability: float = 0.5
    least: float = 0.02
    most: float = 0.4
    ratio: float = 0.3
    largest_ratio: float | None = None
    ATTEMPTS = 100

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        """See :meth:`Step.draw`."""
        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

        happens = _happens(count, self.probability, generator)
        size = torch.zeros(count, 2, dtype=torch.int64)
        waiting = happens[:, 0].bool()
        largest = 1 / self.ratio if self.largest_ratio is None else self.largest_ratio
        for _ in range(self.ATTEMPTS):
            area, ratio = uniform(self.least, self.most) * (height * width), uniform(self.ratio, largest)
            drawn = torch.stack([area * ratio, area / ratio], dim=1).sqrt_().round_().long()
            fits = waiting & (drawn < torch.tensor([height, width])).all(dim=1)
            size[fits] = drawn[fits]
            waiting &= ~fits
            if not waiting.any():
                break
        room = torch.tensor([height, width]) - size + 1
        place = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * room).floor().long()
        return torch.cat([happens - waiting[:, None].long(), place, size], dim=1)

    def apply(self, image: np.ndarray, happens: int, top: int, left: int, height: int, width: int) -> None:
        """Erase in a normalised image, float32 (3, H, W), in any order of memory."""
        if happens:
            for channel, value in zip(image, self.fill):
                channel[top:top + height, left:left + width] = value

    def apply_to_batch(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return normalised images, float32 (B, 3, H, W), after it."""
        happens, top, left, height, width = move(drawn, images.device)[:, :, None].unbind(1)
        ys, xs = (torch.arange(size, device=images.device) for size in images.shape[2:])
        rows = (ys >= top) & (ys < top + height) & happens.bool()
        columns = (xs >= left) & (xs < left + width)
        mask = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(mask, _channels(self.fill, images.device), images)


class BatchTransform:
    """From pixels at the network's size, uint8 (B, H, W, 3), to a batch of the network, float32 (B, 3, H, W).

    Random steps on pixels come first, then division by 255 and normalisation,
    with the roundings of ``ToTensor`` and ``Normalize``, then erasing, then what
    becomes of the channels. The
    random numbers are others than those of the plain pipeline, their
    distributions are the same.

    Args:
        mean, std: of the RGB channels.
        steps: on pixels, in order.
        erase: on the normalised images, or None.
        rectangle: what is cut from each image as it is stored, by whoever
            brings the pixels to their size; None for whole images.
        interpolation: by which the pixels are brought to their size.
        channels: rules of the channels by stream, on the normalised images; None where they stay.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], steps: Sequence[Step] = (), erase: Erase | None = None,
        rectangle: RandomSizedRectCrop | None = None, interpolation: str = "bilinear", channels: ChannelDraw | None = None,
    ):
        self.mean, self.std = tuple(mean), tuple(std)
        self.steps, self.erase = tuple(steps), erase
        self.rectangle, self.interpolation, self.channels = rectangle, interpolation, channels

    @classmethod
    def of(cls, transform: Callable | None, height: int, width: int) -> BatchTransform | None:
        """Return the batched form of a ``Compose``, or None where a piece of it has none."""
        pieces = list(getattr(transform, "transforms", ()))
        if not pieces or _size(pieces[0]) != (height, width):
            return None
        kinds = [type(piece) for piece in pieces]
        if T.ToTensor not in kinds:
            return None
        at = kinds.index(T.ToTensor)
        steps = [_pixel_step(piece, height, width) for piece in pieces[1:at]]
        found = [step for step in steps if step is not None]
        known = ([T.Normalize], [T.Normalize, torchreid.data.transforms.RandomErasing], [T.Normalize, RandomErase])
        if len(found) < len(steps) or kinds[at + 1:] not in known:
            return None
        normalize, *erasing = pieces[at + 1:]
        erase = None
        if erasing:
            e = erasing[0]
            erase = Erase(tuple(e.mean), e.probability, e.sl, e.sh, e.r1, getattr(e, "r2", None))
        rectangle = pieces[0] if kinds[0] is RandomSizedRectCrop else None
        rules = getattr(transform, "channels", None)
        channels = None if rules is None else ChannelDraw(rules)
        return cls(normalize.mean, normalize.std, found, erase, rectangle, pieces[0].interpolation.value, channels)

    def draw(
        self, count: int, height: int, width: int, generator: torch.Generator | None = None,
        streams: Sequence[int] | None = None,
    ) -> list[torch.Tensor]:
        """Draw what is random for a batch: one tensor per step, then the eraser's, then that of the channels.

        ``streams`` says of each image which rule of the channels it takes; by default all take that of the first stream.
        """
        drawn = [step.draw(count, height, width, generator) for step in self.steps]
        if self.erase:
            drawn.append(self.erase.draw(count, height, width, generator))
        if self.channels:
            drawn.append(self.channels.draw([FIRST_VISIBLE] * count if streams is None else streams, generator))
        return drawn

    def apply(self, pixels: torch.Tensor, drawn: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the batch for what was drawn.

        On a CPU it takes one thread, and may be called from several for parts of a batch.

        Args:
            pixels: uint8 (B, H, W, 3), contiguous, on any device; what is in them afterwards is undefined.
            drawn: from :meth:`draw`.
            out: float32 (B, 3, H, W), in NCHW or channels-last order, to write to; default a new one in NCHW.
        """
        count, height, width, _ = pixels.shape
        if out is None:
            out = torch.empty(count, 3, height, width, device=pixels.device)
        if pixels.device.type != "cpu":
            return self.apply_to_batch(pixels, drawn, out)
        numbers = [values.tolist() for values in drawn]
        for place, (image, normalized) in enumerate(zip(pixels.numpy(), out.numpy())):
            for step, values in zip(self.steps, numbers):
                image = step.apply(image, *values[place])
            self._normalize(image, normalized)
            if self.erase:
                self.erase.apply(normalized, *numbers[len(self.steps)][place])
            if self.channels:
                change_channels(normalized, *numbers[-1][place])
        return out

    def apply_to_batch(self, pixels: torch.Tensor, drawn: Sequence[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        """The same by operations on whole batches, as :meth:`apply` does it on a GPU."""
        for step, values in zip(self.steps, drawn):
            pixels = step.apply_to_batch(pixels, values)
        # The divisors are tensors: on a GPU a Python number divides as a product with its reciprocal, which rounds otherwise.
        full, mean, std = (_channels(values, out.device) for values in ((255.0,) * 3, self.mean, self.std))
        out.copy_(pixels.permute(0, 3, 1, 2)).div_(full).sub_(mean).div_(std)
        if self.erase:
            out = self.erase.apply_to_batch(out, drawn[len(self.steps)])
        return self.channels.apply_to_batch(out, drawn[-1]) if self.channels else out

    def _normalize(self, image: np.ndarray, out: np.ndarray) -> None:
        """Write the values of an image, uint8 (H, W, 3), to ``out``, float32 (3, H, W) in either order of memory."""
        last = out.transpose(1, 2, 0)
        if last.flags.c_contiguous:
            cv2.LUT(image, self._values, dst=last)
            return
        for plane, values, channel in zip(cv2.split(image), self._values_of_channels, out):
            cv2.LUT(plane, values, dst=channel)

    @functools.cached_property
    def _values(self) -> np.ndarray:
        """What each of the 256 values of a pixel becomes in each channel, float32 (1, 256, 3), with the same roundings."""
        values = torch.arange(256, dtype=torch.float32)[:, None] / 255
        return ((values - torch.tensor(self.mean)) / torch.tensor(self.std))[None].numpy()

    @functools.cached_property
    def _values_of_channels(self) -> np.ndarray:
        """The same, channel by channel, float32 (3, 256)."""
        return np.ascontiguousarray(self._values[0].T)


def _size(piece: Any) -> tuple[int, int] | None:
    """Return the (height, width) that the first transform gives, or None where it is not one of those that are known."""
    if type(piece) is T.Resize:
        return tuple(piece.size) if piece.interpolation.value in INTERPOLATIONS else None
    return (piece.height, piece.width) if type(piece) is RandomSizedRectCrop else None


def _pixel_step(piece: Any, height: int, width: int) -> Step | None:
    """Return the batched form of a transform of PIL images, or None where there is none."""
    if type(piece) is T.RandomHorizontalFlip:
        return Flip(piece.p)
    if type(piece) is torchreid.data.transforms.Random2DTranslation and (piece.height, piece.width) == (height, width):
        return Translate(piece.p)
    if type(piece) is T.RandomCrop and tuple(piece.size) == (height, width) and type(piece.padding) is int:
        plain = piece.padding_mode == "constant" and piece.fill == 0 and not piece.pad_if_needed
        return PadCrop(piece.padding) if plain else None
    return None


def _happens(count: int, probability: float, generator: torch.Generator | None) -> torch.Tensor:
    return (torch.rand(count, 1, generator=generator) < probability).long()


def _enlarged(height: int, width: int) -> tuple[int, int]:
    return int(round(height * 1.125)), int(round(width * 1.125))


def _crop(images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return a window of each of the larger images, uint8 (B, H, W, 3); tops and lefts are (B,) on the CPU."""
    numbers, ys, xs = (torch.arange(size, device=images.device) for size in (len(images), height, width))
    tops, lefts = (move(places, images.device)[:, None] for places in (tops, lefts))
    return images[numbers[:, None, None], (tops + ys)[:, :, None], (lefts + xs)[:, None, :]]


@functools.lru_cache(maxsize=32)
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return three numbers as (3, 1, 1) on the device; kept, since to move them anew would make a GPU wait."""
    return torch.tensor(values, device=device).view(3, 1, 1)
