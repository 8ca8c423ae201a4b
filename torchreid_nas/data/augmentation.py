"""Augmentation of whole batches: what a ``Compose`` does to PIL images one by one, as a few tensor operations."""
from __future__ import annotations

__all__ = ["BatchTransform", "Erase", "Flip", "PadCrop", "Translate"]

import dataclasses
import functools
from typing import Any, Callable, Protocol, Sequence

import cv2
import torch
import torchreid
from torch.nn import functional as F
from torchvision import transforms as T

from torchreid_nas.data.transforms import RandomSizedRectCrop
from torchreid_nas.device import move


# Images of 256 x 128 that are normalised at a time: of 1 to 128, 4 to 16 were fastest.
_IN_CACHE = 8


class Step(Protocol):
    """One random operation, in place or not. Draws are int64 (B, k) on the CPU, one row per image: no GPU is waited for."""

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        """Draw what is random for ``count`` images."""

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Do it: pixels are uint8 (B, H, W, 3); :class:`Erase` takes normalised images, float32 (B, 3, H, W)."""


class PadCrop:
    """torchvision's ``RandomCrop`` to the images' own size after padding by zeros; draws top and left."""

    def __init__(self, padding: int) -> None:
        self.padding = padding
        self._canvas = torch.empty(0)

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        return torch.randint(2 * self.padding + 1, (count, 2), generator=generator)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        count, height, width, channels = images.shape
        edge = self.padding
        shape = (height + 2 * edge, width + 2 * edge, channels)
        # Kept, with its border of zeros: memory that the system clears anew each time costs more than the copy.
        if self._canvas.shape[1:] != shape or len(self._canvas) < count or self._canvas.device != images.device:
            self._canvas = images.new_zeros(count, *shape)
        canvas = self._canvas[:count]
        canvas[:, edge:edge + height, edge:edge + width] = images
        return _crop(canvas, drawn[:, 0], drawn[:, 1], images)


@dataclasses.dataclass(frozen=True)
class Translate:
    """torchreid's ``Random2DTranslation``: enlarge by 1.125, bilinearly, and crop; draws whether, top and left.

    Its crop's place is a rounded uniform number, so the outermost places come
    half as often as the others.
    """

    probability: float = 0.5

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        room = torch.tensor([large - small for large, small in zip(_enlarged(height, width), (height, width))])
        places = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * room).round()
        return torch.cat([_happens(count, self.probability, generator), places.long()], dim=1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        _, height, width, _ = images.shape
        which = drawn[:, 0].nonzero()[:, 0]
        channels_first = images.index_select(0, move(which, images.device)).permute(0, 3, 1, 2)
        large = F.interpolate(channels_first.float(), size=_enlarged(height, width), mode="bilinear", align_corners=False)
        large = large.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        crops = _crop(large, drawn[which, 1], drawn[which, 2], large.new_empty(len(which), height, width, 3))
        return _put(images, which, crops)


@dataclasses.dataclass(frozen=True)
class Flip:
    """torchvision's ``RandomHorizontalFlip``; draws whether."""

    probability: float = 0.5

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        return _happens(count, self.probability, generator)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        which = drawn[:, 0].nonzero()[:, 0]
        if images.device.type == "cpu":
            # OpenCV, which torchreid imports itself, mirrors an image in a tenth of PyTorch's time, and in place.
            pixels = images.numpy()
            for place in which.tolist():
                cv2.flip(pixels[place], 1, pixels[place])
            return images
        return _put(images, which, images.index_select(0, move(which, images.device)).flip(2))


@dataclasses.dataclass(frozen=True)
class Erase:
    """torchreid's ``RandomErasing`` (Zhong et al., AAAI 2020); draws whether, top, left, height and width.

    A share of the area uniform in ``least`` to ``most`` and an aspect ratio
    (height over width) uniform in ``ratio`` to 1/``ratio``, again until the
    rectangle is smaller than the image both ways; after ``ATTEMPTS`` nothing
    is erased. The erased pixels take the values ``fill``.
    """

    fill: tuple[float, ...]
    probability: float = 0.5
    least: float = 0.02
    most: float = 0.4
    ratio: float = 0.3
    ATTEMPTS = 100

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> torch.Tensor:
        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

        happens = _happens(count, self.probability, generator)
        size = torch.zeros(count, 2, dtype=torch.int64)
        waiting = happens[:, 0].bool()
        for _ in range(self.ATTEMPTS):
            area, ratio = uniform(self.least, self.most) * (height * width), uniform(self.ratio, 1 / self.ratio)
            drawn = torch.stack([area * ratio, area / ratio], dim=1).sqrt_().round_().long()
            fits = waiting & (drawn < torch.tensor([height, width])).all(dim=1)
            size[fits] = drawn[fits]
            waiting &= ~fits
            if not waiting.any():
                break
        room = torch.tensor([height, width]) - size + 1
        place = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * room).floor().long()
        return torch.cat([happens - waiting[:, None].long(), place, size], dim=1)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        if images.device.type == "cpu":
            fill = _channels(self.fill, images.device)
            for image, (happens, top, left, height, width) in zip(images, drawn.tolist()):
                if happens:
                    image[:, top:top + height, left:left + width] = fill
            return images
        return self.apply_by_mask(images, drawn)

    def apply_by_mask(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """The same without a loop over the images, which on a GPU would be a kernel for each."""
        happens, top, left, height, width = move(drawn, images.device)[:, :, None].unbind(1)
        ys, xs = (torch.arange(size, device=images.device) for size in images.shape[2:])
        rows = (ys >= top) & (ys < top + height) & happens.bool()
        columns = (xs >= left) & (xs < left + width)
        mask = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(mask, _channels(self.fill, images.device), images)


class BatchTransform:
    """From pixels at the network's size, uint8 (B, H, W, 3), to a batch of the network, float32 (B, 3, H, W).

    Random steps on pixels come first, then division by 255 and normalisation,
    with the roundings of ``ToTensor`` and ``Normalize``, then erasing. The
    random numbers are others than those of the plain pipeline, their
    distributions are the same.

    Args:
        mean, std: of the RGB channels.
        steps: on pixels, in order.
        erase: on the normalised images, or None.
        rectangle: what is cut from each image as it is stored, by whoever
            brings the pixels to their size; None for whole images.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], steps: Sequence[Step] = (), erase: Erase | None = None,
        rectangle: RandomSizedRectCrop | None = None,
    ):
        self.mean, self.std = tuple(mean), tuple(std)
        self.steps, self.erase = tuple(steps), erase
        self.rectangle = rectangle

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
        if None in steps or kinds[at + 1:] not in ([T.Normalize], [T.Normalize, torchreid.data.transforms.RandomErasing]):
            return None
        normalize, *erasing = pieces[at + 1:]
        erase = None
        if erasing:
            e = erasing[0]
            erase = Erase(tuple(e.mean), e.probability, e.sl, e.sh, e.r1)
        rectangle = pieces[0] if kinds[0] is RandomSizedRectCrop else None
        return cls(normalize.mean, normalize.std, steps, erase, rectangle)

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Draw what is random for a batch: one tensor per step, the eraser's last."""
        steps = [*self.steps, *([self.erase] if self.erase else [])]
        return [step.draw(count, height, width, generator) for step in steps]

    def apply(self, pixels: torch.Tensor, drawn: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the batch for what was drawn.

        Args:
            pixels: uint8 (B, H, W, 3), contiguous, on any device; what is in them afterwards is undefined.
            drawn: from :meth:`draw`.
            out: float32 (B, 3, H, W), in NCHW or channels-last order, to write to; default a new one in NCHW.
        """
        count, height, width, _ = pixels.shape
        if out is None:
            out = torch.empty(count, 3, height, width, device=pixels.device)
        for step, values in zip(self.steps, drawn):
            pixels = step.apply(pixels, values)
        self._normalize(pixels, out)
        return self.erase.apply(out, drawn[-1]) if self.erase else out

    def _normalize(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        # By tensors: on a GPU the division by a Python number is a product with its reciprocal, which rounds otherwise.
        full, mean, std = (_channels(values, out.device) for values in ((255.0,) * 3, self.mean, self.std))
        if out.is_contiguous():
            pixels = pixels.permute(0, 3, 1, 2)
        else:
            # Rows of pixels are long enough for vector instructions, three channels are not.
            _, height, width, _ = pixels.shape
            out = out.permute(0, 2, 3, 1).view(-1, height, width * 3)
            pixels = pixels.reshape(out.shape)
            full, mean, std = (values.flatten().repeat(width) for values in (full, mean, std))
        # A few images at a time stay in a CPU's cache between the four operations, which halves their time.
        at_once = _IN_CACHE if out.device.type == "cpu" else max(len(out), 1)
        for part, target in zip(pixels.split(at_once), out.split(at_once)):
            target.copy_(part).div_(full).sub_(mean).div_(std)


def _size(piece: Any) -> tuple[int, int] | None:
    """Return the (height, width) that the first transform gives, or None where it is not one of those that are known."""
    if type(piece) is T.Resize:
        return tuple(piece.size)
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


def _put(images: torch.Tensor, which: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Put ``values`` in the places ``which`` (on the CPU) of ``images``, and return these."""
    if images.device.type != "cpu":
        return images.index_copy_(0, move(which, images.device), values)
    # NumPy copies whole images where PyTorch's indexed copies go byte by byte.
    images.numpy()[which.numpy()] = values.numpy()
    return images


def _enlarged(height: int, width: int) -> tuple[int, int]:
    return int(round(height * 1.125)), int(round(width * 1.125))


def _crop(images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return a window of each of the larger images, in the memory of ``out``, uint8 (B, H, W, 3), where that is faster.

    Tops and lefts are (B,) on the CPU.
    """
    return (_crop_by_runs if images.device.type == "cpu" else _crop_by_index)(images, tops, lefts, out)


def _crop_by_runs(images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    # A row of a window is one run of bytes. All runs that there could be are a view, from which the rows are copied.
    count, height, width, channels = out.shape
    run = width * channels
    runs = images.view(-1).as_strided((images.numel() - run + 1, run), (1, 1))
    ys = torch.arange(count)[:, None] * images.shape[1] + tops[:, None] + torch.arange(height)
    starts = (ys * images.shape[2] + lefts[:, None]) * channels
    torch.index_select(runs, 0, starts.flatten(), out=out.view(-1, run))
    return out


def _crop_by_index(images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    count, height, width, _ = out.shape
    numbers, ys, xs = (torch.arange(size, device=images.device) for size in (count, height, width))
    tops, lefts = (move(places, images.device)[:, None] for places in (tops, lefts))
    return images[numbers[:, None, None], (tops + ys)[:, :, None], (lefts + xs)[:, None, :]]


@functools.lru_cache(maxsize=32)
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return three numbers as (3, 1, 1) on the device; kept, since to move them anew would make a GPU wait."""
    return torch.tensor(values, device=device).view(3, 1, 1)
