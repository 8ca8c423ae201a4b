"""Augmentation of cross-modality training by name, as in torchreid, with the recipe of CM-NAS."""
from __future__ import annotations

__all__ = [
    "ERASING", "IMAGENET_MEAN", "IMAGENET_STD", "INTERPOLATIONS", "TRANSFORMS", "Erasing", "RandomErase", "RandomSizedRectCrop",
    "build_cross_modality_transforms",
]

import dataclasses
import math
import random
from collections.abc import Callable, Iterable, Sequence

import torch
import torchreid
from PIL import Image
from torchvision import transforms as T

from torchreid_nas.data.channels import UNCHANGED_CHANNELS, Channels, StreamedCompose
from torchreid_nas.errors import InputError, nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TRANSFORMS = (
    "random_sized_rect_crop", "pad_crop", "random_crop", "random_flip", "random_patch", "color_jitter", "random_erase",
)
PADDING = 10
INTERPOLATIONS = {
    name: T.InterpolationMode(name) for name in ("bilinear", "bicubic", "lanczos")
}
"""Filters by which images are resized, by the names of the config; all are Pillow's."""


@dataclasses.dataclass(frozen=True)
class Erasing:
    """Which rectangles ``random_erase`` erases; the defaults are CM-NAS's and torchreid's.

    Args:
        probability: share of the images in which a rectangle is erased.
        area: smallest and largest share of the image; ECN's are 0.02 and 0.2.
        aspect: smallest and largest height over width; ECN's are 0.3 and 3.
        fill: values that the three channels of an erased pixel take after normalisation; empty for ``norm_mean``.
            CAJ's channel erasing has 0.4914, 0.4822, 0.4465.
    """

    probability: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    fill: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for key, value, valid, expected in (
            ("probability", self.probability, 0 <= self.probability <= 1, "between 0 and 1"),
            ("area", self.area, 0 < self.area[0] <= self.area[1] < 1, "two rising values above 0 and below 1"),
            ("aspect", self.aspect, 0 < self.aspect[0] <= self.aspect[1], "two rising values above 0"),
            ("fill", self.fill, len(self.fill) in (0, 3), "three values, or none for data.norm_mean"),
        ):
            if not valid:
                raise InputError(f"data.random_erase.{key} is {value}, expected {expected}")


ERASING = Erasing()


def build_cross_modality_transforms(
    height: int,
    width: int,
    transforms: str | Sequence[str] | None = ("pad_crop", "random_flip", "random_erase"),
    norm_mean: Sequence[float] | None = None,
    norm_std: Sequence[float] | None = None,
    interpolation: str = "bilinear",
    erasing: Erasing = ERASING,
    channels: Channels = UNCHANGED_CHANNELS,
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
        interpolation: of all resizing, one of :data:`INTERPOLATIONS`. CM-NAS, AGW and DDAG resize by ``"lanczos"``, ECN
            by ``"bicubic"``, torchreid by ``"bilinear"``.
        erasing: which rectangles ``random_erase`` erases.
        channels: what becomes of the channels of training images, after erasing; see :class:`Channels`.

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

    if interpolation not in INTERPOLATIONS:
        raise InputError(
            f'data.interpolation is "{interpolation}", expected one of {", ".join(INTERPOLATIONS)}'
            f"{nearest(interpolation, INTERPOLATIONS)}"
        )
    resize = T.Resize((height, width), INTERPOLATIONS[interpolation])
    normalize = [T.ToTensor(), T.Normalize(mean, std)]
    pieces = torchreid.data.transforms
    train = [RandomSizedRectCrop(height, width, interpolation) if "random_sized_rect_crop" in names else resize]
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
        train.append(RandomErase(erasing, erasing.fill or mean))
    test = T.Compose([resize, *normalize])
    return (StreamedCompose(train, channels) if channels.change else T.Compose(train)), test


class RandomErase(torchreid.data.transforms.RandomErasing):
    """torchreid's ``RandomErasing`` (Zhong et al., AAAI 2020), with bounds of the aspect ratio that are free.

    torchreid's upper bound is always one over the lower. Draws come from
    Python's global generator, in torchreid's order.

    Args:
        erasing: which rectangles.
        fill: values of the three channels of an erased pixel.
    """

    def __init__(self, erasing: Erasing, fill: Sequence[float]) -> None:
        low, high = erasing.aspect
        super().__init__(erasing.probability, *erasing.area, low, list(fill))
        self.r2 = high

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Erase in an image, float32 (3, H, W), in place."""
        if random.uniform(0, 1) > self.probability:
            return img
        _, height, width = img.shape
        for _ in range(100):
            area = random.uniform(self.sl, self.sh) * (height * width)
            aspect = random.uniform(self.r1, self.r2)
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top, left = random.randint(0, height - h), random.randint(0, width - w)
                for channel, value in zip(img, self.mean):
                    channel[top:top + h, left:left + w] = value
                break
        return img


class RandomSizedRectCrop:
    """Cut a random upright rectangle and resize it; PIL image -> PIL image of ``width`` x ``height``.

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

    def __init__(self, height: int, width: int, interpolation: str = "bilinear"):
        self.height = height
        self.width = width
        self.interpolation = INTERPOLATIONS[interpolation]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut and resize one image."""
        top, left, height, width = self.rectangle(*image.size)
        return T.functional.resized_crop(image, top, left, height, width, [self.height, self.width], self.interpolation)

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
