"""Writers of synthetic pedestrians in the layouts of real data sets."""
from __future__ import annotations

__all__ = [
    "CAMERA_NETWORKS", "LAYOUTS", "MODALITY_FOLDERS", "generated_images", "write_dataset", "write_regdb", "write_sysu_mm01",
]

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from tqdm.auto import tqdm

from torchreid_nas.data.synthetic.camera import Camera, photograph
from torchreid_nas.data.synthetic.camera_network import CameraNetwork
from torchreid_nas.data.synthetic.dukemtmcreid import DUKEMTMCREID, write_dukemtmcreid
from torchreid_nas.data.synthetic.figure import Pose
from torchreid_nas.data.synthetic.llcm import LLCM_FOLDERS, write_llcm
from torchreid_nas.data.synthetic.market1501 import MARKET1501, write_market1501
from torchreid_nas.data.synthetic.person import Person
from torchreid_nas.data.synthetic.scene import Scene
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings, generator
from torchreid_nas.data.synthetic.store import stored
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.files import write_text

# Folders of the images of each modality.
MODALITY_FOLDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "regdb": {"visible": ("Visible",), "infrared": ("Thermal",)},
    "sysu_mm01": {"visible": ("cam1", "cam2", "cam4", "cam5"), "infrared": ("cam3", "cam6")},
    "llcm": LLCM_FOLDERS,
}

# The data sets of visible cameras alone, by layout.
CAMERA_NETWORKS: dict[str, CameraNetwork] = {network.domain: network for network in (MARKET1501, DUKEMTMCREID)}

# The settings that the files of both visible-infrared layouts depend on.
_USES = (*COMMON_SETTINGS, "gap", "trials")
_REGDB_PLACES = 16
# SYSU-MM01: camera -> (spectrum, place, outdoor). Cameras 2 and 3 look at the
# same place, which is why its protocol skips camera 2 for queries of camera 3.
_SYSU_CAMERAS = {
    1: ("visible", 1, False),
    2: ("visible", 2, False),
    3: ("infrared", 2, False),
    4: ("visible", 3, True),
    5: ("visible", 4, True),
    6: ("infrared", 5, True),
}
# Shares of train and val in the real set: 296 and 99 of 491 identities.
_SYSU_TRAIN, _SYSU_VAL = 296 / 491, 99 / 491
# The protocol draws ten galleries, also where RegDB gets fewer splits.
_SYSU_RUNS = 10
_ATTENDANCE = 0.8


def write_regdb(root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write ``<root>/RegDB`` and return it.

    The data set has ``settings.images`` visible and as many infrared images per
    identity, and the index files of ``settings.trials`` trials. A trial takes a
    random half of the identities for training and the other half for test; labels
    count from 0 in both halves, as in the original. Ours: the images of one person
    show different places, so that a background never tells the identity.

    Raises:
        InputError: the number of identities is odd, or see :func:`~.store.stored`.
    """
    if settings.identities % 2:
        raise InputError(
            f"RegDB has as many training as test identities, so identities={settings.identities} must be even; "
            f"choose {settings.identities + 1}"
        )
    return stored(root, "RegDB", "regdb", settings, _USES, lambda folder: _fill_regdb(folder, settings))


def _fill_regdb(folder: Path, settings: SyntheticSettings) -> None:
    seed = settings.seed
    cameras = {"Visible": Camera.visible(seed, 1), "Thermal": Camera.infrared(seed, 2, settings.gap)}
    names: dict[tuple[str, int], list[str]] = {}
    total = settings.identities * settings.images * len(cameras)
    with tqdm(total=total, desc="RegDB (synthetic)", unit="image", disable=None) as progress:
        for identity in range(1, settings.identities + 1):
            person = Person.of(seed, identity, settings.difficulty)
            for number, (word, camera) in enumerate(cameras.items(), start=1):
                (folder / word / str(identity)).mkdir(parents=True)
                for image in range(1, settings.images + 1):
                    rng = generator(seed, "image", number, identity, image)
                    pose = Pose.sample(rng, settings.difficulty)
                    place = int(rng.integers(_REGDB_PLACES))
                    scene = Scene(seed, place, outdoor=place % 2 == 1)
                    name = f"{word}/{identity}/{person.sex}_{pose.view}_{word[0].lower()}_{image:05d}_{identity}.bmp"
                    _photograph(person, pose, scene, camera, rng, settings).save(folder / name)
                    names.setdefault((word, identity), []).append(name)
                    progress.update()
    half = settings.identities // 2
    for trial in range(1, settings.trials + 1):
        order = generator(seed, "regdb", trial).permutation(settings.identities) + 1
        for part, identities in (("train", order[:half]), ("test", order[half:])):
            for word in cameras:
                lines = [
                    f"{name} {label}\n"
                    for label, identity in enumerate(sorted(identities.tolist()))
                    for name in names[word, identity]
                ]
                write_text(folder / "idx" / f"{part}_{word.lower()}_{trial}.txt", "".join(lines))


def write_sysu_mm01(root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write ``<root>/SYSU-MM01`` and return it.

    ``settings.images`` images per identity in each camera that saw it: about
    four fifths of the six, with at least one visible and one infrared. The
    identity lists keep the real shares of train, val and test; the gallery
    draws of ``exp/rand_perm_cam.mat`` have its structure, ``max(10, trials)``
    runs each and no column for an identity that the camera did not see.

    Raises:
        InputError: see :func:`~.store.stored`.
    """
    return stored(root, "SYSU-MM01", "sysu_mm01", settings, _USES, lambda folder: _fill_sysu_mm01(folder, settings))


def _fill_sysu_mm01(folder: Path, settings: SyntheticSettings) -> None:
    seed = settings.seed
    cameras = {
        number: Camera.visible(seed, number) if spectrum == "visible" else Camera.infrared(seed, number, settings.gap)
        for number, (spectrum, _, _) in _SYSU_CAMERAS.items()
    }
    scenes = {number: Scene(seed, place, outdoor) for number, (_, place, outdoor) in _SYSU_CAMERAS.items()}
    present = {identity: _attendance(seed, identity) for identity in range(1, settings.identities + 1)}
    for number in cameras:
        (folder / f"cam{number}").mkdir()
    total = settings.images * sum(map(len, present.values()))
    with tqdm(total=total, desc="SYSU-MM01 (synthetic)", unit="image", disable=None) as progress:
        for identity, numbers in present.items():
            person = Person.of(seed, identity, settings.difficulty)
            for number in numbers:
                place = folder / f"cam{number}" / f"{identity:04d}"
                place.mkdir()
                for image in range(1, settings.images + 1):
                    rng = generator(seed, "image", number, identity, image)
                    pose = Pose.sample(rng, settings.difficulty)
                    picture = _photograph(person, pose, scenes[number], cameras[number], rng, settings)
                    picture.save(place / f"{image:04d}.jpg", quality=95)
                    progress.update()
    _write_sysu_lists(folder, settings)
    _write_sysu_permutations(folder, settings, present)


def _attendance(seed: int, identity: int) -> list[int]:
    """Return the cameras that saw ``identity``: at least one visible and one infrared."""
    rng = generator(seed, "attendance", identity)
    chance = dict(zip(_SYSU_CAMERAS, rng.random(len(_SYSU_CAMERAS)).tolist()))
    seen = {number for number, value in chance.items() if value < _ATTENDANCE}
    for spectrum in ("visible", "infrared"):
        numbers = [number for number, camera in _SYSU_CAMERAS.items() if camera[0] == spectrum]
        seen.add(min(numbers, key=chance.__getitem__))
    return sorted(seen)


def _write_sysu_lists(folder: Path, settings: SyntheticSettings) -> None:
    count = settings.identities
    order = (generator(settings.seed, "sysu lists").permutation(count) + 1).tolist()
    train, val = max(int(count * _SYSU_TRAIN), 1), max(round(count * _SYSU_VAL), 1)
    parts = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
    for part, identities in parts.items():
        write_text(folder / "exp" / f"{part}_id.txt", ",".join(map(str, sorted(identities))) + "\n")


def _write_sysu_permutations(folder: Path, settings: SyntheticSettings, present: dict[int, list[int]]) -> None:
    runs = max(_SYSU_RUNS, settings.trials)
    cells = np.empty((len(_SYSU_CAMERAS), 1), dtype=object)
    for row, number in enumerate(_SYSU_CAMERAS):
        cell = np.empty((settings.identities, 1), dtype=object)
        for identity, numbers in present.items():
            images = settings.images if number in numbers else 0
            rng = generator(settings.seed, "gallery", number, identity)
            ordered = np.tile(np.arange(1, images + 1, dtype=np.uint16), (runs, 1))
            cell[identity - 1, 0] = rng.permuted(ordered, axis=1)
        cells[row, 0] = cell
    scipy.io.savemat(folder / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": cells}, do_compression=True)
    _blank_date(folder / "exp" / "rand_perm_cam.mat")


def _blank_date(path: Path) -> None:
    """Overwrite the text at the head of a MATLAB file, which holds the date: equal settings give equal bytes."""
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, written by torchreid_nas".ljust(116))


def _photograph(
    person: Person, pose: Pose, scene: Scene, camera: Camera, rng: np.random.Generator, settings: SyntheticSettings
) -> Image.Image:
    return Image.fromarray(
        photograph(person, pose, scene, camera, rng, settings.height, settings.width, settings.difficulty)
    )


LAYOUTS: dict[str, Callable[[str | os.PathLike, SyntheticSettings], Path]] = {
    "regdb": write_regdb,
    "sysu_mm01": write_sysu_mm01,
    "llcm": write_llcm,
    "market1501": write_market1501,
    "dukemtmcreid": write_dukemtmcreid,
}


def write_dataset(layout: str, root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write the synthetic data set ``layout`` under ``root`` and return its folder.

    Nothing is written where the folder exists with the same settings.

    Args:
        layout: a key of :data:`LAYOUTS`.
        root: folder of the data sets.
        settings: of the generator.

    Raises:
        InputError: the layout is unknown, or see the writers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = write_dataset("regdb", root, SyntheticSettings(4, images=1, height=32, width=16, trials=1))
    ...     sorted(path.name for path in folder.iterdir()), len(generated_images(folder, "regdb"))
    (['Thermal', 'Visible', 'idx', 'synthetic.json'], 8)
    """
    if layout not in LAYOUTS:
        raise InputError(
            f'there is no synthetic data set "{layout}", expected one of {", ".join(LAYOUTS)}{nearest(layout, LAYOUTS)}'
        )
    return LAYOUTS[layout](root, settings)


def generated_images(folder: Path, layout: str) -> list[Path]:
    """Return the images of a generated data set, without the camera styles that were made later."""
    network = CAMERA_NETWORKS.get(layout)
    places = network.image_folders if network else sum(MODALITY_FOLDERS[layout].values(), ())
    return [file for place in places for suffix in ("bmp", "jpg") for file in (folder / place).rglob(f"*.{suffix}")]
