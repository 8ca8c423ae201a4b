"""Tiny data sets in the real layouts, made of a few pixels each."""
from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torchreid
from PIL import Image

from torchreid_nas.data import SYSUMM01, RegDB

SIZE = (8, 16)


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_regdb(root: Path, trials: int = 2, identities: int = 4, images: int = 3) -> Path:
    """Write ``identities`` for training and as many for testing, other ones in each trial; return the folder."""
    folder = root / "RegDB"
    everyone = range(1, 2 * identities + 1)
    for person in everyone:
        for word in ("Visible", "Thermal"):
            for number in range(images):
                write_image(folder / word / str(person) / f"{word[0].lower()}_{number}.bmp", 100 * person + number)
    for trial in range(trials):
        order = np.random.default_rng(trial).permutation(everyone)
        for part, people in (("train", order[:identities]), ("test", order[identities:])):
            for word in ("Visible", "Thermal"):
                lines = [
                    f"{word}/{person}/{word[0].lower()}_{number}.bmp {label}"
                    for label, person in enumerate(sorted(people))
                    for number in range(images)
                ]
                path = folder / "idx" / f"{part}_{word.lower()}_{trial + 1}.txt"
                path.parent.mkdir(exist_ok=True)
                path.write_text("\n".join(lines) + "\n")
    return folder


def write_sysu(root: Path, train=(1, 2, 3), val=(4, 5), test=(6, 7, 9), images: int = 2) -> Path:
    """Write every identity in all cameras, but the last test identity in the outdoor ones only."""
    folder = root / "SYSU-MM01"
    for person in (*train, *val, *test):
        for camera in range(1, 7):
            if person == test[-1] and camera in (1, 2, 3):
                continue
            for number in range(1, images + 1):
                write_image(folder / f"cam{camera}" / f"{person:04d}" / f"{number:04d}.jpg", 100 * person + number)
    (folder / "exp").mkdir(parents=True)
    for part, people in (("train", train), ("val", val), ("test", test)):
        (folder / "exp" / f"{part}_id.txt").write_text(",".join(map(str, people)) + "\n")
    return folder


@pytest.fixture
def regdb(tmp_path) -> Path:
    """A root folder with a RegDB of two trials, 4 + 4 identities, 3 images each per modality."""
    write_regdb(tmp_path)
    return tmp_path


@pytest.fixture
def sysu(tmp_path) -> Path:
    """A root folder with a SYSU-MM01 of 3 + 2 + 3 identities, 2 images each per camera."""
    write_sysu(tmp_path)
    return tmp_path


@pytest.fixture
def make_regdb():
    """The function that writes a RegDB."""
    return write_regdb


@pytest.fixture
def make_sysu():
    """The function that writes a SYSU-MM01."""
    return write_sysu


@pytest.fixture(scope="session", autouse=True)
def registered() -> None:
    """Have the data sets in torchreid's registry, whether or not the package has put them there."""
    known = vars(torchreid.data.datasets)["__image_datasets"]
    for name, dataset in {
        "regdb": RegDB,
        "regdb_ir2vis": functools.partial(RegDB, query_modality="infrared"),
        "sysu_mm01": SYSUMM01,
    }.items():
        if name not in known:
            torchreid.data.register_image_dataset(name, dataset)
