"""LLCM in synthetic pedestrians: nine cameras with two sensors each, by night."""
from __future__ import annotations

__all__ = ["LLCM_FOLDERS", "write_llcm"]

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from torchreid_nas.data.synthetic.camera import Camera, photograph
from torchreid_nas.data.synthetic.figure import Pose
from torchreid_nas.data.synthetic.person import Person, triple
from torchreid_nas.data.synthetic.scene import Scene
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings, domain_seed, generator
from torchreid_nas.data.synthetic.store import stored
from torchreid_nas.files import write_text

_CAMERAS = range(1, 10)
_WORDS = ("vis", "nir")
# The real test set has no near-infrared images of camera 3.
_VISIBLE_ALONE = 3
# The first cameras stand indoors (ours).
_OUTDOORS_FROM = 4
# Share of training identities in the real set: 713 of 1,064.
_TRAIN = 713 / 1064
# Share of the cameras that see a person (ours): the real set has 44 images of a person.
_ATTENDANCE = 0.3
# Least and largest gain of the visible sensors by night (ours).
_DARK, _DIM = 0.3, 0.6

LLCM_FOLDERS = {
    modality: (f"train_{word}", *(f"test_{word}/cam{camera}" for camera in _CAMERAS))
    for modality, word in zip(("visible", "infrared"), _WORDS)
}
"""Folders of the images of each modality, each with a folder per identity."""


def write_llcm(root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write ``<root>/LLCM`` and return it.

    ``settings.images`` images per identity, camera and sensor. A camera's visible
    and near-infrared sensor see the same place; the visible sensors are dark and
    noisy, each in its own degree. About a third of the nine cameras saw an
    identity, at least two of those with both sensors in use, so that every query
    has a match under another camera. Two thirds of the identities are for
    training, as in the real set.

    Raises:
        InputError: see :func:`~.store.stored`.
    """
    return stored(root, "LLCM", "llcm", settings, (*COMMON_SETTINGS, "gap"), lambda folder: _fill(folder, settings))


def _fill(folder: Path, settings: SyntheticSettings) -> None:
    seed = domain_seed(settings.seed, "llcm")
    order = (generator(seed, "llcm lists").permutation(settings.identities) + 1).tolist()
    train = sorted(order[: min(max(round(settings.identities * _TRAIN), 1), settings.identities - 2)])
    labels = {identity: label for label, identity in enumerate(train)}
    sensors = {(camera, word): _sensor(seed, camera, word, settings.gap) for camera in _CAMERAS for word in _WORDS}
    scenes = {camera: Scene(seed, camera, camera >= _OUTDOORS_FROM) for camera in _CAMERAS}
    shots = [
        (identity, camera, word, image)
        for identity in range(1, settings.identities + 1) for camera in _attendance(seed, identity)
        for word in _WORDS if (camera, word) != (_VISIBLE_ALONE, "nir") for image in range(1, settings.images + 1)
    ]
    lists: dict[str, list[str]] = {word: [] for word in _WORDS}
    for identity, camera, word, image in tqdm(shots, desc="LLCM (synthetic)", unit="image", disable=None):
        rng = generator(seed, "image", camera + len(_CAMERAS) * _WORDS.index(word), identity, image)
        sequence, frame = int(rng.integers(100_000, 1_000_000)), 25 * image
        part = f"train_{word}" if identity in labels else f"test_{word}/cam{camera}"
        name = f"{part}/{identity:04d}/{identity:04d}_c{camera:02d}_s{sequence}_f{frame}_{word}.jpg"
        picture = photograph(
            Person.of(seed, identity, settings.difficulty), Pose.sample(rng, settings.difficulty), scenes[camera],
            sensors[camera, word], rng, settings.height, settings.width, settings.difficulty,
        )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name, quality=95)
        if identity in labels:
            lists[word].append(f"{name} {labels[identity]}\n")
    for word, lines in lists.items():
        write_text(folder / "idx" / f"train_{word}.txt", "".join(lines))
    test = sorted(set(order) - set(train))
    write_text(folder / "idx" / "test_id.txt", ",".join(map(str, test)) + "\n")


def _sensor(seed: int, camera: int, word: str, gap: float) -> Camera:
    """Return a sensor of a camera."""
    if word == "nir":
        return Camera.infrared(seed, camera + len(_CAMERAS), gap)
    day = Camera.visible(seed, camera)
    dark = _DARK + (_DIM - _DARK) * float(generator(seed, "night", camera).random())
    # A factor on the light: black stays black.
    gain = dark * np.array(day.gain)
    offset = 0.5 * (gain - 1) + dark * np.array(day.offset)
    return dataclasses.replace(day, gain=triple(gain), offset=triple(offset), noise=0.03)


def _attendance(seed: int, identity: int) -> list[int]:
    """Return the cameras that saw an identity: at least two with both sensors."""
    chance = generator(seed, "attendance", identity).random(len(_CAMERAS))
    seen = {camera for camera, value in zip(_CAMERAS, chance) if value < _ATTENDANCE}
    both = [camera for camera in np.argsort(chance) + 1 if camera != _VISIBLE_ALONE]
    return sorted(seen | {int(camera) for camera in both[:2]})
