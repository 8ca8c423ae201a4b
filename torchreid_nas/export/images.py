"""Images for checks and calibration: from a folder, from the data of a run, or random."""
from __future__ import annotations

__all__ = ["ImagePool", "normalise", "random_images"]

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from torchreid_nas.data.dataset import read_image
from torchreid_nas.data.transforms import build_cross_modality_transforms
from torchreid_nas.errors import InputError
from torchreid_nas.export.run_data import RunData
from torchreid_nas.features.media import image_suffixes


class ImagePool:
    """Real images for a model: RGB in [0, 1] at its size, (N, 3, H, W) float32.

    Args:
        height, width: of the images that the model takes, in pixels.
        folder: of image files, with all its sub-folders. Where the folder has a
            sub-folder ``visible`` or ``infrared``, the images of this modality come from there.
        run_data: the source without a folder: checks take images of the test part,
            calibration takes images of the training part.

    Attributes:
        origin: the source of the images, in words; ``""`` without a source.
        skipped: files that could not be read.

    Raises:
        InputError: the folder does not exist or holds no image.
    """

    def __init__(
        self, height: int, width: int, folder: str | os.PathLike | None = None, run_data: RunData | None = None,
    ) -> None:
        self._transform = build_cross_modality_transforms(height, width, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))[1]
        self._folder = None if folder is None else Path(folder).expanduser()
        self._run_data = run_data
        self.skipped: list[Path] = []
        self.origin = ""
        if self._folder is not None:
            self._files(self._folder, None)
            self.origin = f'"{folder}"'
        elif run_data is not None:
            self.origin = "the run's data"

    def take(self, count: int, modality: str | None, calibration: bool = False) -> torch.Tensor | None:
        """Return at most ``count`` images, evenly spaced over the source, or None without a source.

        Args:
            count: the largest number of images.
            modality: of the images; None for all.
            calibration: whether a run gives images of its training part, not of its test part.

        Raises:
            InputError: no image can be read.
        """
        if self._folder is not None:
            paths = self._files(self._folder, modality)
        elif self._run_data is not None:
            paths = self._run_data.train_paths(modality) if calibration else self._run_data.test_paths(modality)
        else:
            return None
        chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))]
        images = []
        for path in chosen:
            try:
                images.append(self._transform(read_image(path)))
            except InputError as error:
                if path not in self.skipped:
                    self.skipped.append(path)
                problem = error
        if not images:
            raise InputError(f"none of {len(chosen)} images from {self.origin} can be read; the last one: {problem}")
        return torch.stack(images)

    @staticmethod
    def _files(folder: Path, modality: str | None) -> list[Path]:
        if modality is not None and (folder / modality).is_dir():
            folder = folder / modality
        if not folder.is_dir():
            raise InputError(f'the folder of images "{folder}" does not exist; check --images')
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in image_suffixes() and path.is_file())
        if not found:
            raise InputError(
                f'the folder "{folder}" holds no image; check --images'
            )
        return found


def random_images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return (count, 3, H, W) values drawn uniformly from [0, 1).

    >>> random_images(2, height=4, width=2).shape
    torch.Size([2, 3, 4, 2])
    """
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normalise(images: torch.Tensor, norm_mean: Sequence[float], norm_std: Sequence[float]) -> torch.Tensor:
    """Return (images - mean) / std, channel by channel, of images (B, 3, H, W) in [0, 1].

    >>> normalise(torch.ones(1, 3, 1, 1), norm_mean=(0.5, 0.5, 0.5), norm_std=(0.25, 0.5, 1.0)).flatten().tolist()
    [2.0, 1.0, 0.5]
    """
    mean, std = (torch.tensor(list(values), device=images.device).view(1, 3, 1, 1) for values in (norm_mean, norm_std))
    return (images - mean) / std
