"""The settings of a synthetic data set: one frozen value, checked on creation, stored beside the files."""
from __future__ import annotations

__all__ = ["COMMON_SETTINGS", "SyntheticSettings", "domain_seed", "generator"]

import numbers
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError

# Inclusive range of every setting. Folder names of four digits limit the numbers
# of identities and of images. Below 32 x 16 pixels nothing of a person is left.
_RANGES: dict[str, tuple[float, float]] = {
    "identities": (4, 9999),
    "images": (1, 9999),
    "height": (32, 1024),
    "width": (16, 512),
    "gap": (0.0, 2.0),
    "difficulty": (0.0, 1.0),
    "seed": (0, 2**32 - 1),
    "trials": (1, 1000),
    # A query needs matches in another camera. File names have one digit for the camera.
    "cameras": (2, 9),
}

# The settings of every layout. The writer of a layout adds the settings of this layout alone.
COMMON_SETTINGS = ("identities", "images", "height", "width", "difficulty", "seed")


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of the generator; equal settings give byte-identical files.

    Attributes:
        identities: number of persons.
        images: images per identity and modality (RegDB), sensor (LLCM) or camera (all others).
        height, width: size of the stored images in pixels.
        gap: distance of the infrared sensor from the visible one. 0: unit gain,
            no offset, full pattern contrast. 1: gain 0.25, clearly darker,
            fainter patterns. Values above 1 go on in the same direction.
        difficulty: 0 to 1. Scales the changes between images of one person (view,
            gait, box, light, noise, blur, occlusion), and the likeness of different
            persons in what both sensors see, shape and patterns. Colours do not
            become more alike: colours help within a modality and mislead across.
        seed: of every draw. Person ``i``, and each of its images, is the same for
            every number of identities.
        trials: train/test splits of RegDB, and gallery draws (at least ten) in
            ``rand_perm_cam.mat`` of SYSU-MM01.
        cameras: cameras of Market-1501 (at most six) and DukeMTMC-reID (at most
            eight); a larger number is cut. Both do not read ``gap`` and ``trials``.

    Raises:
        InputError: a value has the wrong type or is out of its range.

    >>> SyntheticSettings(identities=12, gap=1).gap
    1.0
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
            value: Any = getattr(self, field.name)
            whole = isinstance(field.default, int)
            kind: Any = numbers.Integral if whole else numbers.Real
            low, high = _RANGES[field.name]
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise InputError(
                    f"synthetic data: {field.name} is {value!r}, expected a {'whole ' * whole}number from {low} to {high}"
                )
            # NumPy scalars become plain numbers, which compare as equal and are stored as JSON.
            object.__setattr__(self, field.name, int(value) if whole else float(value))


def generator(seed: int, stream: str, *indices: int) -> np.random.Generator:
    """Return the random generator of one purpose, independent of the generators of all other purposes.

    Args:
        seed: the seed of the settings.
        stream: the purpose, e.g. ``"person"`` or ``"image"``.
        indices: number of the person, camera, image, ... of that purpose.

    >>> generator(0, "person", 1).random() == generator(0, "person", 1).random() != generator(0, "person", 2).random()
    True
    """
    return np.random.default_rng([seed, *stream.encode(), *indices])


def domain_seed(seed: int, domain: str) -> int:
    """Return the seed of one domain: no other domain has the persons, cameras and places drawn from this seed.

    Args:
        seed: the seed of the settings.
        domain: torchreid's name of the data set, e.g. ``"market1501"``.

    >>> domain_seed(0, "market1501") != domain_seed(0, "dukemtmcreid")
    True
    """
    return int(generator(seed, domain).integers(2**32))
