"""A contact sheet of a generated data set: what the persons look like in both modalities."""
from __future__ import annotations

__all__ = ["contact_sheet"]

import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from torchreid_nas.data.synthetic.layouts import MODALITY_FOLDERS
from torchreid_nas.data.synthetic.store import find_synthetic
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path

_MARGIN = 8
_CAPTION = 20
_PAPER, _INK = (250, 250, 250), (70, 70, 70)


def contact_sheet(
    folder: str | os.PathLike,
    path: str | os.PathLike,
    identities: int = 12,
    images: int = 2,
    columns: int = 6,
    scale: float = 1.0,
) -> Path:
    """Draw a PNG with the first identities of a generated data set and return its path.

    Each identity is a block of ``images`` columns, visible images above
    infrared ones, of different cameras where there are several; a caption says
    that the pictures are synthetic.

    Args:
        folder: the data set's folder, or the root that holds it.
        path: the PNG to write.
        identities: blocks on the sheet, fewer where the data set has fewer.
        images: images per identity and modality.
        columns: blocks per row.
        scale: enlargement of the stored images.

    Raises:
        InputError: ``folder`` holds no generated data set (a caption must not
            call real images synthetic), a number is below 1, ``path`` does not
            end in .png or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f'the contact sheet "{path}" must end in .png; name it so')
    for name, value in (("identities", identities), ("images", images), ("columns", columns)):
        if value < 1:
            raise InputError(f"contact sheet: {name}={value} must be at least 1")
    folder, marker = find_synthetic(folder)
    settings = marker["settings"]
    size = max(round(settings["width"] * scale), 1), max(round(settings["height"] * scale), 1)
    modalities = MODALITY_FOLDERS[marker["layout"]]
    count = min(identities, settings["identities"])
    columns = min(columns, count)
    block = images * size[0] + _MARGIN, len(modalities) * size[1] + _MARGIN
    sheet = Image.new(
        "RGB", (columns * block[0] + _MARGIN, -(-count // columns) * block[1] + _CAPTION + _MARGIN), _PAPER
    )
    for place in range(count):
        left = _MARGIN + place % columns * block[0]
        top = _CAPTION + place // columns * block[1]
        for row, folders in enumerate(modalities.values()):
            for column, file in enumerate(_images(folder, folders, place + 1)[:images]):
                with Image.open(file) as image:
                    picture = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
                sheet.paste(picture, (left + column * size[0], top + row * size[1]))
    caption = f"Synthetic stand-in in the layout of {folder.name}, not {folder.name}: {' above '.join(modalities)}"
    ImageDraw.Draw(sheet).text((_MARGIN, 4), caption, fill=_INK, font=ImageFont.load_default())
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    return path


def _images(folder: Path, folders: tuple[str, ...], identity: int) -> list[Path]:
    """Return the images of one identity, the first one of each camera first."""
    files = [
        (rank, camera, file)
        for camera, name in enumerate(folders)
        for label in {str(identity), f"{identity:04d}"}
        for rank, file in enumerate(sorted((folder / name / label).glob("*.*")))
    ]
    return [file for _, _, file in sorted(files)]
