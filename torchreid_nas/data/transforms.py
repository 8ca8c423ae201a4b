"""Augmentation of cross-modality training by name, as in torchreid, with the recipe of CM-NAS."""
from __future__ import annotations

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "TRANSFORMS", "RandomSizedRectCrop", "build_cross_modality_transforms"]

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torchreid
from PIL import Image
from torchvision import transforms as T

from torchreid_nas.errors import InputError, nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TRANSFORMS = (
    "random_sized_rect_crop", "pad_crop", "random_crop", "random_flip", "random_patch", "color_jitter", "random_erase",
)
PADDING = 10


def build_cross_modality_transforms(
    height: int,
    width: int,
    transforms: str | Sequence[str] | None = ("pad_crop", "random_flip", "random_erase"),
    norm_mean: Sequence[float] | None = None,
    norm_std: Sequence[float] | None = None,
) -> tuple[T.Compose, T.Compose]:
    """Build the transforms of training and of testing; PIL image -> float32 tensor (3, height, width).

    Names are torchreid's plus ``pad_crop`` and ``random_sized_rect_crop``
    (ECN's recipe, see :class:`RandomSizedRectCrop`); the default is the recipe
    of CM-NAS (ICCV 2021, authors' code): pad by 10 pixels and crop, flip, and
    erase with probability 0.5 an area of 2 to 40 %. The erased area takes the
    *value* of ``norm_mean`` after normalisation, as theirs and torchreid's do.
    The order is fixed: resize, crop, flip, patch, jitter, tensor, normalise,
    erase; the rectangle is cut from the image as it is stored and resized, so
    it takes the place of the first step.

    Args:
        height: of the network's input, in pixels.
        width: of the network's input, in pixels.
        transforms: names from ``TRANSFORMS``; None for no augmentation.
        norm_mean: of the RGB channels; default ImageNet's.
        norm_std: of the RGB channels; default ImageNet's.

    Raises:
        InputError: unknown name, or a size or statistic out of range.
    """
    names = [transforms] if isinstance(transforms, str) else list(transforms or [])
    for name in names:
        if name not in TRANSFORMS:
            raise InputError(
                f'there is no transform "{name}", expected names from {", ".join(TRANSFORMS)}'
                f"{nearest(name, TRANSFORMS)}"
            )
    if height < 1 or width < 1:
        raise InputError(f"the image size is {height}x{width} (height x width), expected at least 1x1")
    mean = list(IMAGENET_MEAN if norm_mean is None else norm_mean)
    std = list(IMAGENET_STD if norm_std is None else norm_std)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(
            f"norm_mean is {mean} and norm_std {std}, expected three numbers each and positive deviations"
        )

    resize = T.Resize((height, width))
    normalize = [T.ToTensor(), T.Normalize(mean, std)]
    pieces = torchreid.data.transforms
    train = [RandomSizedRectCrop(height, width) if "random_sized_rect_crop" in names else resize]
    if "pad_crop" in names:
        train.append(T.RandomCrop((height, width), padding=PADDING))
    if "random_crop" in names:
        train.append(pieces.Random2DTranslation(height, width))
    if "random_flip" in names:
        train.append(T.RandomHorizontalFlip())
    if "random_patch" in names:
        train.append(pieces.RandomPatch())
    if "color_jitter" in names:
        train.append(T.ColorJitter(brightness=0.2, contrast=0.15, saturation=0, hue=0))
    train += normalize
    if "random_erase" in names:
        train.append(pieces.RandomErasing(mean=mean))
    return T.Compose(train), T.Compose([resize, *normalize])


class RandomSizedRectCrop:
    """Cut a random upright rectangle and resize it, bilinearly; PIL image -> PIL image of ``width`` x ``height``.

    The recipe of ECN (Zhong et al., CVPR 2019, authors' code): the area is a
    share of the image's uniform in 0.64 to 1, the height uniform in 2 to 3
    times the width. Of ten draws the first that fits is taken; if none does,
    the whole image is resized. Draws come from torch's global generator.

    torchvision's ``RandomResizedCrop`` draws the ratio uniformly on a
    logarithmic scale, and falls back on a central crop.

    Whole batches are drawn ahead, before the sizes of their images are known:
    :meth:`draw` gives the numbers that :meth:`rectangle` then goes by.
    """

    SHARES = (0.64, 1.0)
    RATIOS = (2.0, 3.0)
    ATTEMPTS = 10

    def __init__(self, height: int, width: int):
        self.height = height
        self.width = width

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut and resize one image."""
        top, left, height, width = self.rectangle(*image.size)
        return T.functional.resized_crop(image, top, left, height, width, [self.height, self.width])

    def draw(self, count: int, generator: torch.Generator | None = None) -> list[list[float]]:
        """Draw for each of ``count`` images as many numbers, uniform from 0 to below 1, as a rectangle takes at most."""
        return torch.rand(count, 2 * self.ATTEMPTS + 2, generator=generator, dtype=torch.float64).tolist()

    def rectangle(self, width: int, height: int, numbers: Iterable[float] | None = None) -> tuple[int, int, int, int]:
        """Return a random (top, left, height, width) in an image of ``width`` x ``height`` pixels.

        ``numbers`` are a row of :meth:`draw`; by default they are drawn here.
        """
        unit, below = _drawn_now() if numbers is None else _drawn_before(numbers)
        for _ in range(self.ATTEMPTS):
            area = width * height * _between(*self.SHARES, unit())
            ratio = _between(*self.RATIOS, unit())
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h <= height and 0 < w <= width:
                top, left = (below(room + 1) for room in (height - h, width - w))
                return top, left, h, w
        return 0, 0, height, width


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _drawn_now() -> tuple[Callable[[], float], Callable[[int], int]]:
    """Return two draws from torch's global generator: from 0 to below 1, and a whole number below another."""
    return lambda: torch.rand(()).item(), lambda count: int(torch.randint(count, ()))


def _drawn_before(numbers: Iterable[float]) -> tuple[Callable[[], float], Callable[[int], int]]:
    """The same, taken from uniform numbers."""
    numbers = iter(numbers)
    return numbers.__next__, lambda count: int(next(numbers) * count)
