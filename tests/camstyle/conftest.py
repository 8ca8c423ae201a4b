"""Images of several cameras, each with a colour cast of its own."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchreid_nas.camstyle.images import CameraImages


def write_images(folder: Path, names: list[str]) -> None:
    """Write an image of 12 x 24 pixels of noise under each name; its camera, after the ``c``, is in its colours."""
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 100, (24, 12, 3))
        noise[..., number % 3] += 100
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.astype(np.uint8)).save(folder / name)


@pytest.fixture
def camera_images(tmp_path: Path) -> Callable[..., CameraImages]:
    """A function that writes images of the cameras 0, 2 and 3 in Market-1501's layout and returns them at 32 x 16."""

    def make(per_camera: int = 2, camids: tuple[int, ...] = (0, 2, 3)) -> CameraImages:
        names = [f"{pid:04d}_c{camid + 1}s1_000{pid}00_00.jpg" for camid in camids for pid in range(1, per_camera + 1)]
        folder = tmp_path / "market1501" / "bounding_box_train"
        write_images(folder, names)
        items = [(str(folder / name), int(name[:4]) - 1, int(name[6]) - 1, 0) for name in names]
        return CameraImages(items, 32, 16)

    return make
