"""Features of images with the paths and labels that belong to them, and their file."""
from __future__ import annotations

__all__ = ["FeatureSet", "check_npz"]

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.features.labels import NO_LABEL
from torchreid_nas.files import atomic_path, check_archive

# For each array: its dimensions, the kinds of its type, and the words of the message.
_ARRAYS = {
    "features": (2, "f", "floating-point numbers"), "paths": (1, "U", "text"), "labels": (1, "U", "text"),
    "camids": (1, "iu", "whole numbers"), "model": (0, "U", "text"), "modality": (0, "U", "text"),
}
# Files of earlier versions have none of these.
_LATER = {"fingerprint": (0, "U", "text"), "files": (1, "U", "text")}
_IN_MEMORY = re.compile(r"image \d+")


def check_npz(path: str | os.PathLike[str], what: str = "the file for features") -> None:
    """Raise InputError where ``what`` does not end with .npz, which NumPy would silently add."""
    if Path(path).suffix != ".npz":
        raise InputError(f'{what} is "{path}", expected a name that ends with .npz')


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """N features with the names, labels and model that belong to them.

    Attributes:
        features: (N, D) float32 on the CPU.
        paths: N paths; ``path#frame`` for a video's frames.
        labels: N identities as text, ``""`` where unknown; see :func:`read_label`.
        camids: (N,) int64, 0-based cameras, -1 where unknown.
        model: name of the model that made them.
        modality: ``"visible"``, ``"infrared"``, or ``""`` for models of one modality.
        fingerprint: of the model, see :class:`torchreid_nas.checkpoints.trained.TrainedModel`; ``""`` where unknown.
        files: N paths from the root, with links resolved, by which an image is known again; ``""`` for images
            without a file. Default: what ``paths`` mean in the current folder.

    Example:
        >>> part = FeatureSet(torch.eye(2), ("7/a.jpg", "8/b.jpg"), ("7", "8"), np.array([-1, -1]))
        >>> len(part), part.pids.tolist(), sorted(part.known_identities())
        (2, [7, 8], ['7', '8'])
    """

    features: torch.Tensor
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    camids: np.ndarray
    model: str = ""
    modality: str = ""
    fingerprint: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.files:
            files = tuple("" if _IN_MEMORY.fullmatch(path) else os.path.realpath(path) for path in self.paths)
            object.__setattr__(self, "files", files)

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def concatenate(cls, parts: Sequence[FeatureSet]) -> FeatureSet:
        """Return the parts, at least one and of one model and modality, as one."""
        return cls(
            torch.cat([part.features for part in parts]), tuple(path for part in parts for path in part.paths),
            tuple(label for part in parts for label in part.labels),
            np.concatenate([part.camids for part in parts]), parts[0].model, parts[0].modality, parts[0].fingerprint,
            tuple(file for part in parts for file in part.files),
        )

    def take(self, chosen: Sequence[int]) -> FeatureSet:
        """Return the chosen features, 0-based, in that order."""
        texts = [tuple(column[index] for index in chosen) for column in (self.paths, self.labels, self.files)]
        return FeatureSet(
            self.features[list(chosen)], texts[0], texts[1], self.camids[list(chosen)], self.model, self.modality,
            self.fingerprint, texts[2],
        )

    def blocks(self, size: int) -> list[FeatureSet]:
        """Return views of ``size`` features each, the last one of what is left."""
        spans = [slice(start, start + size) for start in range(0, len(self), size)]
        return [
            FeatureSet(
                self.features[span], self.paths[span], self.labels[span], self.camids[span], self.model, self.modality,
                self.fingerprint, self.files[span],
            )
            for span in spans
        ]

    @property
    def pids(self) -> np.ndarray:
        """(N,) int64: labels that are numbers of at most 63 bits, as torchreid's pids; -1 for all other labels."""
        numbers = (int(label) if label.isdecimal() else -1 for label in self.labels)
        return np.array([number if number < 2**63 else -1 for number in numbers], dtype=np.int64)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an ``.npz`` of the attributes and :attr:`pids` in one step and return its path.

        Raises:
            InputError: the name does not end with .npz, or the file cannot be written.
        """
        check_npz(path)
        path = Path(path)
        with atomic_path(path) as temporary:
            np.savez(
                temporary, features=self.features.numpy(), paths=np.array(self.paths, dtype=str),
                labels=np.array(self.labels, dtype=str), pids=self.pids, camids=self.camids,
                model=np.array(self.model), modality=np.array(self.modality),
                fingerprint=np.array(self.fingerprint), files=np.array(self.files, dtype=str),
            )
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeatureSet:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, truncated, or of other content.
        """
        if not Path(path).is_file():
            what = "are no regular file" if Path(path).exists() else "do not exist"
            raise InputError(f'the features "{path}" {what}; check the path')
        check_archive(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in (*_ARRAYS, *_LATER) if name in file}
        except Exception as error:  # NumPy's readers of archives and headers fail on damage in ways of their own
            raise InputError(
                f'the features "{path}" are truncated or no .npz file; extract them again (torchreid-nas features)'
            ) from error
        for name, (ndim, kinds, expected) in (_ARRAYS | _LATER).items():
            if name not in arrays and name in _ARRAYS:
                raise InputError(
                    f'the file "{path}" has no array "{name}" as `torchreid-nas features` writes it; extract them again'
                )
            if name in arrays and (arrays[name].ndim != ndim or arrays[name].dtype.kind not in kinds):
                raise InputError(
                    f'the features "{path}" hold an array "{name}" of {arrays[name].ndim} dimensions and type '
                    f"{arrays[name].dtype}, expected {ndim} and {expected}; extract them again (torchreid-nas features)"
                )
        lengths = {len(array) for array in arrays.values() if array.ndim}
        if lengths == {0} or len(lengths) > 1 or not np.isfinite(arrays["features"]).all():
            raise InputError(
                f'the features "{path}" hold no feature, one that is not finite, or lists of different lengths; '
                "extract them again (torchreid-nas features)"
            )
        return cls(
            torch.from_numpy(arrays["features"].astype(np.float32)), tuple(map(str, arrays["paths"])),
            tuple(map(str, arrays["labels"])), arrays["camids"].astype(np.int64), str(arrays["model"]),
            str(arrays["modality"]), str(arrays.get("fingerprint", "")), tuple(map(str, arrays.get("files", ()))),
        )

    def known_identities(self) -> set[str]:
        """Return the identities that occur."""
        return set(self.labels) - {NO_LABEL}
