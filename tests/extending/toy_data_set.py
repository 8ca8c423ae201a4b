"""A data set from outside, with a protocol and a layout of its own: one file."""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from torchreid_nas.data import CrossModalityDataset
from torchreid_nas.errors import InputError
from torchreid_nas.metrics import Protocol
from torchreid_nas.registry import register_image_dataset

CAMERAS = ("gate", "yard", "night")


class Campus(CrossModalityDataset):
    """``campus/<part>/<camera>/<identity>_<number>.png``; the camera ``night`` sees infrared.

    A query of ``night`` skips the gallery of ``yard``, and the CMC counts identities.
    """

    infrared_camids = frozenset({2})
    protocol = Protocol("campus", "Campus", skipped_cameras={2: frozenset({1})}, unique_identities=True, num_cameras=3)
    setting = "{protocol}, {hour} o'clock, split {split_id}"
    options = ("split_id",)
    num_splits = 2

    def __init__(self, root: str = "", split_id: int = 0, hour: int = 9, **kwargs: Any) -> None:
        self.split_id, self.hour = split_id, hour
        folder = Path(root) / "campus"
        if not folder.is_dir():
            raise InputError(f'"{folder}" does not exist; copy the campus there')
        train, test = (self._items(folder / part, split_id) for part in ("train", "test"))
        query = [item for item in test if item[2] == 2]
        super().__init__(train, query, [item for item in test if item[2] != 2], **kwargs)

    @staticmethod
    def _items(folder: Path, split_id: int) -> list[tuple[str, int, int]]:
        paths = sorted(folder.glob("*/*.png"))
        identities = sorted({path.stem.split("_")[0] for path in paths})[split_id:]
        return [
            (str(path), identities.index(path.stem.split("_")[0]), CAMERAS.index(path.parent.name))
            for path in paths if path.stem.split("_")[0] in identities
        ]


EVENING = functools.partial(Campus, hour=20)


def register() -> None:
    register_image_dataset("campus", Campus)
    register_image_dataset("campus_evening", EVENING)
