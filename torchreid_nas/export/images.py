"""Images for checks and calibration: from a folder, from the data of a run, or at random."""
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
from torchreid_nas.features.images import IMAGE_SUFFIXES


class ImagePool:
    """Real images for a model: RGB in [0, 1] at its size, (N, 3, H, W) float32.

    Args:
        height, width: of the images given, in pixels.
        folder: where they come from, with all its sub-folders; where it has a
            sub-folder ``visible`` or ``infrared``, that modality's come from there.
        run_data: where they come from without a folder: checks take images of
            the test part, calibration those of the training part.

    Attributes:
        origin: where the images come from, in words; ``""`` where there are none.
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
            self._files(None)
            self.origin = f'"{folder}"'
        elif run_data is not None:
            self.origin = "the run's data"

    def take(self, count: int, modality: str | None, calibration: bool = False) -> torch.Tensor | None:
        """Return at most ``count`` images, evenly spaced over what there is, or None without a source.

        Raises:
            InputError: none of them can be read.
        """
        if not self.origin:
            return None
        if self._folder is not None:
            paths = self._files(modality)
        else:
            paths = self._run_data.train_paths(modality) if calibration else self._run_data.test_paths(modality)
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

    def _files(self, modality: str | None) -> list[Path]:
        folder = self._folder
        if modality is not None and (folder / modality).is_dir():
            folder = folder / modality
        if not folder.is_dir():
            raise InputError(f'the folder of images "{folder}" does not exist; check --images')
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if not found:
            raise InputError(
                f'the folder "{folder}" holds no image ({", ".join(IMAGE_SUFFIXES)}); check --images'
            )
        return found


def random_images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return (count, 3, H, W) values drawn evenly from [0, 1]."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normalise(images: torch.Tensor, norm_mean: Sequence[float], norm_std: Sequence[float]) -> torch.Tensor:
    """Return the images of values in [0, 1] as networks take them."""
    mean, std = (torch.tensor(list(values), device=images.device).view(1, 3, 1, 1) for values in (norm_mean, norm_std))
    return (images - mean) / std
