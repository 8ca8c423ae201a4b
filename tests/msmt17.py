"""A tiny MSMT17 on disk, in the layout that torchreid reads."""
from __future__ import annotations

from pathlib import Path

from PIL import Image

PERSONS, CAMERAS = 4, 3


def write_msmt17(root: Path) -> Path:
    """Write it; of the training images, those of the last camera are in ``list_val.txt``. Return its folder."""
    folder = root / "msmt17" / "MSMT17_V1"
    lists: dict[str, list[str]] = {part: [] for part in ("train", "val", "query", "gallery")}
    for part in ("train", "test"):
        for pid in range(PERSONS):
            for camera in range(1, CAMERAS + 1):
                name = f"{pid:04d}/{pid:04d}_{camera:03d}_{camera:02d}_0303morning_{camera:04d}_0.jpg"
                path = folder / part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (16, 32), (60 * pid, 60 * camera, 100 if part == "train" else 0)).save(path)
                if part == "train":
                    lists["val" if camera == CAMERAS else "train"].append(f"{name} {pid}\n")
                else:
                    lists["query" if camera == 1 else "gallery"].append(f"{name} {pid}\n")
    for part, lines in lists.items():
        (folder / f"list_{part}.txt").write_text("".join(lines))
    return folder
