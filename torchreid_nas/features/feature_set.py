"""Features of images with the paths and labels that belong to them, and their file."""
from __future__ import annotations

__all__ = ["FeatureSet", "check_npz"]

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.features.labels import NO_LABEL
from torchreid_nas.files import atomic_path

_ARRAYS = {"features": 2, "paths": 1, "labels": 1, "camids": 1, "model": 0, "modality": 0}
# Files of versions before have none.
_FINGERPRINT = "fingerprint"


def check_npz(path: str | os.PathLike[str], what: str = "the file for features") -> None:
    """Raise InputError where ``what`` does not end with .npz, which NumPy would silently add."""
    if Path(path).suffix != ".npz":
        raise InputError(f'{what} is "{path}", expected a name that ends with .npz')


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """N features and where they come from.

    Attributes:
        features: (N, D) float32 on the CPU.
        paths: N paths; ``path#frame`` for a video's frames.
        labels: N identities as text, ``""`` where unknown; see :func:`read_label`.
        camids: (N,) int64, 0-based cameras, -1 where unknown.
        model: name of the model that made them.
        modality: ``"visible"``, ``"infrared"``, or ``""`` for models of one modality.
        fingerprint: of the model, see :class:`torchreid_nas.checkpoints.trained.TrainedModel`; ``""`` where unknown.
    """

    features: torch.Tensor
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    camids: np.ndarray
    model: str = ""
    modality: str = ""
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def concatenate(cls, parts: Sequence[FeatureSet]) -> FeatureSet:
        """Return the parts, at least one and of one model and modality, as one."""
        return cls(
            torch.cat([part.features for part in parts]), tuple(path for part in parts for path in part.paths),
            tuple(label for part in parts for label in part.labels),
            np.concatenate([part.camids for part in parts]), parts[0].model, parts[0].modality, parts[0].fingerprint,
        )

    def blocks(self, size: int) -> list[FeatureSet]:
        """Return views of ``size`` features each, the last one of what is left."""
        spans = [slice(start, start + size) for start in range(0, len(self), size)]
        return [
            FeatureSet(
                self.features[span], self.paths[span], self.labels[span], self.camids[span], self.model, self.modality,
                self.fingerprint,
            )
            for span in spans
        ]

    @property
    def pids(self) -> np.ndarray:
        """(N,) int64: labels that are numbers as torchreid's pids, -1 for all others, those beyond 64 bits among them."""
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
                fingerprint=np.array(self.fingerprint),
            )
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeatureSet:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, truncated, or of other content.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [name for name, ndim in _ARRAYS.items() if name not in file or file[name].ndim != ndim]
                arrays = {} if missing else {name: file[name] for name in _ARRAYS}
                fingerprint = str(file[_FINGERPRINT]) if _FINGERPRINT in file else ""
        except FileNotFoundError as error:
            raise InputError(f'the features "{path}" do not exist; check the path') from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f'the features "{path}" are truncated or no .npz file; extract them again (torchreid-nas features)'
            ) from error
        if missing:
            raise InputError(
                f'the file "{path}" has no array "{missing[0]}" as `torchreid-nas features` writes it; '
                "extract them again"
            )
        lengths = {len(arrays[name]) for name, ndim in _ARRAYS.items() if ndim}
        if lengths == {0} or len(lengths) > 1 or not np.isfinite(arrays["features"]).all():
            raise InputError(
                f'the features "{path}" hold no feature, one that is not finite, or lists of different lengths; '
                "extract them again (torchreid-nas features)"
            )
        return cls(
            torch.from_numpy(arrays["features"].astype(np.float32)), tuple(map(str, arrays["paths"])),
            tuple(map(str, arrays["labels"])), arrays["camids"].astype(np.int64), str(arrays["model"]),
            str(arrays["modality"]), fingerprint,
        )

    def known_identities(self) -> set[str]:
        """Return the identities that occur."""
        return set(self.labels) - {NO_LABEL}
