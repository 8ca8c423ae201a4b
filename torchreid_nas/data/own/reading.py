"""read_records: own images of any kind by the name of their source."""
from __future__ import annotations

__all__ = ["read_records"]

import os

from torchreid_nas.data.own.folder import read_folder
from torchreid_nas.data.own.names import split_source
from torchreid_nas.data.own.records import Records, check_records
from torchreid_nas.data.own.table import read_table


def read_records(source: str | os.PathLike[str], layout: str = "", root: str | os.PathLike[str] = "") -> Records:
    """Return a row per image of own data: path, person, camera, modality, split, role, sequence.

    No image is opened. Labels and paths are checked: see the sentences of :func:`~.records.check_records`.

    Args:
        source: ``"folder:PATH"``, ``"csv:FILE"``, or a plain path to a folder or a ``.csv`` file.
        layout: of a folder, a :class:`~.pattern.Pattern`; ``""`` recognises it. A CSV file has none.
        root: where a relative path is sought besides the current folder.

    Raises:
        InputError: see :func:`~.folder.read_folder`, :func:`~.table.read_table` and :func:`~.records.check_records`.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("visible/alice/1.jpg", "infrared/alice/1.jpg"):
        ...         path = pathlib.Path(folder, name)
        ...         path.parent.mkdir(parents=True)
        ...         path.touch()
        ...     records = read_records(f"folder:{folder}")
        >>> records.layout, [(row.pid, row.modality) for row in records.rows]
        ('modality/person/image', [('alice', 'visible'), ('alice', 'infrared')])
    """
    own = split_source(os.fspath(source))
    path = own.locate(root)
    name = f"{own.kind}:{path}"
    if own.kind == "csv":
        return check_records(read_table(path, name), f'"{path}"')
    return check_records(read_folder(path, name, layout), f'the folder "{path}"')
