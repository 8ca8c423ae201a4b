"""Images decoded and resized once: one memory-mapped file of pixels for all epochs, runs and processes."""
from __future__ import annotations

__all__ = ["DecodedImages", "cache_folders"]

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import filelock
import numpy as np
import PIL
import torch
from torchvision.transforms import functional as F
from tqdm import tqdm

from torchreid_nas.data.dataset import read_image
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path

# Raised whenever the same files begin to give other pixels or another layout.
_VERSION = 1
_BLOCK = 256
_HINT = "free space, set data.cache_dir to another folder, or data.cache off to decode images anew in every epoch"


def cache_folders(root: str | os.PathLike, cache_dir: str = "") -> tuple[Path, ...]:
    """Return where decoded images are sought and, in this order, written.

    ``cache_dir`` alone where it is given; otherwise ``<root>/.cache/torchreid_nas``
    and, for data that may only be read, ``torchreid_nas/images`` in the user's
    cache folder (``XDG_CACHE_HOME``, by default ``~/.cache``).
    """
    if cache_dir:
        return (Path(cache_dir).expanduser(),)
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root, ".cache", "torchreid_nas"), Path(user).expanduser() / "torchreid_nas" / "images"


class DecodedImages:
    """The pixels of a set of image files at one size, decoded when they are first asked for.

    Row i of :attr:`pixels` is the i-th path in ascending order, read as RGB and
    resized as torchvision's ``Resize`` does it to PIL images, so that it equals
    what the plain pipeline sees to the bit. The file is a ``.npy`` under a
    name that is the SHA-256 of the paths (relative to ``root``), sizes and
    times of change of all images, of height and width, and of Pillow's
    version: when an image is added, removed or changed, another file is
    written. Nothing refers to old files; they may be deleted at any time.

    It is written under a lock, to a temporary name that is renamed at the end:
    of several processes one decodes and the others wait, and a killed one
    leaves nothing that passes for a whole file.

    Args:
        paths: of the images; an image may come twice.
        height, width: of the rows, in pixels.
        root: folder that the names of the images are taken relative to.
        folders: see :func:`cache_folders`.
    """

    def __init__(
        self, paths: Iterable[str], height: int, width: int, root: str | os.PathLike, folders: Sequence[Path],
    ) -> None:
        self.paths = sorted(set(paths))
        self.height, self.width = height, width
        self.root, self.folders = root, tuple(folders)
        self._rows = {path: row for row, path in enumerate(self.paths)}

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return len(self.paths) * self.height * self.width * 3

    def covers(self, paths: Iterable[str]) -> bool:
        """Say whether all of these images are among the rows."""
        return all(path in self._rows for path in paths)

    def rows(self, paths: Iterable[str]) -> np.ndarray:
        """Return the rows of these images, int64."""
        return np.array([self._rows[path] for path in paths], dtype=np.int64)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The images, uint8 (N, height, width, 3), mapped read-only into memory.

        Raises:
            InputError: an image is missing or broken; no folder can be
                written, or the disk is full.
        """
        name = f"{self._digest()}-{self.height}x{self.width}.npy"
        for folder in self.folders:
            if (pixels := self._open(folder / name)) is not None:
                return pixels
        refused = []
        for folder in self.folders:
            with contextlib.ExitStack() as stack:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(filelock.FileLock(folder / f".{name}.lock"))
                except (OSError, NotImplementedError) as error:
                    # Not to be written, or a file system without locks.
                    refused.append(f'"{folder}" ({getattr(error, "strerror", None) or error})')
                    continue
                # Another process may have written it while this one waited.
                if (pixels := self._open(folder / name)) is None:
                    self._write(folder / name)
                    pixels = self._open(folder / name)
                return pixels
        raise InputError(f"decoded images cannot be kept in {' or '.join(refused)}; {_HINT}")

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{_VERSION} {PIL.__version__} {self.height} {self.width}".encode())
        for path in self.paths:
            try:
                stat = os.stat(path)
            except OSError as error:
                raise InputError(
                    f'the image "{path}" cannot be read ({error.strerror}); unpack the data set again'
                ) from error
            entry = (os.path.relpath(path, self.root or "."), stat.st_size, stat.st_mtime_ns)
            digest.update(json.dumps(entry).encode())
        return digest.hexdigest()

    def _open(self, path: Path) -> np.ndarray | None:
        """Map a file; None where it is not there or not whole."""
        try:
            pixels = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        whole = pixels.dtype == np.uint8 and pixels.shape == (len(self.paths), self.height, self.width, 3)
        return pixels if whole else None

    def _write(self, path: Path) -> None:
        for leftover in path.parent.glob(f".{path.stem}.*.tmp.npy"):
            leftover.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < self.nbytes:
            raise InputError(
                f'decoded images take {self.nbytes / 2**30:.1f} GiB and "{path.parent}" has {free / 2**30:.1f} GiB free; {_HINT}'
            )
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, self.height, self.width, 3), np.uint8))
        header["shape"] = (len(self.paths), *header["shape"][1:])
        with atomic_path(path) as temporary, open(temporary, "wb") as file, contextlib.closing(self._decoded()) as blocks:
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                # Through the file and not through a map: a full disk is then an error and not a signal.
                try:
                    file.write(block.data)
                except OSError as error:
                    raise InputError(
                        f'decoded images cannot be written to "{path.parent}" ({error.strerror or error}); {_HINT}'
                    ) from error

    def _decoded(self) -> Iterator[np.ndarray]:
        """Decode on all cores (Pillow lets go of Python's lock) and yield blocks of rows, in order."""
        starts = range(0, len(self.paths), _BLOCK)
        bar = tqdm(
            total=len(self.paths), desc="decoding images once", unit=" images", leave=False,
            disable=not sys.stderr.isatty(),
        )
        with bar, ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in starts:
                block = list(pool.map(self._decode, self.paths[start:start + _BLOCK]))
                bar.update(len(block))
                yield np.stack(block)

    def _decode(self, path: str) -> np.ndarray:
        return np.asarray(F.resize(read_image(path), [self.height, self.width]))
