"""A contact sheet of a generated data set: the persons in each modality or camera."""
from __future__ import annotations

__all__ = ["contact_sheet"]

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from torchreid_nas.data.display import STRETCHED
from torchreid_nas.data.sheet import Block, check_sheet_name, draw_sheet, padded
from torchreid_nas.data.synthetic.camera_network import CameraNetwork
from torchreid_nas.data.synthetic.layouts import CAMERA_NETWORKS, LAYOUTS, MODALITY_FOLDERS, generated_images
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings
from torchreid_nas.data.synthetic.store import MARKER, find_synthetic
from torchreid_nas.errors import InputError

_LARGEST_SCALE = 16


def contact_sheet(
    folder: str | os.PathLike,
    path: str | os.PathLike,
    identities: int = 12,
    images: int = 2,
    columns: int | None = None,
    scale: float = 1.0,
) -> Path:
    """Draw a PNG with the first identities of a generated data set and return its path.

    With two modalities an identity is a block of ``images`` columns, visible
    images above infrared images, of different cameras where the modality has
    several. Otherwise an identity is a block of ``images`` rows with one column per
    camera, empty where the camera did not see the identity; the last blocks show
    the other boxes of the gallery (distractors, junk). A caption says that the
    pictures are synthetic.

    Args:
        folder: the data set's folder, or the root that holds this folder.
        path: the PNG to write.
        identities: blocks on the sheet, fewer where the data set has fewer identities.
        images: images per identity and modality or camera.
        columns: blocks per row (default: 6 with two modalities, otherwise 2).
        scale: enlargement of the stored images.

    Raises:
        InputError: ``folder`` holds no generated data set (a caption must not
            call real images synthetic), the marker of the data set is damaged, a
            number is out of range, ``path`` does not end in .png or cannot be written.
    """
    path = Path(path)
    check_sheet_name(path)
    for name, value in (("identities", identities), ("images", images), ("columns", columns)):
        if value is not None and value < 1:
            raise InputError(f"contact sheet: {name}={value} must be at least 1")
    if not 0 < scale <= _LARGEST_SCALE:
        raise InputError(f"contact sheet: scale is {scale}, expected above 0 and at most {_LARGEST_SCALE}")
    folder, marker = find_synthetic(folder)
    layout, settings = _described(folder, marker)
    size = max(round(settings.width * scale), 1), max(round(settings.height * scale), 1)
    count = min(identities, settings.identities)
    modalities = MODALITY_FOLDERS.get(layout)
    if modalities:
        blocks = [_by_modality(folder, modalities, identity, images) for identity in range(1, count + 1)]
        content = f"{' above '.join(modalities)}, {STRETCHED}"
    else:
        network = CAMERA_NETWORKS[layout]
        blocks = _by_camera(folder, network, settings.cameras, count, images)
        last = "last block" if len(network.asides) == 1 else f"last {len(network.asides)} blocks"
        content = f"cameras 1 to {settings.cameras} from left to right; {last}: {', '.join(network.asides)}"
    columns = min(columns or (6 if modalities else 2), len(blocks))
    caption = f"Synthetic stand-in in the layout of {folder.name}, not {folder.name}: {content}"
    # The infrared images are the second row of a block.
    return draw_sheet(path, blocks, columns, size, caption, stretch={1} if modalities else set())


def _described(folder: Path, marker: dict[str, Any]) -> tuple[str, SyntheticSettings]:
    """Return layout and settings of a generated data set from its marker.

    Raises:
        InputError: the marker is not one that this package writes.
    """
    layout, values = marker.get("layout"), marker["settings"]
    names = {field.name for field in fields(SyntheticSettings)}
    again = f'in "{folder / MARKER}"; remove the data set and generate it again'
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise InputError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}, {again}")
    missing, unknown = set(COMMON_SETTINGS) - set(values), set(values) - names
    if missing or unknown:
        what = f"lack {', '.join(sorted(missing))}" if missing else f"have the unknown {', '.join(sorted(unknown))}"
        raise InputError(f"the settings {what} {again}")
    try:
        return layout, SyntheticSettings(**values)
    except InputError as error:
        raise InputError(f"{error}, {again}") from error


def _by_modality(folder: Path, modalities: dict[str, tuple[str, ...]], identity: int, images: int) -> Block:
    """Return one row per modality with the images of one identity, the first one of each camera first."""
    block = []
    for folders in modalities.values():
        files = [
            (rank, camera, file)
            for camera, name in enumerate(folders)
            for label in {str(identity), f"{identity:04d}"}
            for rank, file in enumerate(sorted((folder / name / label).glob("*.*")))
        ]
        block.append(padded([file for _, _, file in sorted(files)], images))
    return block


def _by_camera(folder: Path, network: CameraNetwork, cameras: int, identities: int, images: int) -> list[Block]:
    """Return one block per identity and one for each aside, with one column per camera."""
    shown = [*range(1, identities + 1), *network.asides]
    columns: dict[tuple[int | str, int], list[Path]] = {
        (who, camera): [] for who in shown for camera in range(1, cameras + 1)
    }
    for file in sorted(generated_images(folder, network.domain), key=lambda file: file.name):
        found = re.match(r"(-?\d+)_c(\d)", file.name)
        if found:
            label, camera = map(int, found.groups())
            columns.get((network.aside(label) or label, camera), []).append(file)
    return [
        [list(row) for row in zip(*(padded(columns[who, camera], images) for camera in range(1, cameras + 1)))]
        for who in shown
    ]
