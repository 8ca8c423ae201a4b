"""Names of own images as data sets: ``folder:PATH``, ``csv:FILE``, and both with the direction of the retrieval."""
from __future__ import annotations

__all__ = ["OwnSource", "is_own", "split_source"]

import os
from dataclasses import dataclass
from pathlib import Path

from torchreid_nas.errors import InputError

_KINDS = ("folder", "csv")
_REVERSED = "_ir2vis"


@dataclass(frozen=True)
class OwnSource:
    """What the name of own images says.

    Attributes:
        kind: ``"folder"`` or ``"csv"``.
        path: as it is written.
        query_modality: of a set with both modalities: ``"infrared"`` for names that end in ``_ir2vis``, else ``"visible"``.
    """

    kind: str
    path: str
    query_modality: str = "visible"

    def locate(self, root: str | os.PathLike[str] = "") -> Path:
        """Return the folder or file: a relative path is below the current folder, or else below ``root``.

        Raises:
            InputError: neither is there, or both are.
        """
        here = Path(self.path).expanduser()
        below = Path(root).expanduser() / here
        found = [path for path in dict.fromkeys((here, below)) if _is_there(path)]
        if len(found) == 2 and not found[0].samefile(found[1]):
            raise InputError(
                f'"{self.path}" is found below the current folder and below the root "{root}"; write the whole path of the one '
                "that is meant"
            )
        if not found:
            beside = "" if here.is_absolute() or not str(root) else f', nor is "{below}"'
            raise InputError(f'the {_WHAT[self.kind]} "{here}" does not exist{beside}; check the path')
        path = Path(os.path.abspath(found[0]))  # noqa: PTH100  links are kept
        if path.is_dir() != (self.kind == "folder"):
            other = "csv" if self.kind == "folder" else "folder"
            raise InputError(
                f'"{path}" is {"a folder" if path.is_dir() else "no folder"}, expected a {_WHAT[self.kind]}; write '
                f"{other}:{self.path}"
            )
        return path


_WHAT = {"folder": "folder", "csv": "CSV file"}


def is_own(name: str) -> bool:
    """Return whether a name of a data set means own images.

    >>> is_own("folder:photos"), is_own("csv_ir2vis:all.csv"), is_own("regdb")
    (True, True, False)
    """
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix.removesuffix(_REVERSED) in _KINDS


def split_source(name: str) -> OwnSource:
    """Return what a name of own images says; a plain path is a folder, or a CSV file where it ends in ``.csv``.

    Raises:
        InputError: the path is empty.

    Example:
        >>> split_source("csv_ir2vis:all.csv")
        OwnSource(kind='csv', path='all.csv', query_modality='infrared')
        >>> split_source("photos").kind
        'folder'
    """
    if not is_own(name):
        return OwnSource("csv" if name.lower().endswith(".csv") else "folder", name)
    prefix, _, path = name.partition(":")
    if not path:
        raise InputError(f'the data set "{name}" names no path; write {prefix}:PATH')
    reverse = prefix.endswith(_REVERSED)
    return OwnSource(prefix.removesuffix(_REVERSED), path, "infrared" if reverse else "visible")


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises on a name that is too long
