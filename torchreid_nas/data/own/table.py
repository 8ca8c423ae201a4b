"""Own images named by a CSV file: columns path and pid, and optionally camid, modality, split, role, sequence, frame."""
from __future__ import annotations

__all__ = ["COLUMNS", "cell", "read_table"]

import csv
import difflib
import io
import os
from collections.abc import Sequence
from pathlib import Path

from torchreid_nas.data.own.records import Record, Records
from torchreid_nas.data.own.words import MODALITY_WORDS, PARTS, as_modality, as_part
from torchreid_nas.errors import InputError, nearest, shown

COLUMNS = ("path", "pid", "camid", "modality", "split", "role", "sequence", "frame")
"""The columns of a table; path and pid must be there, and others are left alone."""

_FORMULA = ("=", "+", "-", "@")


def read_table(file: Path, source: str) -> Records:
    """Return the records of a CSV file.

    The first line names the columns, in any order and case. Values are separated by commas, semicolons or tabs. The text is
    UTF-8, with or without a byte order mark. Paths are relative to the file.

    Args:
        file: the CSV file.
        source: name of the source in the records.

    Raises:
        InputError: the file cannot be read, lacks a column, has a row of another length, an image that is missing or comes
            twice, or a word that is unknown.
    """
    lines = _read_lines(file)
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    for column in ("path", "pid"):
        if column not in header:
            found = ", ".join(map(shown, header)) or "nothing"
            raise InputError(
                f'"{file}" has no column "{column}" (its first line has {found}); name the columns {", ".join(COLUMNS)} there, '
                f"of which path and pid must be present{nearest(column, header)}"
            )
    _check_header(file, header)
    if len(lines) < 2:
        raise InputError(f'"{file}" names no image; write a line per image below the names of the columns')
    places = {column: header.index(column) for column in COLUMNS if column in header}
    rows: list[Record] = []
    seen: dict[str, int] = {}
    missing: list[tuple[int, str]] = []
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise InputError(
                f'line {number} of "{file}" has {len(cells)} values, expected {len(header)} as the first line has; write a value '
                "per column, quoted where it holds the separator"
            )
        row = _row(file, number, {column: _text(cells[place]) for column, place in places.items()})
        key = os.path.normcase(row.path)
        if key in seen:
            raise InputError(
                f'line {number} of "{file}" names the image "{shown(cells[places["path"]], 200)}", which line {seen[key]} '
                "already does; leave one line per image"
            )
        seen[key] = number
        if not os.path.isfile(row.path):  # noqa: PTH113  Path.is_file raises on a name that is too long
            missing.append((number, row.path))
        rows.append(row)
    if missing:
        number, path = missing[0]
        raise InputError(
            f'the image "{shown(path, 300)}", line {number} of "{file}", does not exist or is no regular file ({len(missing):,} '
            f"of the {len(rows):,} images); paths are relative to the CSV file"
        )
    return Records(source, file.parent, tuple(rows), f"CSV with {', '.join(places)}")


def cell(text: str) -> str:
    """Return text as a cell that spreadsheets take for text: after = + - @ they would compute. :func:`read_table` undoes it.

    >>> cell("=1+1"), cell("alice")
    ("'=1+1", 'alice')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def _text(value: str) -> str:
    value = value.strip()
    return value[1:] if value[:1] == "'" and value[1:].startswith(_FORMULA) else value


def _read_lines(file: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, values) of every line that is not blank."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        return [(reader.line_num, cells) for cells in reader if any(value.strip() for value in cells)]
    except OSError as error:
        raise InputError(f'"{file}" cannot be read ({error.strerror}); check the path and its permissions') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f'"{file}" is no text of comma-separated values ({error}); save it as CSV in UTF-8') from error


def _check_header(file: Path, header: Sequence[str]) -> None:
    """Refuse a column that comes twice, and one whose name is nearly that of a known one: its values would go unread."""
    for name in header:
        if name in COLUMNS and header.count(name) > 1:
            raise InputError(f'"{file}" has the column "{name}" twice; leave one of them')
        meant = difflib.get_close_matches(name, [column for column in COLUMNS if column not in header], n=1, cutoff=0.75)
        if name not in COLUMNS and meant:
            raise InputError(f'"{file}" has the column "{shown(name)}"; write "{meant[0]}" if that is meant, or another name')


def _row(file: Path, number: int, cells: dict[str, str]) -> Record:
    where = f'line {number} of "{file}"'
    name = cells["path"]
    if not name:
        raise InputError(f"{where} has no path; name the image, or leave the line out")
    path = Path(os.path.normpath(file.parent / name))
    if "\\" in name and not path.exists():
        path = Path(os.path.normpath(file.parent / name.replace("\\", "/")))
    modality = as_modality(cells.get("modality", ""))
    if cells.get("modality") and not modality:
        raise InputError(
            f'{where} has the modality "{shown(cells["modality"])}", expected one of {", ".join(MODALITY_WORDS)}; write '
            "one of these words"
        )
    parts = []
    for column in ("split", "role"):
        word = cells.get(column, "")
        part = as_part(word) if word else ("", "")
        if part is None:
            raise InputError(
                f'{where} has the {column} "{shown(word)}", expected one of {", ".join(PARTS)}; write one of these words'
            )
        parts.append(part)
    splits, roles = ({part[side] for part in parts if part[side]} for side in range(2))
    if len(splits) > 1 or len(roles) > 1:
        raise InputError(
            f'{where} has the split "{cells["split"]}" and the role "{cells["role"]}", which contradict '
            "each other; leave one of them empty"
        )
    return Record(
        str(path), cells["pid"], cells.get("camid", ""), modality, "".join(splits), "".join(roles),
        cells.get("sequence", ""), cells.get("frame", ""),
    )
