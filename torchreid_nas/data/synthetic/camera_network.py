"""Data sets of several visible cameras: one writer, and the properties of each such data set."""
from __future__ import annotations

__all__ = ["CameraNetwork", "Look"]

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from torchreid_nas.data.synthetic.camera import Camera, photograph
from torchreid_nas.data.synthetic.figure import Pose
from torchreid_nas.data.synthetic.person import Person, Wardrobe
from torchreid_nas.data.synthetic.scene import Scene
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings, domain_seed, generator
from torchreid_nas.data.synthetic.store import stored
from torchreid_nas.errors import InputError

_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"
# By the rule of Market-1501's authors a detected box is good where it overlaps the
# person's by more than half (intersection over union), a distractor below a fifth,
# junk in between. Boxes of one size that lie d of their size apart overlap by
# (1 - d) / (1 + d), hence these ranges of d; from d = 1 on nobody is inside.
_OFFSETS = {"junk": (1 / 3, 2 / 3), "distractor": (2 / 3, 1.3)}
_DISTRACTORS, _JUNK, _LONE = "distractors", "junk", "persons whom one camera saw"


@dataclass(frozen=True)
class Look:
    """The look that all photographs of a data set share. The default adds nothing.

    Attributes:
        wardrobe: clothes of the persons.
        outdoors: whether all places are outdoors, not only every other place.
        paint, foliage, illuminant: of each :class:`~.scene.Scene`.
        blur, noise: of each :class:`~.camera.Camera`.
        zoom: size of the persons in their boxes; the persons stay in the middle.
    """

    wardrobe: Wardrobe = Wardrobe()
    outdoors: bool = False
    paint: tuple[float, float, float] = Scene.paint
    foliage: tuple[float, float, float] = Scene.foliage
    illuminant: tuple[float, float, float] = Scene.illuminant
    blur: float = Camera.blur
    noise: float = Camera.noise
    zoom: float = 1.0

    def person(self, seed: int, identity: int, difficulty: float) -> Person:
        """Return person ``identity`` of this data set."""
        return Person.of(seed, identity, difficulty, self.wardrobe)

    def scene(self, seed: int, number: int) -> Scene:
        """Return the scene of camera ``number``."""
        return Scene(seed, number, self.outdoors or number % 2 == 0, self.paint, self.foliage, self.illuminant)

    def camera(self, seed: int, number: int, cast: float) -> Camera:
        """Return camera ``number``; ``cast`` is the spread of its colour cast."""
        return dataclasses.replace(Camera.visible(seed, number, cast), blur=self.blur, noise=self.noise)

    def frame(self, pose: Pose) -> Pose:
        """Return ``pose`` with the size that persons have in the boxes of this data set."""
        # The feet stand near the lower edge: a smaller person moves up by half of the free room.
        return dataclasses.replace(pose, scale=pose.scale * self.zoom, dy=pose.dy - 0.475 * (1 - self.zoom))


@dataclass(frozen=True)
class _Box:
    """One file: its path, the person, and its number within its ``stream`` of random numbers.

    Streams are ``"image"`` for good boxes and the keys of ``_OFFSETS``.
    """

    file: str
    stream: str
    camera: int
    identity: int
    number: int


@dataclass(frozen=True)
class CameraNetwork:
    """A data set in which several visible cameras, each at its own place, see persons who walk from one to another.

    Attributes:
        title: the name of the data set as people write it.
        domain: the name of the data set in torchreid's registry, and of the layout.
        folder, subfolder: the reader of torchreid reads ``<root>/<folder>/<subfolder>``.
        file_name: format of a file's name, of ``label``, ``camera``, ``sequence``, ``frame`` and ``detection``.
        interval: frames between two labelled ones.
        most_identities, most_cameras: the largest numbers that the layout holds.
        attendance: share of the cameras that see a person.
        cast: spread of the cameras' colour casts.
        distractors, junk: bad boxes in the gallery, labelled 0000 and -1, as shares of
            its good ones; where the share is not 0 there is at least one.
        lone: persons whom one camera saw, all in the gallery, as a share of the test
            identities; where the share is not 0 at least one. Their labels follow ``most_identities``.
        look: of all photographs.
    """

    title: str
    domain: str
    folder: str
    subfolder: str
    file_name: str
    interval: int
    most_identities: int
    most_cameras: int
    attendance: float
    cast: float
    distractors: float = 0.0
    junk: float = 0.0
    lone: float = 0.0
    look: Look = Look()

    def write(self, root: str | os.PathLike, settings: SyntheticSettings) -> Path:
        """Write ``<root>/<folder>``, which torchreid's reader takes from ``root``, and return it.

        Each camera has its own colour cast and its own place. The share
        ``attendance`` of the cameras, and at least two cameras, saw an identity, with
        ``settings.images`` images each. Of two consecutive identities one, drawn at
        random, is for training and the other for test. The first image of a test
        identity in a camera is the query of this camera, and the others are gallery,
        so every query has matches in another camera. A ``settings.cameras`` above
        ``most_cameras`` is cut: one number serves two data sets.

        Raises:
            InputError: fewer than 2 images, more identities than the layout
                holds, or see :func:`~.store.stored`.
        """
        if settings.images < 2:
            raise InputError(
                f"{self.title} takes one image per test identity and camera as query and the others as gallery, so "
                f"images={settings.images} must be at least 2; choose 2 or more"
            )
        if settings.identities > self.most_identities:
            raise InputError(
                f"the layout of {self.title} holds {self.most_identities} identities, so identities="
                f"{settings.identities} must be at most {self.most_identities}; choose {self.most_identities} or fewer"
            )
        settings = dataclasses.replace(settings, cameras=min(settings.cameras, self.most_cameras))
        uses = (*COMMON_SETTINGS, "cameras")
        return stored(root, self.folder, self.domain, settings, uses, lambda folder: self._fill(folder, settings))

    @property
    def image_folders(self) -> tuple[str, ...]:
        """Folders of the images below ``<root>/<folder>``."""
        return tuple(f"{self.subfolder}/{part}" for part in (_TRAIN, _QUERY, _GALLERY))

    @property
    def asides(self) -> tuple[str, ...]:
        """Kinds of gallery boxes beside the identities: the values of :meth:`aside`."""
        shares = {_DISTRACTORS: self.distractors, _JUNK: self.junk, _LONE: self.lone}
        return tuple(name for name, share in shares.items() if share)

    def aside(self, label: int) -> str | None:
        """Return the kind of a box with ``label`` beside the identities, or None where the box shows an identity."""
        return {0: _DISTRACTORS, -1: _JUNK}.get(label, _LONE if label > self.most_identities else None)

    def _fill(self, folder: Path, settings: SyntheticSettings) -> None:
        seed = domain_seed(settings.seed, self.domain)
        numbers = range(1, settings.cameras + 1)
        cameras = {number: self.look.camera(seed, number, self.cast) for number in numbers}
        scenes = {number: self.look.scene(seed, number) for number in numbers}
        for part in (_TRAIN, _QUERY, _GALLERY):
            (folder / self.subfolder / part).mkdir(parents=True)
        for box in tqdm(
            list(self._boxes(seed, settings)), desc=f"{self.title} (synthetic)", unit="image", disable=None
        ):
            rng = generator(seed, box.stream, box.camera, box.identity, box.number)
            pose = self.look.frame(Pose.sample(rng, settings.difficulty))
            if box.stream in _OFFSETS:
                pose = _missed(pose, rng, *_OFFSETS[box.stream])
            person = self.look.person(seed, box.identity, settings.difficulty)
            picture = photograph(
                person, pose, scenes[box.camera], cameras[box.camera], rng,
                settings.height, settings.width, settings.difficulty,
            )
            Image.fromarray(picture).save(folder / self.subfolder / box.file, quality=95)

    def _boxes(self, seed: int, settings: SyntheticSettings) -> Iterator[_Box]:
        seen = {
            identity: self._attendance(seed, identity, settings.cameras)
            for identity in range(1, settings.identities + 1)
        }
        test = [identity for identity in seen if _is_test(seed, identity)]
        for identity, cameras in seen.items():
            parts = (_QUERY, _GALLERY) if identity in test else (_TRAIN, _TRAIN)
            for camera in cameras:
                yield from self._visit(seed, identity, camera, settings.images, *parts)
        good = sum(len(seen[identity]) for identity in test) * (settings.images - 1)
        for stream, label, share in (("distractor", "0000", self.distractors), ("junk", "-1", self.junk)):
            for number in range(1, _count(share, good) + 1):
                rng = generator(seed, f"{stream} boxes", number)
                identity = int(rng.choice(test))
                camera = int(rng.choice(seen[identity]))
                sequence, detection = int(rng.integers(1, 7)), int(rng.integers(1, 6))
                name = self._name(label, camera, sequence, number, detection)
                yield _Box(f"{_GALLERY}/{name}", stream, camera, identity, number)
        for number in range(1, _count(self.lone, len(test)) + 1):
            identity = self.most_identities + number
            camera = int(generator(seed, "attendance", identity).integers(1, settings.cameras + 1))
            yield from self._visit(seed, identity, camera, settings.images, _GALLERY, _GALLERY)

    def _visit(
        self, seed: int, identity: int, camera: int, images: int, first: str, others: str
    ) -> Iterator[_Box]:
        """Yield the boxes of one person in one camera: the first belongs to part ``first``, the others to ``others``."""
        rng = generator(seed, "frames", camera, identity)
        sequence, start = int(rng.integers(1, 7)), int(rng.integers(3000))
        for number in range(1, images + 1):
            part = first if number == 1 else others
            detection = 0 if part == _QUERY else int(rng.integers(1, 6))
            name = self._name(f"{identity:04d}", camera, sequence, start + number, detection)
            yield _Box(f"{part}/{name}", "image", camera, identity, number)

    def _name(self, label: str, camera: int, sequence: int, step: int, detection: int) -> str:
        frame = self.interval * step + 1
        return self.file_name.format(label=label, camera=camera, sequence=sequence, frame=frame, detection=detection)

    def _attendance(self, seed: int, identity: int, cameras: int) -> list[int]:
        """Return the cameras that saw ``identity``: at least two, so that a query has a match."""
        chance = generator(seed, "attendance", identity).random(cameras)
        certain = np.argsort(chance)[:2]
        return [
            number for number in range(1, cameras + 1)
            if chance[number - 1] < self.attendance or number - 1 in certain
        ]


def _count(share: float, whole: int) -> int:
    return max(round(share * whole), 1) if share else 0


def _is_test(seed: int, identity: int) -> bool:
    """Return whether ``identity`` is for test: one of each pair is, for every number of pairs."""
    pair = (identity + 1) // 2
    return identity % 2 == int(generator(seed, "half", pair).integers(2))


def _missed(pose: Pose, rng: np.random.Generator, low: float, high: float) -> Pose:
    """Return ``pose`` in a box that lies ``low`` to ``high`` of its size off to one of four sides."""
    side, share = int(rng.integers(4)), rng.random()
    offset = (low + (high - low) * share) * (1 if side % 2 else -1)
    return dataclasses.replace(pose, **({"dx": pose.dx + offset} if side < 2 else {"dy": pose.dy + offset}))
