"""One pass over all images: several processes, bounded memory, a bar, and measurements that outlive a killed run."""
from __future__ import annotations

__all__ = ["Store", "cache_file", "measure_all"]

import collections
import contextlib
import hashlib
import itertools
import logging
import multiprocessing
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from torchreid_nas.doctor.measure import MEASUREMENT, measure

logger = logging.getLogger(__name__)

# Images that a process takes at once, and portions that wait per process.
_PORTION = 64
_WAITING = 4
# Raised when the same image begins to give another measurement.
_VERSION = 2
_LAYOUT = hashlib.sha256(f"{_VERSION}{MEASUREMENT.descr}".encode()).hexdigest()


def cache_file(root: str | os.PathLike[str]) -> Path:
    """Return where measurements of the images below a folder are kept: in the user's cache folder (``XDG_CACHE_HOME``)."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
    return Path(user).expanduser() / "torchreid_nas" / "doctor" / f"{name}.sqlite"


class Store:
    """Measurements of images on disk; one of an image holds while its size and its time of change stay.

    A store that cannot be written, or that is damaged, is done without: a
    warning says so. Every portion of images is kept as soon as it is measured, so
    that a killed run goes on where it was.

    Args:
        path: of the file; None keeps nothing.

    Example:
        >>> with Store(None) as store:
        ...     store.find("a.jpg", 1, 1)
    """

    def __init__(self, path: Path | None) -> None:
        self._base: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = _opened(path)
        except (OSError, sqlite3.Error) as error:
            logger.warning(
                'the measurements are not kept: "%s" cannot be used (%s); a killed run then starts from the beginning',
                path, error,
            )

    def find(self, path: str, size: int, changed: int) -> bytes | None:
        """Return the measurement of an image as bytes; None where there is none of this state of the file."""
        if self._base is None:
            return None
        with contextlib.suppress(sqlite3.Error):
            query = "SELECT row FROM images WHERE path = ? AND size = ? AND changed = ?"
            found = self._base.execute(query, (os.fsencode(path), size, changed)).fetchone()
            if found is not None and len(found[0]) == MEASUREMENT.itemsize:
                return bytes(found[0])
        return None

    def keep(self, rows: Iterable[tuple[str, int, int, bytes]]) -> None:
        """Keep measurements: path, size, time of change in ns, bytes."""
        if self._base is None:
            return
        try:
            with self._base:
                self._base.executemany(
                    "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)",
                    ((os.fsencode(path), size, changed, row) for path, size, changed, row in rows),
                )
        except sqlite3.Error as error:
            logger.warning("measurements are no longer kept (%s); a killed run then starts from here", error)
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure_all(
    paths: Sequence[str], store: Path | None = None, workers: int | None = None, progress: bool = True,
) -> np.ndarray:
    """Return the measurements of all images, in order, shape (N,), dtype :data:`~torchreid_nas.doctor.measure.MEASUREMENT`.

    Args:
        paths: of the images; what is wrong with a file becomes its state.
        store: file of measurements, see :class:`Store`; None keeps nothing.
        workers: processes; default one per core that this process may use; 0 or 1 measures in this process.
        progress: show a bar, on terminals only.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a process was killed; with a store the same call goes on from there.

    Example:
        >>> measure_all(["no/such.png"])["state"]
        array([1], dtype=uint8)
    """
    rows = np.zeros(len(paths), MEASUREMENT)
    with Store(store) as kept, tqdm(total=len(paths), unit="image", desc="images", disable=None if progress else True) as bar:
        waiting: list[tuple[int, str, int, int]] = []
        for number, path in enumerate(paths):
            size, changed = _state(path)
            found = kept.find(path, size, changed)
            if found is None:
                waiting.append((number, path, size, changed))
            else:
                rows[number] = np.frombuffer(found, MEASUREMENT)[0]
        bar.update(len(paths) - len(waiting))
        portions = [waiting[start:start + _PORTION] for start in range(0, len(waiting), _PORTION)]
        for portion, measured in _measured(portions, _processes(workers)):
            kept.keep((path, size, changed, row) for (_, path, size, changed), row in zip(portion, measured) if size >= 0)
            for (number, *_), row in zip(portion, measured):
                rows[number] = np.frombuffer(row, MEASUREMENT)[0]
            bar.update(len(portion))
    return rows


_Portion = list[tuple[int, str, int, int]]


def _measured(portions: Sequence[_Portion], processes: int) -> Iterator[tuple[_Portion, list[bytes]]]:
    """Yield every portion with its measurements; no more portions wait than the processes can take soon."""
    if processes < 2 or len(portions) < 2:
        for portion in portions:
            yield portion, _measure([path for _, path, *_ in portion])
        return
    # A forked process has no torch to import, and never computes with torch.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context(method))
    try:
        left = iter(portions)
        running = collections.deque(_start(pool, portion) for portion in itertools.islice(left, _WAITING * processes))
        while running:
            portion, future = running.popleft()
            yield portion, future.result()
            running.extend(_start(pool, portion) for portion in itertools.islice(left, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _start(pool: Executor, portion: _Portion) -> tuple[_Portion, Future[list[bytes]]]:
    return portion, pool.submit(_measure, [path for _, path, *_ in portion])


def _measure(paths: list[str]) -> list[bytes]:
    return [measure(path).tobytes() for path in paths]


def _processes(workers: int | None) -> int:
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _state(path: str) -> tuple[int, int]:
    """Return size and time of change of a file; -1 where it cannot be asked."""
    try:
        about = os.stat(path)  # noqa: PTH116  asked of every image
    except (OSError, ValueError):
        return -1, -1
    return about.st_size, about.st_mtime_ns


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file of measurements; a damaged one, or one of another version, is begun anew."""
    for attempt in range(2):
        base = sqlite3.connect(path, timeout=30)
        try:
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute("CREATE TABLE IF NOT EXISTS layout (digest TEXT)")
            found = base.execute("SELECT digest FROM layout").fetchone()
            if found is None or found[0] != _LAYOUT:
                with base:
                    base.execute("DROP TABLE IF EXISTS images")
                    base.execute("DELETE FROM layout")
                    base.execute("INSERT INTO layout VALUES (?)", (_LAYOUT,))
            base.execute("CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, size INT, changed INT, row BLOB)")
            base.commit()
            return base
        except sqlite3.OperationalError:
            # Locked, or not to be written: the file is whole.
            base.close()
            raise
        except sqlite3.DatabaseError:
            base.close()
            if attempt:
                raise
            path.unlink()
    raise AssertionError("unreachable")
