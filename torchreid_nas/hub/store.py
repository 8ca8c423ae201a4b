"""The files of the zoo on this machine: their folder, their download, and their check."""
from __future__ import annotations

__all__ = ["fetch", "fetch_architecture", "home", "is_offline", "path_of", "verify"]

import contextlib
import os
import re
from pathlib import Path

import torch

from torchreid_nas.errors import InputError
from torchreid_nas.files import file_digest, write_text
from torchreid_nas.hub.catalogue import find_entry
from torchreid_nas.hub.checks import by_hand, check_file, record_sha256
from torchreid_nas.hub.download import alone, download, is_offline
from torchreid_nas.hub.drive import download_from_folder
from torchreid_nas.hub.entry import Entry
from torchreid_nas.hub.errors import DownloadFailed
from torchreid_nas.hub.host_loader import cached_file, download_by_torchreid

_HOME = "TORCHREID_NAS_HOME"


def home() -> Path:
    """Return the folder of the files: ``TORCHREID_NAS_HOME``, else ``torchreid_nas`` in torch's hub cache."""
    given = os.environ.get(_HOME)
    return Path(given).expanduser() if given else Path(torch.hub.get_dir()) / "checkpoints" / "torchreid_nas"


def path_of(entry: Entry, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return where the file of ``entry`` is, or would be: in :func:`home`, or in ``folder``."""
    if entry.source.kind == "file":
        return Path(entry.origin).parent / Path(entry.source.path).expanduser()
    if entry.source.kind == "torchreid":
        return cached_file(entry)
    return Path(folder or home()) / entry.file


def fetch(name: str | Entry, folder: str | os.PathLike[str] | None = None, offline: bool = False) -> Path:
    """Return the checked file of an entry, downloaded if it is not here yet.

    Args:
        name: of the entry, or the entry.
        folder: where to keep the file, instead of :func:`home`.
        offline: do not download, as ``TORCHREID_NAS_OFFLINE=1``.

    Raises:
        InputError: unknown name; a file that cannot be had (what to do by hand
            is said); a file that is not the one that the entry describes.
    """
    entry = name if isinstance(name, Entry) else find_entry(name)
    if folder is not None and entry.source.kind in ("file", "torchreid"):
        raise InputError(
            f'the file of the zoo entry "{entry.name}" stays where it is ("{path_of(entry)}"); name no other folder'
        )
    path = path_of(entry, folder)
    if path.exists():
        check_file(entry, path, path)
        # A shared cache may be read-only for this user; the file is good all the same.
        with contextlib.suppress(InputError):
            record_sha256(entry, path)
        return path
    if entry.source.kind == "file":
        raise InputError(
            f'the file "{path}" of the zoo entry "{entry.name}" does not exist; restore it or correct source.path in '
            f'"{entry.origin}"'
        )
    if offline or is_offline():
        raise InputError(
            f'the zoo entry "{entry.name}" is not on this machine and downloads are off; {by_hand(entry, path)}'
        )
    with alone(path, _HOME):
        if not path.exists():
            _download(entry, path)
    return path


def fetch_architecture(entry: Entry) -> Path:
    """Return the architecture file that lies in the Drive folder of an entry, downloaded if it is not here yet.

    Raises:
        InputError: it cannot be had; what to do by hand is said.
    """
    path = path_of(entry).with_suffix(".cfg")
    if path.exists():
        return path
    address = f"https://drive.google.com/drive/folders/{entry.source.architecture_folder}"
    pattern = entry.source.architecture_pattern
    way_out = f'by hand: open {address} in a browser and put the file that fits "{pattern}" at "{path}"'
    what = f'the architecture of the zoo entry "{entry.name}"'
    if is_offline():
        raise InputError(f"{what} is not on this machine and downloads are off; {way_out}")
    part = path.with_name(path.name + ".part")
    try:
        download_from_folder(entry.source.architecture_folder, pattern, part)
        text = part.read_text(encoding="utf-8")
        if not re.fullmatch(r"[01\s,]+", text):
            raise DownloadFailed("what came holds more than the authors' list of 0 and 1")
    except (DownloadFailed, UnicodeDecodeError) as error:
        raise InputError(f"{what} could not be downloaded: {error}; {way_out}") from error
    finally:
        part.unlink(missing_ok=True)
    write_text(path, text)
    return path


def verify(name: str | Entry, path: str | os.PathLike[str] | None = None) -> str:
    """Check the file of an entry on this machine and return what was checked.

    Raises:
        InputError: unknown name, no file, or another file than the entry describes.
    """
    entry = name if isinstance(name, Entry) else find_entry(name)
    path = Path(path) if path is not None else path_of(entry)
    if not path.exists():
        raise InputError(
            f'the zoo entry "{entry.name}" is not on this machine ("{path}" does not exist); '
            f"`torchreid-nas zoo download {entry.name}` gets it"
        )
    return check_file(entry, path, path)


def _download(entry: Entry, path: Path) -> None:
    """Download into ``<path>.part``, check, and give the file its name."""
    if entry.source.kind == "torchreid":
        try:
            download_by_torchreid(entry)
        except DownloadFailed as error:
            raise InputError(
                f'the zoo entry "{entry.name}" could not be downloaded: {error}; {by_hand(entry, path)}'
            ) from error
        check_file(entry, path, path)
        record_sha256(entry, path)
        return
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    try:
        _transfer(entry, part)
    except DownloadFailed as error:
        # A server may announce too many bytes; the file is complete where the checksum fits.
        if not (error.resumable and entry.checksum and file_digest(part, entry.checksum[0]) == entry.checksum[1]):
            again = "the same command goes on from there, or " if error.resumable else ""
            if not error.resumable:
                part.unlink(missing_ok=True)
                part.with_name(part.name + ".json").unlink(missing_ok=True)
            raise InputError(
                f'the zoo entry "{entry.name}" could not be downloaded: {error}; {again}{by_hand(entry, path)}'
            ) from error
    try:
        check_file(entry, part, path)
    except InputError:
        part.unlink(missing_ok=True)
        if not resumed:
            raise
        # The part of an earlier download may have been at fault.
        _download(entry, path)
        return
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
    record_sha256(entry, path)


def _transfer(entry: Entry, part: Path) -> None:
    if entry.source.kind == "url":
        download(entry.source.url, part, entry.name, entry.size)
    else:
        download_from_folder(entry.source.folder, entry.source.pattern, part)
