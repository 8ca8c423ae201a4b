"""What fills a batch with pixels at the network's size: rows of decoded images, or pieces of stored ones, in any style."""
from __future__ import annotations

__all__ = ["PieceReader", "Reader", "RowReader"]

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from torchreid_nas.data.cache import DecodedImages, StoredImages
from torchreid_nas.data.camstyle.dataset import CameraStyleDataset
from torchreid_nas.data.dataset import CrossModalityDataset, read_pixels
from torchreid_nas.data.resize import resize_pixels
from torchreid_nas.data.transforms import RandomSizedRectCrop

# Bytes of pixels up to which the files of camera styles are decoded once.
_MOST_OF_FILES = 2**32


class Reader(Protocol):
    """Brings images of a data set into a batch; what is random of it is drawn before, in the loader's own thread.

    Attributes:
        size: (height, width) of the batch.
    """

    size: tuple[int, int]

    def open(self) -> None:
        """Have all images decoded that are not yet.

        Raises:
            InputError: an image is missing or broken, or the decoded images cannot be written.
        """

    def draw(self, indices: Sequence[int], generator: torch.Generator) -> list[Any]:
        """Draw what is random for these images of the data set, one value for each."""

    def fill(self, indices: Sequence[int], drawn: Sequence[Any], out: np.ndarray) -> None:
        """Write the images to ``out``, uint8 (B, H, W, 3); is called from several threads at once.

        Raises:
            InputError: an image that is read only now is missing or broken.
        """

    def labels(self, drawn: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return what a batch has beside the data set's own labels."""


class RowReader:
    """Copies images that are decoded at the network's size."""

    def __init__(self, images: DecodedImages, dataset: CrossModalityDataset) -> None:
        self.size = images.height, images.width
        self._images = images
        self._rows = images.rows(item[0] for item in dataset.data)

    def open(self) -> None:
        """See :meth:`Reader.open`."""
        self._images.open()

    def draw(self, indices: Sequence[int], generator: torch.Generator) -> list[None]:
        """See :meth:`Reader.draw`."""
        return [None] * len(indices)

    def fill(self, indices: Sequence[int], drawn: Sequence[None], out: np.ndarray) -> None:
        """See :meth:`Reader.fill`."""
        # With another mode NumPy goes through a buffer of its own; the rows are known to be there.
        np.take(self._images.pixels, self._rows[indices], axis=0, out=out, mode="clip")

    def labels(self, drawn: Sequence[None]) -> dict[str, torch.Tensor]:
        """See :meth:`Reader.labels`."""
        return {}


class PieceReader:
    """Styles images that are decoded as they are stored, cuts rectangles from them, and resizes these.

    For what is drawn the pixels are the plain pipeline's to the bit. Files that
    a styler reads in the place of images are decoded once too, where all of them
    take no more than 4 GiB (ours; Market-1501's take 1.5), otherwise for every batch.

    Args:
        images: decoded images that cover the data set.
        files: of the data set's styles; None where there are none.
        dataset: images, or a :class:`CameraStyleDataset` for those in the styles that it draws.
        size: (height, width) of the batch.
        rectangle: what is cut; None for whole images.
        interpolation: by which pixels are resized.
    """

    def __init__(
        self, images: StoredImages, files: StoredImages | None, dataset: CrossModalityDataset | CameraStyleDataset,
        size: tuple[int, int], rectangle: RandomSizedRectCrop | None, interpolation: str = "bilinear",
    ) -> None:
        self._interpolation = interpolation
        self.size = size
        self._images, self._files, self._rectangle, self._items = images, files, rectangle, dataset.data
        self._styles = dataset if isinstance(dataset, CameraStyleDataset) else None

    def open(self) -> None:
        """See :meth:`Reader.open`."""
        self._images.open()
        if self._files is not None and self._files.nbytes > _MOST_OF_FILES:
            self._files = None
        if self._files is not None:
            self._files.open()

    def draw(self, indices: Sequence[int], generator: torch.Generator) -> list[tuple]:
        """Return for each image its style and the numbers of its rectangle; None for what there is not."""
        nothing = [None] * len(indices)
        styles = [self._styles.draw(index, generator) for index in indices] if self._styles else nothing
        return list(zip(styles, self._rectangle.draw(len(indices), generator) if self._rectangle else nothing))

    def fill(self, indices: Sequence[int], drawn: Sequence[tuple], out: np.ndarray) -> None:
        """See :meth:`Reader.fill`."""
        styles, rectangles = zip(*drawn)
        if self._styles:
            images = self._styles.pixels_of(indices, styles, self._read)
        else:
            images = [self._images.find(self._items[index][0]) for index in indices]
        for pixels, numbers, place in zip(images, rectangles, out):
            if numbers is not None and self._rectangle is not None:
                height, width, _ = pixels.shape
                top, left, height, width = self._rectangle.rectangle(width, height, numbers)
                pixels = pixels[top:top + height, left:left + width]
            resize_pixels(pixels, place, self._interpolation)

    def labels(self, drawn: Sequence[tuple]) -> dict[str, torch.Tensor]:
        """See :meth:`Reader.labels`."""
        return {"style_camid": torch.tensor([style.camid for style, _ in drawn])} if self._styles else {}

    def _read(self, path: str) -> np.ndarray:
        pixels = self._images.find(path)
        if pixels is None and self._files is not None:
            pixels = self._files.find(path)
        return read_pixels(path) if pixels is None else pixels
