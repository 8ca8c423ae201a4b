"""A small Market-1501 of the test's own, with camera-style images beside it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchreid_nas.data.camstyle import camstyle_folder, camstyle_name
from torchreid_nas.data.dataset import Item

CAMERAS = 3
SIZE = (8, 16)


def noise(seed: int, low: int = 0, high: int = 256, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return an RGB image (width, height) of independent pixels."""
    pixels = np.random.default_rng(seed).integers(low, high, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def write_release(items: Sequence[Item], msmt17: bool = False) -> list[Path]:
    """Write the file of every item in every other camera, plain in a colour that tells item and camera."""
    camids = sorted({item[2] for item in items})
    return [
        write(
            camstyle_folder(path) / camstyle_name(path, camid, new, msmt17),
            Image.new("RGB", SIZE, (8 * position, 40 * new, 200)),
        )
        for position, (path, _, camid, _) in enumerate(items) for new in camids if new != camid
    ]


@pytest.fixture
def market(tmp_path) -> list[Item]:
    """Items of 4 identities in 3 cameras, one image each, in the layout of Market-1501."""
    items = []
    for pid in range(4):
        for camid in range(CAMERAS):
            name = f"{pid:04d}_c{camid + 1}s1_{pid:06d}_01.jpg"
            path = write(tmp_path / "market" / "bounding_box_train" / name, noise(10 * pid + camid))
            items.append((str(path), pid, camid, 0))
    return items


@pytest.fixture
def release() -> Callable[..., list[Path]]:
    """The function that writes all camera-style images."""
    return write_release
