"""Reading and writing the files of a run: never half-written, never unpickled blindly."""
from __future__ import annotations

__all__ = [
    "as_json", "atomic_folder", "atomic_path", "check_archive", "check_folder", "file_digest", "load_checkpoint", "read_json",
    "remove_leftovers", "save_checkpoint", "write_json", "write_text", "written_checkpoint",
]

import contextlib
import hashlib
import json
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchreid_nas.errors import InputError, shown

if TYPE_CHECKING:
    import torch


_MOST_EXPANSION = 100
"""Times the size of its file that an archive may unpack to. Trained weights and features shrink by less than half."""
_SMALL_ARCHIVE = 2**30
"""Bytes that any archive may unpack to."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], by_all: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its name when the block succeeds.

    The temporary file keeps the suffix of ``path`` (libraries choose a format
    by it). It is flushed to disk before the rename, and removed on any failure.
    So a reader sees the old file or the new one, never a part.

    Args:
        path: of the file.
        by_all: of several processes that train one network the process 0 alone gives the file its name, and the others throw
            theirs away; True lets every process name its file, as a cache that lies on the disk of each machine.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    if not (by_all or _names_files()):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
        return
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f'"{path}" could not be written ({error.strerror or error}); free space or choose another folder, '
            "what was there before is unchanged"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _names_files() -> bool:
    """Return whether this process is the process 0; a process that has not imported torch has joined no others."""
    distributed = sys.modules.get("torchreid_nas.distributed")
    return distributed is None or bool(distributed.is_main())


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder`` that takes its name when the block succeeds, and is removed otherwise.

    Raises:
        InputError: ``folder`` exists, or the disk is full or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f'"{folder}" exists already; choose another folder, or remove it')
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(folder)
    except OSError as error:
        raise InputError(
            f'"{error.filename or folder}" cannot be copied or written ({error.strerror}); restore it, free space, or choose '
            "another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(folder: str | os.PathLike[str], option: str) -> None:
    """Refuse a folder that cannot be made or written. The folder is made for the test, and removed again if it was missing.

    Raises:
        InputError: the folder cannot be made or written; the message names ``option``, which chose the folder.
    """
    folder = Path(folder)
    missing = [part for part in (folder, *folder.parents) if not os.path.lexists(part)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f'{option}: the folder "{folder}" cannot be written; name another folder')
    except OSError as error:
        raise InputError(
            f'{option}: the folder "{folder}" cannot be made ({error.strerror}); name another folder'
        ) from error
    finally:
        for part in missing:
            with contextlib.suppress(OSError):
                part.rmdir()


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed process left anywhere below ``folder``."""
    for path in Path(folder).rglob(".*.tmp*"):
        if re.fullmatch(r"\..*\.\d+\.tmp(\.\w+)?", path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` in one step.

    Raises:
        InputError: the file cannot be written, or a number in ``value`` is not finite, which JSON has no word for.
    """
    write_text(path, as_json(value, path, indent=2) + "\n")


def as_json(value: Any, path: str | os.PathLike[str], indent: int | None = None) -> str:
    """Return ``value`` as JSON.

    Args:
        value: plain values.
        path: the file that the text is for; the message names it.
        indent: spaces per level; None for one line.

    Raises:
        InputError: a number in ``value`` is not finite.

    Example:
        >>> as_json({"mAP": 0.5}, "results.json")
        '{"mAP": 0.5}'
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        raise InputError(f'"{path}" was not written: a number in it is not finite (NaN or infinite)') from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON; the line is named.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f'"{path}" cannot be read ({error.strerror}); check the path') from error
    except (ValueError, RecursionError) as error:
        # Beside bad syntax: no UTF-8, a whole number of thousands of digits, thousands of brackets.
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f'"{path}"{where} is not valid JSON; restore the file or make it again') from error


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Save tensors and plain values so that :func:`load_checkpoint` reads them back."""
    with written_checkpoint(path, state):
        pass


@contextlib.contextmanager
def written_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> Iterator[str]:
    """Save as :func:`save_checkpoint` does, and yield the SHA-256 of the file before the file takes its name.

    Args:
        path: the file.
        state: tensors and plain values.
    """
    import torch

    with atomic_path(path) as temporary:
        with temporary.open("wb", buffering=0) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                # The writer of archives hides the error of the file system behind an error of its own.
                cause: BaseException | None = error
                while cause is not None and not isinstance(cause, OSError):
                    cause = cause.__cause__ or cause.__context__
                raise cause or error from None
        yield file_digest(temporary)


def file_digest(path: str | os.PathLike[str], kind: str = "sha256") -> str:
    r"""Return the checksum of a file: ``"sha256"``, or ``"git_blob"``, which is what git calls its content.

    A git blob's id is the SHA-1 of ``blob <size>\0`` and the content.
    """
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git_blob":
        digest.update(b"blob %d\0" % Path(path).stat().st_size)
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_checkpoint(
    path: str | os.PathLike[str], map_location: str | torch.device = "cpu", way_out: str = "download or save it again",
) -> Any:
    """Load a file of tensors and plain values with ``weights_only=True``.

    NumPy's numbers are plain values too: torchreid's engines write the Rank-1 of a checkpoint as one.

    Args:
        path: the file.
        map_location: device of the tensors.
        way_out: end of the message: what helps where the file is broken.

    Raises:
        InputError: the file is missing, truncated, damaged (a flipped bit is found), holds more than
            tensors and plain values (which could run code on loading), or unpacks to far more than it is.
    """
    import torch

    path = Path(path)
    kind = _kind(path)
    if kind is None:
        raise InputError(f'the checkpoint "{shown(path, 200)}" does not exist; check the path')
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "no regular file"
        raise InputError(f'the checkpoint "{path}" is {what}, expected a file')
    damaged = InputError(
        f'the checkpoint "{path}" ({path.stat().st_size:,} bytes) is truncated, damaged or no PyTorch file; {way_out}'
    )
    check_archive(path)
    if not _matches_checksums(path):
        raise damaged
    try:
        with _numbers_of_numpy():
            return torch.load(path, map_location=map_location, weights_only=True)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error):
            raise InputError(
                f'the checkpoint "{path}" holds Python objects beside tensors, which could run code on loading; '
                "save it again with tensors, numbers and strings only"
            ) from error
        raise damaged from error
    except Exception as error:
        # torch's reader meets foreign bytes with errors of many kinds, IndexError and AttributeError among them.
        raise damaged from error


def check_archive(path: str | os.PathLike[str]) -> None:
    """Refuse a zip archive that claims to unpack to far more than it is, before anything of it is unpacked.

    Raises:
        InputError: the archive would fill the memory. A file that is no archive is left to its reader.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(record.file_size for record in archive.infolist())
    except Exception:
        # zipfile answers damaged directories with errors of many kinds; the reader of the file names the damage.
        return
    size = Path(path).stat().st_size
    if unpacked > max(_MOST_EXPANSION * size, _SMALL_ARCHIVE):
        raise InputError(
            f'"{path}" ({size:,} bytes) unpacks to {unpacked:,} bytes, more than {_MOST_EXPANSION} times its size; get the file '
            "from a source that you trust"
        )


def _kind(path: Path) -> int | None:
    """Return the mode of what ``path`` names; None where there is nothing, or the name is no name of a file."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None


def _matches_checksums(path: Path) -> bool:
    """Return whether the records of a file of torch match their CRC-32, which torch writes and does not read.

    A single flipped bit is always found. Files of the older format, and files
    saved without checksums, have nothing to compare with.
    """
    try:
        if not zipfile.is_zipfile(path):
            return True
        with zipfile.ZipFile(path) as archive:
            return not any(record.CRC for record in archive.infolist()) or archive.testzip() is None
    except Exception:
        # zipfile answers damaged directories with errors of many kinds.
        return False


def _numbers_of_numpy() -> contextlib.AbstractContextManager[None]:
    """Return a context in which torch loads NumPy's numbers, which are pure data but unknown to torch's safe reader."""
    import numpy as np
    import torch

    if not hasattr(torch.serialization, "safe_globals"):  # before torch 2.5
        return contextlib.nullcontext()
    number = np.float32(0).__reduce__()[0]
    # Files name the function by its module, which NumPy 2 has renamed.
    places = [(number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    wanted: set[Any] = {*places, np.dtype, *(type(np.dtype(kind)) for kind in "efdlq?")}
    # At its end the context forgets all of its names. Leave out the names that the user's script has added.
    return torch.serialization.safe_globals(list(wanted.difference(torch.serialization.get_safe_globals())))
