"""Market-1501 in synthetic pedestrians: several visible cameras, queries, and a gallery with bad detections."""
from __future__ import annotations

__all__ = ["write_market1501"]

import dataclasses
import os
from pathlib import Path
from typing import Iterator

import numpy as np
from PIL import Image
from tqdm import tqdm

from torchreid_nas.data.synthetic.camera import Camera, photograph
from torchreid_nas.data.synthetic.figure import Pose
from torchreid_nas.data.synthetic.person import Person
from torchreid_nas.data.synthetic.scene import Scene
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings, domain_seed, generator
from torchreid_nas.data.synthetic.store import stored
from torchreid_nas.errors import InputError

_FOLDER = "Market-1501-v15.09.15"
_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"
# Readers of the real set, torchreid's among them, refuse larger numbers.
_MOST_IDENTITIES, _MOST_CAMERAS = 1501, 6
# Spread of the colour casts, twice that of the visible cameras of SYSU-MM01:
# here the cast is what differs between the cameras, not the spectrum.
_CAST = 0.12
# The real 750 test identities have 3,368 queries, one per camera: 4.5 of six.
_ATTENDANCE = 0.75
# The real gallery holds 13,115 good boxes, 2,798 distractors and 3,819 junk boxes.
_DISTRACTORS, _JUNK = 2798 / 13115, 3819 / 13115
# By its authors' rule a detected box is good where it overlaps the person's by
# more than half (intersection over union), a distractor below a fifth, junk in
# between. Boxes of one size that lie d of their size apart overlap by
# (1 - d) / (1 + d), hence these ranges of d; from d = 1 on nobody is inside.
_OFFSETS = {"junk": (1 / 3, 2 / 3), "distractor": (2 / 3, 1.3)}


def write_market1501(root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write ``<root>/market1501``, which torchreid's ``Market1501`` reads from ``root``, and return it.

    Each of ``settings.cameras`` cameras has its own colour cast and looks at
    its own place; about three quarters of them saw an identity, at least two,
    with ``settings.images`` images each. Of two consecutive identities one,
    drawn at random, is for training and the other for test. The first image
    of a test identity in a camera is its query there, the others are gallery,
    so every query has matches in another camera. The gallery has junk (-1) and
    distractors (0000) in the real shares, at least one of each: boxes that
    miss a test identity by as much as the rule of the real set says.

    Names are like ``0002_c1s1_000451_03.jpg``: identity, camera, sequence,
    frame, and the number of the detected box, 00 where it was drawn by hand,
    as queries are.

    Raises:
        InputError: fewer than 2 images, more than 1501 identities or more than
            6 cameras, or see :func:`~.store.stored`.
    """
    if settings.images < 2:
        raise InputError(
            "Market-1501 takes one image per test identity and camera as query and the others as gallery, so "
            f"images={settings.images} must be at least 2; choose 2 or more"
        )
    for name, most in (("identities", _MOST_IDENTITIES), ("cameras", _MOST_CAMERAS)):
        value = getattr(settings, name)
        if value > most:
            raise InputError(
                f"Market-1501 has {most} {name} and its readers refuse more, so {name}={value} must be at most "
                f"{most}; choose {most} or fewer"
            )
    uses = (*COMMON_SETTINGS, "cameras")
    return stored(root, "market1501", "market1501", settings, uses, lambda folder: _fill(folder / _FOLDER, settings))


@dataclasses.dataclass(frozen=True)
class _Box:
    """One file: where it lies, whom it shows, and its number within its ``stream`` of random numbers.

    Streams are ``"image"`` for good boxes and the keys of ``_OFFSETS``.
    """

    file: str
    stream: str
    camera: int
    identity: int
    number: int


def _fill(folder: Path, settings: SyntheticSettings) -> None:
    seed = domain_seed(settings.seed, "market1501")
    numbers = range(1, settings.cameras + 1)
    cameras = {number: Camera.visible(seed, number, cast=_CAST) for number in numbers}
    scenes = {number: Scene(seed, number, outdoor=number % 2 == 0) for number in numbers}
    for part in (_TRAIN, _QUERY, _GALLERY):
        (folder / part).mkdir(parents=True)
    boxes = list(_boxes(seed, settings))
    for box in tqdm(boxes, desc="Market-1501 (synthetic)", unit="image", disable=None):
        rng = generator(seed, box.stream, box.camera, box.identity, box.number)
        pose = Pose.sample(rng, settings.difficulty)
        if box.stream in _OFFSETS:
            pose = _missed(pose, rng, *_OFFSETS[box.stream])
        person = Person.of(seed, box.identity, settings.difficulty)
        picture = photograph(
            person, pose, scenes[box.camera], cameras[box.camera], rng,
            settings.height, settings.width, settings.difficulty,
        )
        Image.fromarray(picture).save(folder / box.file, quality=95)


def _boxes(seed: int, settings: SyntheticSettings) -> Iterator[_Box]:
    seen = {identity: _attendance(seed, identity, settings.cameras) for identity in range(1, settings.identities + 1)}
    test = [identity for identity in seen if _is_test(seed, identity)]
    good = 0
    for identity, cameras in seen.items():
        for_test = identity in test
        for camera in cameras:
            rng = generator(seed, "frames", camera, identity)
            sequence, start = int(rng.integers(1, 7)), int(rng.integers(3000))
            for number in range(1, settings.images + 1):
                query = for_test and number == 1
                part = _QUERY if query else _GALLERY if for_test else _TRAIN
                detection = 0 if query else int(rng.integers(1, 6))
                good += part == _GALLERY
                name = _name(f"{identity:04d}", camera, sequence, start + number, detection)
                yield _Box(f"{part}/{name}", "image", camera, identity, number)
    for stream, label, share in (("distractor", "0000", _DISTRACTORS), ("junk", "-1", _JUNK)):
        for number in range(1, max(round(share * good), 1) + 1):
            rng = generator(seed, f"{stream} boxes", number)
            identity = int(rng.choice(test))
            camera = int(rng.choice(seen[identity]))
            name = _name(label, camera, int(rng.integers(1, 7)), number, int(rng.integers(1, 6)))
            yield _Box(f"{_GALLERY}/{name}", stream, camera, identity, number)


def _name(label: str, camera: int, sequence: int, step: int, detection: int) -> str:
    # One frame in 25, that is one per second, was labelled in the real set.
    return f"{label}_c{camera}s{sequence}_{25 * step + 1:06d}_{detection:02d}.jpg"


def _attendance(seed: int, identity: int, cameras: int) -> list[int]:
    """Return the cameras that saw ``identity``: at least two, so that a query can be answered."""
    chance = generator(seed, "attendance", identity).random(cameras)
    certain = np.argsort(chance)[:2]
    return [number for number in range(1, cameras + 1) if chance[number - 1] < _ATTENDANCE or number - 1 in certain]


def _is_test(seed: int, identity: int) -> bool:
    """Return whether ``identity`` is for test, the one of its pair or the other, however many pairs there are."""
    pair = (identity + 1) // 2
    return identity % 2 == int(generator(seed, "half", pair).integers(2))


def _missed(pose: Pose, rng: np.random.Generator, low: float, high: float) -> Pose:
    """Return ``pose`` in a box that lies ``low`` to ``high`` of its size off to one of four sides."""
    side, share = int(rng.integers(4)), rng.random()
    offset = (low + (high - low) * share) * (1 if side % 2 else -1)
    return dataclasses.replace(pose, **({"dx": pose.dx + offset} if side < 2 else {"dy": pose.dy + offset}))
