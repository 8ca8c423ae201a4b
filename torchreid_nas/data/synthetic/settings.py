"""What a synthetic data set depends on: one frozen value, checked on creation, stored beside the files."""
from __future__ import annotations

__all__ = ["COMMON_SETTINGS", "SyntheticSettings", "domain_seed", "generator"]

import numbers
from dataclasses import dataclass, fields

import numpy as np

from torchreid_nas.errors import InputError

# Inclusive range of every setting. Four-digit folder names limit the numbers
# of identities and of images; below 32 x 16 pixels nothing of a person is left.
_RANGES: dict[str, tuple[float, float]] = {
    "identities": (4, 9999),
    "images": (1, 9999),
    "height": (32, 1024),
    "width": (16, 512),
    "gap": (0.0, 2.0),
    "difficulty": (0.0, 1.0),
    "seed": (0, 2**32 - 1),
    "trials": (1, 1000),
    # A query needs another camera to be found in; file names have one digit for it.
    "cameras": (2, 9),
}

# What every layout depends on; its writer adds what it alone does.
COMMON_SETTINGS = ("identities", "images", "height", "width", "difficulty", "seed")


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of the generator; equal settings give byte-identical files.

    Attributes:
        identities: number of persons.
        images: images per identity and modality (RegDB) or camera (all others).
        height, width: size of the stored images in pixels.
        gap: how far the infrared sensor is from the visible one. 0: unit gain,
            no offset, full pattern contrast; 1: gain 0.25, clearly darker,
            patterns fainter; values above 1 go on in the same direction.
        difficulty: 0 to 1; scales what changes between images of one person
            (view, gait, box, light, noise, blur, occlusion) and how alike
            different persons are in what both sensors see, their shape and
            patterns. Colours do not get more alike: they help within a
            modality and mislead across.
        seed: of everything. Person ``i`` is the same for every number of
            identities, and so is each of its images.
        trials: RegDB's train/test splits, and at least ten gallery draws in
            SYSU-MM01's ``rand_perm_cam.mat``.
        cameras: of Market-1501, which holds at most six, and DukeMTMC-reID, at
            most eight: each uses as many as it holds. Both have no use for
            ``gap`` and ``trials``.

    Raises:
        InputError: a value of the wrong type or out of its range.
    """

    identities: int = 200
    images: int = 10
    height: int = 128
    width: int = 64
    gap: float = 0.7
    difficulty: float = 0.5
    seed: int = 0
    trials: int = 10
    cameras: int = 6

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = isinstance(field.default, int)
            kind = numbers.Integral if whole else numbers.Real
            low, high = _RANGES[field.name]
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise InputError(
                    f"synthetic data: {field.name}={value!r} must be {'a whole' if whole else 'a'} number "
                    f"from {low} to {high}; choose one in that range"
                )
            # NumPy scalars become plain numbers, so that settings compare and store as JSON.
            object.__setattr__(self, field.name, int(value) if whole else float(value))


def generator(seed: int, stream: str, *indices: int) -> np.random.Generator:
    """Return the random generator of one purpose, independent of every other one.

    Args:
        seed: the seed of the settings.
        stream: the purpose, e.g. ``"person"`` or ``"image"``.
        indices: which person, camera, image, ... of that purpose.
    """
    return np.random.default_rng([seed, *stream.encode(), *indices])


def domain_seed(seed: int, domain: str) -> int:
    """Return the seed of one domain: persons, cameras and places drawn from it are those of no other domain.

    Args:
        seed: the seed of the settings.
        domain: torchreid's name of the data set, e.g. ``"market1501"``.
    """
    return int(generator(seed, domain).integers(2**32))
