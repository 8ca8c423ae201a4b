"""Checks that a file is the file that an entry describes."""
from __future__ import annotations

__all__ = ["by_hand", "check_file", "record_sha256", "recorded_sha256"]

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from torchreid_nas.errors import InputError
from torchreid_nas.files import file_digest, write_text
from torchreid_nas.hub.download import looks_like_html

if TYPE_CHECKING:
    # An entry knows metrics, and these import torchreid, which a digest of a file does not need.
    from torchreid_nas.hub.entry import Entry


def _is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive; a damaged directory of an archive is none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def recorded_sha256(path: Path) -> str | None:
    """Return the sha256 that the first download recorded beside a file without published checksum, or None."""
    record = _record_path(path)
    words = record.read_text(encoding="utf-8", errors="replace").split() if record.is_file() else []
    return words[0] if words else None


def check_file(entry: Entry, path: Path, final: Path) -> str:
    """Compare a file with the facts that are known of the file, and return in words what was compared.

    Args:
        entry: describes the file.
        path: the file; the part of a download has another name than the final file.
        final: the final path of the file; a recorded sha256 lies beside this path.

    Raises:
        InputError: the file is another one, a web page, or truncated.
    """
    what = f'"{path}"' if path == final else f"what came from {entry.source.address}"
    if not path.is_file():
        raise InputError(f'"{path}" is no regular file, expected the file of the zoo entry "{entry.name}"; check the path')
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if looks_like_html(start):
        raise InputError(
            f'{what} is a web page, not the weights of the zoo entry "{entry.name}"; {by_hand(entry, final)}'
        )
    if entry.size is not None and size != entry.size:
        raise InputError(
            f'{what} has {size:,} bytes, the zoo entry "{entry.name}" has {entry.size:,}; {by_hand(entry, final)}'
        )
    if entry.checksum:
        kind, expected = entry.checksum
        found = file_digest(path, kind)
        if found != expected:
            raise InputError(
                f'{what} is not the file of the zoo entry "{entry.name}" ({kind} {found}, expected {expected}): it was '
                f"changed or arrived damaged; {by_hand(entry, final)}"
            )
        return f"{kind} {found}, as the entry says"
    # torch.save writes a zip archive since torch 1.6, and wrote a pickle before.
    if not (_is_archive(path) or start[:1] == b"\x80"):
        raise InputError(
            f'{what} is truncated or no PyTorch file, and not the weights of the zoo entry "{entry.name}"; '
            f"{by_hand(entry, final)}"
        )
    found, first = file_digest(path, "sha256"), recorded_sha256(final)
    if first is not None and found != first:
        raise InputError(
            f'{what} is not the file that the zoo entry "{entry.name}" brought here first (sha256 {found}, then '
            f'{first}); if the new one is wanted, remove "{_record_path(final)}"'
        )
    known = f"as at the first download ({_record_path(final).name})" if first else "which the entry does not know yet"
    return f"sha256 {found}, {known}"


def record_sha256(entry: Entry, path: Path) -> None:
    """Record the sha256 of a file without published checksum, in the form that sha256sum reads."""
    if entry.checksum is None and not _record_path(path).exists():
        write_text(_record_path(path), f"{file_digest(path, 'sha256')}  {path.name}\n")


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def by_hand(entry: Entry, path: Path) -> str:
    """Return a sentence that tells a person how to get the file of an entry to ``path``."""
    source = entry.source
    if source.kind == "file":
        return f'restore the file or correct "{entry.origin}"'
    if source.kind == "torchreid":
        return f'get "{source.cached}" by hand as torchreid\'s documentation says and put it at "{path}"'
    what = f'the file "{source.pattern}" in the folder {source.address}' if source.kind == "drive" else source.address
    return f'by hand: open {what} in a browser and put the file at "{path}"'
