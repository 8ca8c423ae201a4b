"""Augmentation for classification by name: the recipes of CDNet's authors for ImageNet and CIFAR."""
from __future__ import annotations

__all__ = ["CLASS_TRANSFORMS", "Cutout", "build_class_transforms"]

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import transforms as T

from torchreid_nas.data.transforms import ERASING, INTERPOLATIONS, Erasing, RandomErase
from torchreid_nas.errors import InputError, nearest

CLASS_TRANSFORMS = ("resized_crop", "random_flip", "pad_crop", "color_jitter", "cutout", "random_erase")
"""The names, in the order in which they act."""


class Cutout:
    """Set a square of an image to zero (DeVries and Taylor, 2017), after normalisation: to the mean of the channels.

    The centre is uniform over the pixels. The square is cut off at the borders of the image.

    Args:
        length: side of the square, in pixels.

    Example:
        >>> image = Cutout(4)(torch.ones(3, 8, 8))
        >>> 4 <= int((image[0] == 0).sum()) <= 16
        True
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Cut in a copy of an image, (3, H, W); the centre comes from torch's global generator."""
        height, width = image.shape[1:]
        half = self.length // 2
        row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
        image = image.clone()
        image[:, max(row - half, 0):row + half, max(column - half, 0):column + half] = 0
        return image


def build_class_transforms(
    height: int, width: int, names: Sequence[str], norm_mean: Sequence[float], norm_std: Sequence[float],
    interpolation: str = "bilinear", padding: int = 4, cutout: int = 16, resize: int = 0, erasing: Erasing = ERASING,
) -> tuple[T.Compose, T.Compose]:
    """Return the transforms of training and of test: PIL image -> float32 tensor (3, height, width).

    Args:
        height: of the network's input, in pixels.
        width: of the network's input, in pixels.
        names: of :data:`CLASS_TRANSFORMS`. ``resized_crop`` takes the place of resizing: torchvision's
            ``RandomResizedCrop``, 8 to 100 % of the image at a ratio from 3/4 to 4/3.
        norm_mean: of the RGB channels, in [0, 1].
        norm_std: of the RGB channels, in [0, 1].
        interpolation: by which images are resized.
        padding: of ``pad_crop``, in pixels, black.
        cutout: side of the square of ``cutout``, in pixels.
        resize: shorter side of test images before the central crop, in pixels; 0 resizes them to height and width.
        erasing: which rectangles ``random_erase`` erases.

    Raises:
        InputError: an unknown name, or a test size below the input.

    Example:
        >>> from PIL import Image
        >>> train, test = build_class_transforms(16, 16, ["random_flip", "pad_crop"], [0.5] * 3, [0.5] * 3)
        >>> train(Image.new("RGB", (32, 32))).shape, test(Image.new("RGB", (20, 40))).shape
        (torch.Size([3, 16, 16]), torch.Size([3, 16, 16]))
    """
    unknown = next((name for name in names if name not in CLASS_TRANSFORMS), None)
    if unknown is not None:
        raise InputError(
            f'there is no transform "{unknown}" for task classification, expected names from {", ".join(CLASS_TRANSFORMS)}'
            f"{nearest(unknown, CLASS_TRANSFORMS)}"
        )
    if resize and resize < max(height, width):
        raise InputError(
            f"classification.resize is {resize}, expected at least the input of {height}x{width} that is cropped from it, or 0"
        )
    filtered, size = INTERPOLATIONS[interpolation], (height, width)
    steps: list[Any] = [
        T.RandomResizedCrop(size, interpolation=filtered) if "resized_crop" in names else T.Resize(size, filtered)
    ]
    if "random_flip" in names:
        steps.append(T.RandomHorizontalFlip())
    if "pad_crop" in names:
        steps.append(T.RandomCrop(size, padding=padding))
    if "color_jitter" in names:
        steps.append(T.ColorJitter(brightness=0.2, contrast=0.15, saturation=0, hue=0))
    as_tensor = [T.ToTensor(), T.Normalize(list(norm_mean), list(norm_std))]
    steps += as_tensor
    if "cutout" in names:
        steps.append(Cutout(cutout))
    if "random_erase" in names:
        steps.append(RandomErase(erasing, norm_mean))
    tested: list[Any] = [T.Resize(resize, filtered), T.CenterCrop(size)] if resize else [T.Resize(size, filtered)]
    return T.Compose(steps), T.Compose([*tested, *as_tensor])
