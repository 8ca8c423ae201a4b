"""The folder of an index: one file of features, one database of records, and what keeps both whole through a crash."""
from __future__ import annotations

__all__ = ["Columns", "Record", "Store"]

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from torchreid_nas.errors import InputError

_DATABASE, _LOCK = "index.sqlite", ".lock"
_VERSION = 1
# SQLite binds at most 32,766 values in one statement.
_AT_ONCE = 10_000
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (
    row INTEGER PRIMARY KEY, path TEXT NOT NULL, label TEXT NOT NULL, camid INTEGER NOT NULL, modality TEXT NOT NULL,
    time REAL, file TEXT NOT NULL
);
CREATE INDEX of_label ON records (label);
CREATE INDEX of_file ON records (file) WHERE file != '';
CREATE TABLE removed (row INTEGER PRIMARY KEY, wiped INTEGER NOT NULL);
"""


class Record(NamedTuple):
    """What an index keeps of an image beside its feature.

    Attributes:
        path: of the image, as :class:`torchreid_nas.features.FeatureSet` names it.
        label: identity; ``""`` where unknown.
        camid: 0-based; -1 where unknown.
        modality: ``"visible"``, ``"infrared"`` or ``""``.
        time: seconds since 1970 at which the file was last changed; None where there was no file.
        file: resolved path by which the image is known again; ``""`` without a file.
    """

    path: str
    label: str
    camid: int
    modality: str
    time: float | None
    file: str


class Columns(NamedTuple):
    """What decides whether a row counts.

    Attributes:
        alive: (rows,) of bool: the row is there.
        labels: (rows,) int64: number of the identity; -1 where unknown.
        camids: (rows,) int64; -1 where unknown.
        numbers: of the identities, by label.
        size: rows that are there.
    """

    alive: np.ndarray
    labels: np.ndarray
    camids: np.ndarray
    numbers: dict[str, int]
    size: int


class Store:
    """Features (float32) in the order in which they came, and their records.

    A row is the number of a feature in the file. The database says how many rows count: rows behind them are what a
    crash cut off, and the next writer removes them. A row that was removed is zero, and has no record.

    Args:
        path: the folder.

    Raises:
        InputError: the folder holds no index, or a damaged one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.is_store(self.path):
            raise InputError(f'"{self.path}" holds no index; make one: torchreid-nas index build GALLERY --out "{self.path}"')
        with self._reading():
            self.meta = self._read_meta()
        if self.meta.get("version") != _VERSION:
            raise InputError(
                f'the index "{self.path}" has the format {self.meta.get("version")}, expected {_VERSION}; build the index again'
            )
        if self._size() < self.rows * self.dim * 4:
            raise InputError(
                f'the features of the index "{self.path}" are truncated: {self._size():,} bytes, expected '
                f"{self.rows * self.dim * 4:,}; restore the file {self.vectors_file.name}, or build the index again"
            )

    @classmethod
    def create(cls, path: str | os.PathLike[str], meta: dict[str, Any]) -> Store:
        """Make an empty store; ``meta`` needs ``"dim"``, the length of a feature.

        Raises:
            InputError: the folder holds an index or other files, or cannot be written.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise InputError(f'"{path}" is a file, expected a folder for the index; name another one')
        if path.exists() and any(entry.name != _LOCK for entry in path.iterdir()):
            raise InputError(f'"{path}" is not empty; name another folder, or add to the index there: torchreid-nas index add')
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "vectors-0.f32").touch()
            # The whole database takes its name at once.
            temporary = path / f".{_DATABASE}.{os.getpid()}.tmp"
            with contextlib.closing(_connect(temporary)) as base, base:
                base.executescript(_SCHEMA)
                _write_meta(base, {"version": _VERSION, "rows": 0, "generation": 0, "engine_file": "", "indexed": 0, **meta})
            temporary.replace(path / _DATABASE)
            _sync_folder(path)
        except OSError as error:
            raise InputError(f'the index "{path}" cannot be written ({error.strerror or error}); name another folder') from error
        return cls(path)

    # -- what it holds ------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Rows of the file that count, the removed ones among them."""
        return int(self.meta["rows"])

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return int(self.meta["dim"])

    @property
    def vectors_file(self) -> Path:
        """The file of the features: rows of float32, little-endian, without a header."""
        return self.path / f"vectors-{self.meta['generation']}.f32"

    @property
    def engine_file(self) -> Path | None:
        """The file of the engine that searches the first ``meta["indexed"]`` rows; None where there is none."""
        name = self.meta["engine_file"]
        return self.path / name if name and (self.path / name).is_file() else None

    def vectors(self) -> np.ndarray:
        """Return the features, (rows, D) float32, mapped and not read."""
        if not self.rows:
            return np.empty((0, self.dim), dtype="<f4")
        return np.memmap(self.vectors_file, dtype="<f4", mode="r", shape=(self.rows, self.dim))

    def columns(self) -> Columns:
        """Return what decides whether a row counts."""
        alive = np.zeros(self.rows, dtype=bool)
        labels, camids = np.full(self.rows, -1, dtype=np.int64), np.full(self.rows, -1, dtype=np.int64)
        numbers: dict[str, int] = {}
        with self._reading() as base:
            for row, label, camid in base.execute("SELECT row, label, camid FROM records"):
                alive[row], camids[row] = True, camid
                labels[row] = numbers.setdefault(label, len(numbers)) if label else -1
        return Columns(alive, labels, camids, numbers, int(alive.sum()))

    def records(self, rows: Sequence[int] | np.ndarray) -> dict[int, Record]:
        """Return the records of rows that are there."""
        found: dict[int, Record] = {}
        with self._reading() as base:
            for start in range(0, len(rows), _AT_ONCE):
                part = [int(row) for row in rows[start:start + _AT_ONCE]]
                marks = ",".join("?" * len(part))
                query = f"SELECT row, path, label, camid, modality, time, file FROM records WHERE row IN ({marks})"
                found.update((row, Record(*rest)) for row, *rest in base.execute(query, part))
        return found

    def rows_of(self, label: str) -> list[int]:
        """Return the rows of an identity, ascending."""
        with self._reading() as base:
            return [row for row, in base.execute("SELECT row FROM records WHERE label = ? ORDER BY row", (label,))]

    def rows_of_files(self, files: Sequence[str]) -> list[list[int]]:
        """Return of each file, by its resolved path, the rows that are it."""
        with self._reading() as base:
            return [
                [row for row, in base.execute("SELECT row FROM records WHERE file = ? AND file != ''", (file,))] for file in files
            ]

    def counts(self) -> dict[str, Any]:
        """Return how many images, identities and unlabelled images there are, and images by modality and by camera."""
        with self._reading() as base:
            images, = base.execute("SELECT count(*) FROM records").fetchone()
            identities, = base.execute("SELECT count(DISTINCT label) FROM records WHERE label != ''").fetchone()
            unlabelled, = base.execute("SELECT count(*) FROM records WHERE label = ''").fetchone()
            first, last = base.execute("SELECT min(time), max(time) FROM records").fetchone()
            by = {
                name: dict(base.execute(f"SELECT {name}, count(*) FROM records GROUP BY {name} ORDER BY {name}"))
                for name in ("modality", "camid")
            }
        return {"images": images, "identities": identities, "unlabelled": unlabelled, "first": first, "last": last, **by}

    # -- what changes it ----------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Own the index inside the block, and finish first what a crash of an earlier writer left.

        Raises:
            InputError: another process writes, or the folder cannot be written.
        """
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f'the index "{self.path}" is being changed by another process; wait until that has ended') from None
        except OSError as error:
            raise InputError(
                f'the index "{self.path}" cannot be written ({error.strerror or error}); change its permissions'
            ) from error
        try:
            with self._reading():
                self.meta = self._read_meta()
            self._mend()
            yield
        except (OSError, sqlite3.OperationalError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f'the index "{self.path}" could not be written ({reason}); free space, what was acknowledged is unchanged'
            ) from error
        finally:
            lock.release()

    def append(self, blocks: Iterable[tuple[np.ndarray, Sequence[Record]]]) -> int:
        """Add features, (N, D), and their records block by block, all or none, and return how many; they are on the disk then."""
        start = end = self.rows
        with self._changing() as base, self.vectors_file.open("r+b") as file:
            file.truncate(start * self.dim * 4)
            file.seek(0, os.SEEK_END)
            for vectors, records in blocks:
                file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
                base.executemany(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
                    ((end + place, *record) for place, record in enumerate(records)),
                )
                end += len(records)
            file.flush()
            os.fsync(file.fileno())
            _write_meta(base, {"rows": end})
        self.meta["rows"] = end
        return end - start

    @classmethod
    def is_store(cls, path: str | os.PathLike[str]) -> bool:
        """Return whether a folder holds a store."""
        return (Path(path) / _DATABASE).is_file()

    def remove(self, rows: Sequence[int]) -> None:
        """Remove rows; when the method returns, no byte of their features or records is in the folder.

        The file of the engine goes too, for it holds them in its own form; :meth:`set_engine` puts another in its place.
        """
        with self._changing() as base:
            base.executemany("INSERT INTO removed VALUES (?, 0)", ((int(row),) for row in rows))
            base.executemany("DELETE FROM records WHERE row = ?", ((int(row),) for row in rows))
            self._set(base, engine_file="", indexed=0)
        self._mend()

    def set_engine(self, name: str, indexed: int) -> None:
        """Take a file in the folder, written to the disk, as the engine of the first ``indexed`` rows; drop the one before."""
        _sync(self.path / name)
        with self._changing() as base:
            self._set(base, engine_file=name, indexed=indexed)
        self._sweep()

    def set(self, **values: Any) -> None:
        """Keep further values of the index."""
        with self._changing() as base:
            self._set(base, **values)

    def compact(self) -> None:
        """Write the features anew without the removed rows; rows get new numbers, and the engine's file goes."""
        generation = int(self.meta["generation"]) + 1
        old, new = self.vectors(), self.path / f"vectors-{generation}.f32"
        with self._reading() as base:
            rows = [row for row, in base.execute("SELECT row FROM records ORDER BY row")]
        with new.open("wb") as file:
            for start in range(0, len(rows), 2**14):
                file.write(old[rows[start:start + 2**14]].tobytes())
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self.path)
        with self._changing() as base:
            # Rows ascend, so that no new number meets one that is still taken.
            base.executemany("UPDATE records SET row = ? WHERE row = ?", enumerate(rows))
            base.execute("DELETE FROM removed")
            self._set(base, rows=len(rows), generation=generation, engine_file="", indexed=0)
        self._sweep()

    # -- inside -------------------------------------------------------------------

    def _size(self) -> int:
        return self.vectors_file.stat().st_size if self.vectors_file.is_file() else 0

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(_connect(self.path / _DATABASE)) as base:
                yield base
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise InputError(f'the index "{self.path}" cannot be read ({error}); check the folder') from error
            raise InputError(f'the records of the index "{self.path}" are damaged; restore the file, or build again') from error

    def _read_meta(self) -> dict[str, Any]:
        with contextlib.closing(_connect(self.path / _DATABASE)) as base:
            return {key: json.loads(value) for key, value in base.execute("SELECT key, value FROM meta")}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction, which is on the disk when the block ends."""
        with contextlib.closing(_connect(self.path / _DATABASE)) as base, base:
            yield base

    def _set(self, base: sqlite3.Connection, **values: Any) -> None:
        _write_meta(base, values)
        self.meta.update(values)

    def _mend(self) -> None:
        """Wipe the features of removed rows, and remove files that no record names."""
        with self._reading() as base:
            rows = [row for row, in base.execute("SELECT row FROM removed WHERE NOT wiped")]
        self._sweep()
        if not rows:
            return
        zeros = bytes(self.dim * 4)
        with self.vectors_file.open("r+b") as file:
            for row in rows:
                file.seek(row * self.dim * 4)
                file.write(zeros)
            file.flush()
            os.fsync(file.fileno())
        with self._changing() as base:
            base.execute("UPDATE removed SET wiped = 1")

    def _sweep(self) -> None:
        kept = {self.vectors_file.name, self.meta["engine_file"]}
        for path in [*self.path.glob("vectors-*.f32"), *self.path.glob("engine-*"), *self.path.glob(".*.tmp*")]:
            if path.name not in kept:
                path.unlink(missing_ok=True)
        # What a crash cut off is no part of the index.
        if self._size() > self.rows * self.dim * 4:
            os.truncate(self.vectors_file, self.rows * self.dim * 4)
        _sync_folder(self.path)


def _connect(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=60)
    # A commit has reached the disk, and what is deleted is overwritten.
    base.execute("PRAGMA synchronous = EXTRA")
    base.execute("PRAGMA secure_delete = ON")
    return base


def _write_meta(base: sqlite3.Connection, values: dict[str, Any]) -> None:
    base.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", ((key, json.dumps(value)) for key, value in values.items()))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
