"""Own images in a folder: which layout the folder has, and what each path says."""
from __future__ import annotations

__all__ = ["find_images", "read_folder"]

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from torchreid_nas.data.formats import readable_suffixes
from torchreid_nas.data.own.pattern import Pattern
from torchreid_nas.data.own.records import Record, Records, natural
from torchreid_nas.data.own.words import as_modality, as_part, is_camera, is_date
from torchreid_nas.errors import InputError, shown

_MARKET = re.compile(r"(?P<pid>-1|[0-9]{1,18})_c(?P<camid>[0-9]{1,18})(?:[^0-9].*)?", re.DOTALL)
_JUNK = "-1"
_ASK = 'say it with a layout, such as --layout "{pid}/{camid}/{frame}" (config key data.layout)'

Reader = Callable[[str], "dict[str, str] | None"]


def read_folder(folder: Path, source: str, layout: str = "") -> Records:
    """Return the records of the images below a folder.

    With a layout each path is read by it. Without one, in this order:

    1. Names as in Market-1501 (``0002_c1s1_000451_03.jpg``), if all images have such names: person and camera.
       Folders above may name a split or a modality. Another folder must be the person's or hold all images.
       Junk (-1) is left out.
    2. Else the folders. All images must lie equally deep. A level all of whose names are words of a modality, of a split or of
       cameras (``cam3``) says that. A folder that holds all images says nothing. One level may be left, which is the person's.
       More than one, or days as names, are asked for.
    3. Without any level for persons the images have no labels.

    Args:
        folder: the folder.
        source: name of the source in the records.
        layout: a :class:`Pattern`; ``""`` recognises the layout.

    Raises:
        InputError: the folder or a folder in it cannot be read, it holds no image, no image fits the layout, or the layout is
            not clear.
    """
    names, others = find_images(folder)
    if not names:
        held = f" (it holds {len(others):,} other files, the first: {shown(others[0])})" if others else ""
        raise InputError(f'the folder "{folder}" holds no image{held}; check the path')
    if layout:
        return _by_pattern(folder, source, names, others, Pattern(layout))
    matches = {name: _MARKET.fullmatch(PurePosixPath(name).stem) for name in names}
    if all(matches.values()):
        levels = _levels(folder, names)
        said, read = "names as in Market-1501", _market_reader(folder, levels, names)
    elif _depth(names[0]) == 0 and any(matches.values()):
        count = sum(map(bool, matches.values()))
        odd = next(name for name in names if not matches[name])
        raise InputError(
            f'in the folder "{folder}" {count:,} of {len(names):,} images have names as in Market-1501, and others such as '
            f'"{shown(odd)}" do not; rename them or move them elsewhere, or {_ASK}'
        )
    else:
        levels = _levels(folder, names)
        said, read = _by_levels(folder, levels, names[0])
    rows = tuple(
        _record(folder, name, fields) for name in names if (fields := read(name)) is not None
    )
    if not rows:
        raise InputError(f'all {len(names):,} images of the folder "{folder}" are junk (-1) of Market-1501; check the path')
    return Records(source, folder, rows, said, (), tuple(others))


def find_images(folder: Path) -> tuple[list[str], list[str]]:
    """Return the images and the other files below a folder by their names below it, in order.

    Hidden files and folders are left out. Links are followed, but not in circles. What is no regular file counts as another file.

    Raises:
        InputError: the folder or a folder in it cannot be read.
    """
    suffixes, visited = readable_suffixes(), set()
    images: list[str] = []
    others: list[str] = []

    def refuse(error: OSError) -> None:
        raise InputError(
            f'the folder "{error.filename}" cannot be read ({error.strerror}); change its permissions, or move it elsewhere'
        ) from error

    for base, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(base)
        folders[:] = [] if real in visited else sorted(name for name in folders if not name.startswith("."))
        if real in visited:
            continue
        visited.add(real)
        below = os.path.relpath(base, folder)
        for file in files:
            if file.startswith("."):
                continue
            name = file if below == "." else f"{below.replace(os.sep, '/')}/{file}"
            regular = os.path.isfile(Path(base, file))  # noqa: PTH113  Path.is_file raises on a name that is too long
            (images if regular and PurePosixPath(file).suffix.lower() in suffixes else others).append(name)
    return sorted(images, key=natural), sorted(others, key=natural)


def _by_pattern(folder: Path, source: str, names: Sequence[str], others: Sequence[str], pattern: Pattern) -> Records:
    found = {name: pattern.match(name) for name in names}
    unmatched = tuple(name for name, fields in found.items() if fields is None)
    if len(unmatched) == len(names):
        strange = pattern.strange_word(names[0])
        because = f" ({strange})" if strange else ""
        raise InputError(
            f'none of the {len(names):,} images of the folder "{folder}" fits the layout "{pattern.text}"; the first one is '
            f'"{shown(names[0], 200)}"{because}'
        )
    rows = tuple(_record(folder, name, fields) for name, fields in found.items() if fields is not None)
    return Records(source, folder, rows, f"layout {pattern.text}", unmatched, tuple(others))


def _levels(folder: Path, names: Sequence[str]) -> list[set[str]]:
    """Return the names of the folders on every level.

    Raises:
        InputError: images lie at different depths.
    """
    odd = next((name for name in names if _depth(name) != _depth(names[0])), None)
    if odd is not None:
        raise InputError(
            f'in the folder "{folder}" images lie at different depths, such as "{shown(names[0])}" and "{shown(odd)}"; bring '
            f"them to one depth, or {_ASK}"
        )
    return [set(level) for level in zip(*(name.split("/")[:-1] for name in names))]


def _by_levels(folder: Path, levels: Sequence[set[str]], example: str) -> tuple[str, Reader]:
    """Return the layout in words and a function that reads a path."""
    meanings = [_meaning(level) for level in levels]
    free = [index for index, meaning in enumerate(meanings) if not meaning]
    # A folder that holds all images says nothing beside one that does not.
    free = [index for index in free if len(levels[index]) > 1] or free
    twice = next((meaning for meaning in meanings if meaning and meanings.count(meaning) > 1), "")
    if len(free) > 1 or twice:
        count, unclear = (2, f"that name a {twice}") if twice else (len(free), "whose meaning is not clear")
        raise InputError(f'the folder "{folder}" has {count} levels of folders {unclear}, as in "{shown(example, 200)}"; {_ASK}')
    if free and all(map(is_date, levels[free[0]])):
        raise InputError(f'the folders in "{folder}" are named as days, as in "{shown(example, 200)}", hardly persons; {_ASK}')
    if free:
        meanings[free[0]] = "person"
    said = "/".join([*filter(None, meanings), "image"]) + ("" if free else " (no labels)")

    def read(name: str) -> dict[str, str]:
        *parents, file = name.split("/")
        fields = {"frame": PurePosixPath(file).stem}
        for meaning, word in zip(meanings, parents):
            if meaning:
                fields[_FIELD_OF[meaning]] = word
        return fields

    return said, read


def _market_reader(folder: Path, levels: Sequence[set[str]], names: Sequence[str]) -> Reader:
    meanings = [_meaning(level) for level in levels]
    # A folder that holds all images says nothing.
    own = [index for index, meaning in enumerate(meanings) if meaning not in ("modality", "split") and len(levels[index]) > 1]

    def read(name: str) -> dict[str, str] | None:
        *parents, file = name.split("/")
        found = _MARKET.fullmatch(PurePosixPath(file).stem)
        assert found is not None
        fields = {"pid": found["pid"], "camid": found["camid"], "frame": PurePosixPath(file).stem}
        fields.update({
            _FIELD_OF[meaning]: word for meaning, word in zip(meanings, parents) if meaning in ("modality", "split")
        })
        return None if found["pid"] == _JUNK else fields

    for name in names:
        found = _MARKET.fullmatch(PurePosixPath(name).stem)
        parents = name.split("/")
        pid = found["pid"].lstrip("0") if found else ""
        if any(parents[index].lstrip("0") != pid for index in own):
            raise InputError(
                f'in the folder "{folder}" the image "{shown(name, 200)}" has a name as in Market-1501 and a folder that is not '
                f"its person's; {_ASK}"
            )
    return read


_FIELD_OF = {"person": "pid", "camera": "camid", "modality": "modality", "split": "split"}


def _meaning(level: set[str]) -> str:
    """Return what the folders of a level name; ``""`` where their names alone do not say it."""
    if all(map(as_modality, level)):
        return "modality"
    if all(as_part(word) is not None for word in level):
        return "split"
    return "camera" if all(map(is_camera, level)) else ""


def _record(folder: Path, name: str, fields: dict[str, str]) -> Record:
    parts = [as_part(fields[field]) or ("", "") for field in ("split", "role") if field in fields]
    split = next((split for split, _ in parts if split), "")
    role = next((role for _, role in reversed(parts) if role), "")
    return Record(
        str(folder / name), fields.get("pid", ""), fields.get("camid", ""), as_modality(fields.get("modality", "")), split, role,
        fields.get("sequence", ""), fields.get("frame", ""),
    )


def _depth(name: str) -> int:
    return name.count("/")
