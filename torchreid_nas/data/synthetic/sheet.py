"""A contact sheet of a generated data set: the persons in each modality or camera."""
from __future__ import annotations

__all__ = ["check_sheet_name", "contact_sheet"]

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from torchreid_nas.data.display import STRETCHED, stretched
from torchreid_nas.data.synthetic.camera_network import CameraNetwork
from torchreid_nas.data.synthetic.layouts import CAMERA_NETWORKS, LAYOUTS, MODALITY_FOLDERS, generated_images
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings
from torchreid_nas.data.synthetic.store import MARKER, find_synthetic
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path

_MARGIN = 8
_LARGEST_SCALE = 16
# Pixels: of a line of the caption, and of the narrowest sheet, on which a caption has few lines.
_LINE, _NARROWEST = 12, 320
_PAPER, _INK = (250, 250, 250), (70, 70, 70)

# The pictures of one identity: rows of files, None where there is no image.
_Block = list[list["Path | None"]]


def check_sheet_name(path: str | os.PathLike) -> None:
    """Raise InputError unless ``path`` ends in .png, the format of a sheet.

    >>> check_sheet_name("sheet.png")
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f'the contact sheet "{path}" must end in .png; name it so')


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
    sheet = _draw(blocks, columns, size, caption, stretch={1} if modalities else set())
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    return path


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


def _draw(blocks: list[_Block], columns: int, size: tuple[int, int], caption: str, stretch: set[int]) -> Image.Image:
    """Return the sheet of ``blocks``, all with the same numbers of rows and columns; ``stretch`` names rows of a block."""
    across, down = len(blocks[0][0]) * size[0] + _MARGIN, len(blocks[0]) * size[1] + _MARGIN
    rows = -(-len(blocks) // columns)
    width = max(columns * across + _MARGIN, _NARROWEST)
    font = ImageFont.load_default()
    lines = _wrapped(caption, font, width - 2 * _MARGIN)
    head = _MARGIN + _LINE * len(lines)
    sheet = Image.new("RGB", (width, rows * down + head + _MARGIN), _PAPER)
    for place, block in enumerate(blocks):
        left, top = _MARGIN + place % columns * across, head + place // columns * down
        for row, files in enumerate(block):
            for column, file in enumerate(files):
                if file is None:
                    continue
                with Image.open(file) as image:
                    picture = stretched(image) if row in stretch else image.convert("RGB")
                picture = picture.resize(size, Image.Resampling.LANCZOS)
                sheet.paste(picture, (left + column * size[0], top + row * size[1]))
    ImageDraw.Draw(sheet).multiline_text((_MARGIN, 4), "\n".join(lines), fill=_INK, font=font, spacing=1)
    return sheet


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Return the lines of ``text`` that are at most ``width`` pixels wide."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _by_modality(folder: Path, modalities: dict[str, tuple[str, ...]], identity: int, images: int) -> _Block:
    """Return one row per modality with the images of one identity, the first one of each camera first."""
    block = []
    for folders in modalities.values():
        files = [
            (rank, camera, file)
            for camera, name in enumerate(folders)
            for label in {str(identity), f"{identity:04d}"}
            for rank, file in enumerate(sorted((folder / name / label).glob("*.*")))
        ]
        block.append(_padded([file for _, _, file in sorted(files)], images))
    return block


def _by_camera(folder: Path, network: CameraNetwork, cameras: int, identities: int, images: int) -> list[_Block]:
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
        [list(row) for row in zip(*(_padded(columns[who, camera], images) for camera in range(1, cameras + 1)))]
        for who in shown
    ]


def _padded(files: list[Path], count: int) -> list[Path | None]:
    return [*files[:count], *[None] * (count - len(files))]
