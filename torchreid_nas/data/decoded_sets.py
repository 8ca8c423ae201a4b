"""Which images of a manager's data sets are decoded together, and what reads them."""
from __future__ import annotations

__all__ = ["DecodedSets"]

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchreid_nas.data.augmentation import BatchTransform
from torchreid_nas.data.cache import DecodedImages, StoredImages
from torchreid_nas.data.camstyle.dataset import CameraStyleDataset
from torchreid_nas.data.dataset import CrossModalityDataset, Item
from torchreid_nas.data.readers import PieceReader, Reader, RowReader

# A data set of at most so many bytes is decoded as a whole, so that RegDB's ten trials share one file.
_WHOLE = 2**30


class DecodedSets:
    """Sets of images that may be read decoded, at the network's size or as they are stored; nothing is decoded here.

    Args:
        height, width: of the network's input, in pixels.
        root, folders, interpolation: see :class:`DecodedImages`.
    """

    def __init__(
        self, height: int, width: int, root: str | os.PathLike, folders: Sequence[Path], interpolation: str = "bilinear",
    ) -> None:
        self._size, self._root, self._folders, self._interpolation = (height, width), root, folders, interpolation
        self._sets: list[tuple[DecodedImages, StoredImages]] = []

    def add(self, datasets: Iterable[CrossModalityDataset], items: Iterable[Item]) -> None:
        """Have these images of data sets decoded, or all of small ones, when a reader first reads one of them."""
        whole = self._at_size(
            item[0] for data in datasets for item in [*data.train, *data.left_out, *data.query, *data.gallery_pool]
        )
        images = whole if whole.nbytes <= _WHOLE else self._at_size(item[0] for item in items)
        if not any(other.covers(images.paths) for other, _ in self._sets):
            self._sets.append((images, StoredImages(images.paths, self._root, self._folders)))

    def reader(
        self, dataset: CrossModalityDataset | CameraStyleDataset, transform: BatchTransform | None,
    ) -> Reader | None:
        """Return what reads a data set for a batched transform; None where there is none, or images were not added."""
        paths = [item[0] for item in dataset.data]
        found = next((kinds for kinds in self._sets if kinds[0].covers(paths)), None)
        if transform is None or found is None or transform.interpolation != self._interpolation:
            return None
        at_size, stored = found
        if transform.rectangle is None and isinstance(dataset, CrossModalityDataset):
            return RowReader(at_size, dataset)
        return PieceReader(
            stored, self._files(dataset), dataset, self._size, transform.rectangle, self._interpolation
        )

    def _files(self, dataset: CrossModalityDataset | CameraStyleDataset) -> StoredImages | None:
        """Return the files of a data set's styles, if it has some."""
        if isinstance(dataset, CrossModalityDataset):
            return None
        paths = [path for item in dataset.data for path in dataset.styler.files_of(item)]
        return StoredImages(paths, self._root, self._folders) if paths else None

    def _at_size(self, paths: Iterable[str]) -> DecodedImages:
        return DecodedImages(paths, *self._size, self._root, self._folders, self._interpolation)
