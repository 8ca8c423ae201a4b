"""The lock of a run's folder: one process at a time writes into it."""
from __future__ import annotations

__all__ = ["hold"]

import contextlib
import datetime
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from torchreid_nas.distributed import is_main
from torchreid_nas.errors import InputError
from torchreid_nas.files import check_folder, read_json, write_json
from torchreid_nas.run.folder import RunFolder

# Loader processes of a killed run end by themselves within this time; until then they keep its lock.
_SECONDS_OF_ORPHANS = 15.0
_HELD: set[tuple[str, int]] = set()
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: RunFolder) -> Iterator[None]:
    """Own the folder of a run inside the block; within it the same thread may hold the folder again.

    The system gives the lock of a process free when the process ends, however
    it ends. A folder that the block leaves empty is removed again. Of several
    processes that train one network the process 0 owns the folder.

    Args:
        folder: made where it is missing.

    Raises:
        InputError: another process holds the folder, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = RunFolder(Path(tempfile.mkdtemp()) / "run")
        >>> with hold(folder):
        ...     folder.path.exists()
        True
        >>> folder.path.exists()
        False
    """
    key = (os.path.realpath(folder.path), threading.get_ident())
    if key in _HELD or not is_main():
        yield
        return
    check_folder(folder.path, "--output")
    made = [part for part in (folder.path, *folder.path.parents) if not part.exists()]
    lock = _acquire(folder)
    _HELD.add(key)
    try:
        write_json(folder.holder, {
            "host": socket.gethostname(), "pid": os.getpid(),
            "since": datetime.datetime.now().isoformat(" ", "seconds"),
        })
        yield
    finally:
        _HELD.discard(key)
        with contextlib.suppress(OSError):
            folder.holder.unlink(missing_ok=True)
            if [path.name for path in folder.path.iterdir()] == [folder.lock.name]:
                folder.lock.unlink()
            for part in made:
                part.rmdir()
        lock.release()


def _acquire(folder: RunFolder) -> BaseFileLock:
    """Return the lock once this process has it."""
    lock, deadline = FileLock(folder.lock), time.monotonic() + _SECONDS_OF_ORPHANS
    while True:
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
            if folder.lock.exists():
                return lock
            # The holder before this one removed the folder, which it left empty.
            lock.release()
        except Timeout as error:
            holder = _holder(folder)
            if not _is_dead(holder) or time.monotonic() > deadline:
                raise InputError(
                    f'"{folder}" is in use by {_named(holder)}; wait for its end, or choose another --output'
                ) from error
            time.sleep(0.2)
        except OSError as error:
            logger.warning(
                f'the file system of "{folder}" knows no locks ({error.strerror or error}); start no second run in this folder'
            )
            return lock


def _holder(folder: RunFolder) -> Mapping[str, Any]:
    """Return what the process that holds the folder wrote, empty where it has not written yet."""
    try:
        holder = read_json(folder.holder)
    except InputError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _named(holder: Mapping[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


def _is_dead(holder: Mapping[str, Any]) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
