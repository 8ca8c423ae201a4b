"""Finding a data set on disk, and saying what to do when it is not there."""
from __future__ import annotations

__all__ = ["IMAGE_SUFFIXES", "Layout", "read_identities", "read_lines"]

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torchreid_nas.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk, and where it comes from.

    Args:
        name: the data set's own folder name, looked for under the root.
        markers: entries that, all present, show that a folder *is* the data
            set, whatever its name.
        tree: the expected content, one line per entry.
        request: where the data set is requested.
        stand_in: its name for ``torchreid-nas synthetic``.
    """

    name: str
    markers: tuple[str, ...]
    tree: tuple[str, ...]
    request: str
    stand_in: str

    def locate(self, root: str | os.PathLike) -> Path:
        """Return ``<root>/<name>``, or ``root`` when that is the data set's folder itself.

        Args:
            root: a folder; ``""`` is the current one, ``~`` the home folder.

        Raises:
            InputError: neither is there.
        """
        base = Path(os.path.abspath(Path(root).expanduser()))  # noqa: PTH100  links are kept
        inside = base / self.name
        if inside.is_dir():
            return inside
        if base.is_dir() and (base.name == self.name or all((base / marker).exists() for marker in self.markers)):
            return base
        raise self.missing(base if base.name == self.name else inside, "does not exist")

    def require(self, folder: Path, entries: Iterable[str]) -> None:
        """Check that every entry (file or non-empty folder) is under ``folder``.

        Raises:
            InputError: one is missing, or is an empty file or folder.
        """
        for entry in entries:
            path = folder / entry
            if not path.exists():
                raise self.missing(folder, f"lacks {entry}")
            if not (any(path.iterdir()) if path.is_dir() else path.stat().st_size):
                raise self.missing(folder, f"has an empty {entry}")

    def missing(self, folder: Path, problem: str) -> InputError:
        """Return the error for ``folder``: what is wrong, both ways out, and the expected layout."""
        root = folder.parent if folder.name == self.name else folder
        tree = "\n".join([f"{folder}/", *(f"    {line}" for line in self.tree)])
        return InputError(
            f'the {self.name} folder "{folder}" {problem}; request the data set at {self.request} and unpack it as '
            f"below, or generate a stand-in with: torchreid-nas synthetic {self.stand_in} "
            f"--root {shlex.quote(str(root))}\nExpected layout:\n{tree}"
        )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the non-blank lines of a text file as (1-based line number, stripped text).

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8 text.
    """
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f'"{path}" cannot be read ({error.strerror}); check the path and its permissions') from error
    lines = []
    for number, raw in enumerate(content.splitlines(), start=1):
        try:
            text = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f'line {number} of "{path}" is not text; unpack the data set again') from error
        if text:
            lines.append((number, text))
    return lines


def read_identities(path: Path) -> set[int]:
    """Read a comma-separated list of identity numbers.

    Raises:
        InputError: a word is no number of at least 1, or there is none.
    """
    ids = set()
    for number, line in read_lines(path):
        for word in line.strip(",").split(","):
            word = word.strip()
            if not re.fullmatch("[0-9]{1,18}", word) or int(word) < 1:
                raise InputError(
                    f'line {number} of "{path}" holds {word[:40]!r}, expected identity numbers from 1 '
                    "separated by commas; restore the file"
                )
            ids.add(int(word))
    if not ids:
        raise InputError(f'"{path}" lists no identities; restore the file')
    return ids
