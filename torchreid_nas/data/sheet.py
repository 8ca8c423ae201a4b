"""Contact sheets: blocks of pictures, one block per person, under a caption."""
from __future__ import annotations

__all__ = ["Block", "check_sheet_name", "draw_sheet", "padded"]

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from torchreid_nas.data.display import stretched
from torchreid_nas.data.formats import readable_formats
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path

_MARGIN = 8
# Height of a line of the caption and width of the narrowest sheet, on which a caption has few lines, in pixels.
_LINE, _NARROWEST = 12, 320
_PAPER, _INK = (250, 250, 250), (70, 70, 70)

Block = list[list["Path | None"]]
"""The pictures of one person: rows of files, None where there is no image."""


def check_sheet_name(path: str | os.PathLike) -> None:
    """Raise InputError unless ``path`` ends in .png, the format of a sheet.

    >>> check_sheet_name("sheet.png")
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f'the contact sheet "{path}" must end in .png; name it so')


def draw_sheet(
    path: str | os.PathLike[str], blocks: list[Block], columns: int, size: tuple[int, int], caption: str, stretch: set[int],
) -> Path:
    """Write a PNG of blocks of pictures and return its path.

    Args:
        path: of the PNG.
        blocks: all with the same numbers of rows and columns.
        columns: blocks beside each other.
        size: width and height of a picture in pixels.
        caption: above the blocks.
        stretch: rows of a block that hold infrared pictures, which are shown by :func:`.display.stretched`.

    Raises:
        InputError: the file cannot be written, or a picture cannot be read.
    """
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
                try:
                    with Image.open(file, formats=readable_formats()) as image:
                        picture = stretched(image) if row in stretch else image.convert("RGB")
                except (OSError, ValueError) as error:
                    raise InputError(f'the image "{file}" cannot be read ({error}); remove or replace it') from error
                picture = picture.resize(size, Image.Resampling.LANCZOS)
                sheet.paste(picture, (left + column * size[0], top + row * size[1]))
    ImageDraw.Draw(sheet).multiline_text((_MARGIN, 4), "\n".join(lines), fill=_INK, font=font, spacing=1)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="png")
    return Path(path)


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


def padded(files: Sequence[Path], count: int) -> list[Path | None]:
    """Return the first ``count`` files, and None for those that are missing."""
    return [*files[:count], *[None] * (count - len(files))]
