"""A training set with each image in the style of a random camera, for the camera invariance of ECN."""
from __future__ import annotations

__all__ = ["CameraStyleDataset", "Style"]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from torchreid_nas.data.camstyle.styler import CameraStyler
from torchreid_nas.data.dataset import CrossModalityDataset, Item, read_pixels
from torchreid_nas.data.seeding import seeded
from torchreid_nas.errors import InputError


class Style(NamedTuple):
    """A drawn style: the camera, and the number of the style where the styler has several for this camera."""

    camid: int
    drawn: int = 0


class CameraStyleDataset(Dataset[dict[str, Any]]):
    """Images in the style of a camera that is drawn uniformly from the cameras of the styler, the own camera included.

    As in ECN (Zhong et al., CVPR 2019, Section 3.3) the own camera gives the real
    image, with C cameras once in C draws. Each access draws a style with torch's
    global generator, which a ``DataLoader`` seeds in each of its workers. A loader
    of decoded images draws with a generator of its own, and styles in threads.

    ``self[i]`` is the dict of ``dataset[i]`` (``img`` after the same transform) and
    ``style_camid``; ``camid`` and ``modality`` are those of the real image.

    Args:
        dataset: the target's training images.
        styler: of the same items.

    Raises:
        InputError: the styler does not know a camera of the data set.
    """

    def __init__(self, dataset: CrossModalityDataset, styler: CameraStyler) -> None:
        unknown = {item[2] for item in dataset.data}.difference(styler.camids)
        if unknown:
            raise InputError(
                f"the camera styler knows cameras {', '.join(map(str, styler.camids))}, but the data set has images of "
                f"{', '.join(map(str, sorted(unknown)))} too; make the styler for the items of the data set"
            )
        self.dataset = dataset
        self.styler = styler

    @property
    def data(self) -> list[Item]:
        """The (path, pid, camid, dsetid) of all images, in the order of the indices."""
        return self.dataset.data

    @property
    def transform(self) -> Callable[..., Any] | None:
        """The transform of each image after styling."""
        return self.dataset.transform

    def modality_of(self, camid: int) -> int:
        """Return ``VISIBLE`` or ``INFRARED`` for a camera of the data set."""
        return self.dataset.modality_of(camid)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the item of the data set with its image in a drawn style.

        Raises:
            InputError: the image, or the image of its style, is missing or broken.
        """
        with seeded(index):
            index = range(len(self))[index]
            style = self.draw(index)
            return {**self.dataset.item_of(index, Image.fromarray(self.pixels(index, style))), "style_camid": style.camid}

    def draw(self, index: int, generator: torch.Generator | None = None) -> Style:
        """Draw a style for an image, by default with torch's global generator."""
        item = self.data[index]
        camids = self.styler.camids_of(item)
        camid = camids[int(torch.randint(len(camids), (), generator=generator))]
        return Style(camid) if camid == item[2] else Style(camid, self.styler.draw(camid, generator))

    def pixels(self, index: int, style: Style, read: Callable[[str], np.ndarray] = read_pixels) -> np.ndarray:
        """Return an image in a style, RGB as uint8 (H, W, 3) before the transform. The own camera gives the real image.

        Args:
            index: of the image, from 0.
            style: from :meth:`draw`.
            read: returns the pixels of the image at a path; several threads may call it.

        Raises:
            InputError: the image, or the image of its style, is missing or broken.
        """
        return self.pixels_of([index], [style], read)[0]

    def pixels_of(
        self, indices: Sequence[int], styles: Sequence[Style], read: Callable[[str], np.ndarray] = read_pixels,
    ) -> list[np.ndarray]:
        """Return several images, each as :meth:`pixels` returns it, at less cost."""
        items = [self.data[index] for index in indices]
        images = [read(self.styler.source(item, style.camid)) for item, style in zip(items, styles)]
        return self.styler.style_all(images, items, styles)
