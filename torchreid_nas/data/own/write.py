"""Writing own images down as a CSV file that reads as the same data."""
from __future__ import annotations

__all__ = ["write_table"]

import csv
import io
import os
from pathlib import Path

from torchreid_nas.data.own.records import Records
from torchreid_nas.data.own.table import COLUMNS, cell
from torchreid_nas.errors import InputError
from torchreid_nas.files import write_text


def write_table(records: Records, file: Path) -> Path:
    """Write a row per image, with paths relative to the file and the columns that hold something, and return the file.

    Raises:
        InputError: the images have no labels, a name is no UTF-8, or the file cannot be written.
    """
    if not records.labelled:
        raise InputError(
            f'the images of "{records.source}" have no labels, which a table needs; say with a layout where the persons '
            "stand, or name the folder itself as the unlabelled target of ECN"
        )
    columns = [name for name in COLUMNS if name in ("path", "pid") or any(getattr(row, name) for row in records.rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    base = Path(os.path.abspath(file.parent))  # noqa: PTH100  links are kept
    for row in records.rows:
        path = os.path.relpath(row.path, base).replace(os.sep, "/")
        # A leading "./" keeps a path from being read as a formula or as an option.
        path = path if path.startswith("../") else f"./{path}"
        writer.writerow([path, *(cell(getattr(row, name)) for name in columns[1:])])
    try:
        write_text(file, text.getvalue())
    except UnicodeEncodeError as error:
        raise InputError(f'a name among the images of "{records.source}" is no UTF-8 ({error.reason}); rename it') from error
    return file
