"""Images decoded once, at one size or as they are stored: a memory-mapped file for all epochs, runs and processes."""
from __future__ import annotations

__all__ = ["DecodedImages", "StoredImages", "cache_folders"]

import abc
import contextlib
import functools
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import PIL
import torch
from torchvision.transforms import functional as F
from tqdm.auto import tqdm

from torchreid_nas.data.dataset import image_size, read_image
from torchreid_nas.data.transforms import INTERPOLATIONS
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path

# This number rises when the same files begin to give other pixels or another layout.
_VERSION = 1
_BLOCK = 256
# Images whose headers are read for a guess at the size of all.
_ASKED = 64
# Type of the heights and widths in the file of images of their own sizes.
_SIZE = np.dtype("<i8")
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


class _ImageCache(abc.ABC):
    """The pixels of a set of image files, decoded as RGB when they are first asked for.

    The file is a ``.npy`` of uint8, images in ascending order of their paths,
    under a name that is the SHA-256 of the paths (relative to ``root``), sizes
    and times of change of all images, of what is done to them, and of Pillow's
    version: when an image is added, removed or changed, another file is
    written. Nothing refers to old files; they may be deleted at any time.

    It is written under a lock, to a temporary name that is renamed at the end:
    of several processes one decodes and the others wait, and a killed one
    leaves nothing that passes for a whole file.

    Args:
        paths: of the images; an image may come twice.
        root: folder that the names of the images are taken relative to.
        folders: see :func:`cache_folders`.
    """

    def __init__(self, paths: Iterable[str], root: str | os.PathLike, folders: Sequence[Path]) -> None:
        self.paths = sorted(set(paths))
        self.root, self.folders = root, tuple(folders)
        self._rows = {path: row for row, path in enumerate(self.paths)}

    def covers(self, paths: Iterable[str]) -> bool:
        """Say whether all of these images are among these."""
        return all(path in self._rows for path in paths)

    # -- what the kinds decide ------------------------------------------------

    @property
    @abc.abstractmethod
    def pixels(self) -> Sequence[np.ndarray] | np.ndarray:
        """The images, mapped read-only into memory."""

    @property
    @abc.abstractmethod
    def _kind(self) -> tuple[str, str]:
        """What is done to the images, as it enters the digest and as it ends the file's name."""

    @abc.abstractmethod
    def _fits(self, array: np.ndarray) -> bool:
        """Say whether an array of uint8 is what a whole file holds."""

    @abc.abstractmethod
    def _plan(self) -> tuple[tuple[int, ...], bytes]:
        """Return the shape of the file's array, and the bytes that come before the pixels."""

    @abc.abstractmethod
    def _decode(self, path: str) -> np.ndarray:
        """Return the pixels of an image, uint8 (H, W, 3)."""

    # -- what they share ------------------------------------------------------

    def open(self) -> None:
        """Have all images decoded that are not yet.

        Raises:
            InputError: see :attr:`pixels`.
        """
        _ = self.pixels

    def _map(self) -> np.ndarray:
        """Map the file read-only into memory, and write it first where it is not there.

        Raises:
            InputError: an image is missing or broken; no folder can be
                written, or the disk is full.
        """
        kind, ending = self._kind
        name = f"{self._digest(kind)}-{ending}.npy"
        for folder in self.folders:
            if (array := self._open(folder / name)) is not None:
                return array
        refused = []
        for folder in self.folders:
            with contextlib.ExitStack() as stack:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(filelock.FileLock(folder / f".{name}.lock"))
                except (OSError, NotImplementedError) as error:
                    # The folder cannot be written, or its file system has no locks.
                    refused.append(f'"{folder}" ({getattr(error, "strerror", None) or error})')
                    continue
                # Another process may have written it while this one waited.
                if (array := self._open(folder / name)) is None:
                    self._write(folder / name)
                    array = self._open(folder / name)
                if array is None:
                    raise InputError(f'decoded images written to "{folder / name}" cannot be read back; {_HINT}')
                return array
        raise InputError(f"decoded images cannot be kept in {' or '.join(refused)}; {_HINT}")

    def _digest(self, kind: str) -> str:
        digest = hashlib.sha256(f"{_VERSION} {PIL.__version__} {kind}".encode())
        for path in self.paths:
            try:
                stat = Path(path).stat()
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
            array = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        return array if array.dtype == np.uint8 and self._fits(array) else None

    def _write(self, path: Path) -> None:
        for leftover in path.parent.glob(f".{path.stem}.*.tmp.npy"):
            leftover.unlink(missing_ok=True)
        shape, first = self._plan()
        size, free = math.prod(shape), shutil.disk_usage(path.parent).free
        if free < size:
            raise InputError(
                f'decoded images take {size / 2**30:.1f} GiB and "{path.parent}" has {free / 2**30:.1f} GiB free; {_HINT}'
            )
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        images = self._for_all(self._decode, "decoding images once")
        with atomic_path(path, by_all=True) as temporary, contextlib.closing(images):
            # A file is written, not a map: a full disk is then an error and not a signal.
            try:
                with temporary.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(first)
                    for image in images:
                        file.write(image.data)
            except OSError as error:
                raise InputError(
                    f'decoded images cannot be written to "{path.parent}" ({error.strerror or error}); {_HINT}'
                ) from error

    def _for_all(self, function: Callable[[str], Any], doing: str) -> Generator[Any, None, None]:
        """Call on all cores (Pillow lets go of Python's lock) and yield what is returned for each path, in order."""
        starts = range(0, len(self.paths), _BLOCK)
        bar = tqdm(total=len(self.paths), desc=doing, unit=" images", leave=False, disable=None)
        with bar, ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for start in starts:
                block = list(pool.map(function, self.paths[start:start + _BLOCK]))
                bar.update(len(block))
                yield from block


class DecodedImages(_ImageCache):
    """Images at one size: row i of :attr:`pixels` is the i-th path in ascending order.

    They are resized as torchvision's ``Resize`` does it to PIL images, so that
    they equal what the plain pipeline sees to the bit.

    Args:
        paths: of the images; an image may come twice.
        height, width: of the rows, in pixels.
        root: folder that the names of the images are taken relative to.
        folders: see :func:`cache_folders`.
        interpolation: by which they are resized.
    """

    def __init__(
        self, paths: Iterable[str], height: int, width: int, root: str | os.PathLike, folders: Sequence[Path],
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__(paths, root, folders)
        self.height, self.width, self.interpolation = height, width, interpolation

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return math.prod(self._shape)

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
        return self._map()

    @property
    def _shape(self) -> tuple[int, ...]:
        return len(self.paths), self.height, self.width, 3

    @property
    def _kind(self) -> tuple[str, str]:
        # Bilinear files keep the name that they had before there were other filters.
        other = [] if self.interpolation == "bilinear" else [self.interpolation]
        return " ".join([f"{self.height} {self.width}", *other]), "-".join([f"{self.height}x{self.width}", *other])

    def _fits(self, array: np.ndarray) -> bool:
        return array.shape == self._shape

    def _plan(self) -> tuple[tuple[int, ...], bytes]:
        return self._shape, b""

    def _decode(self, path: str) -> np.ndarray:
        return np.asarray(F.resize(read_image(path), [self.height, self.width], INTERPOLATIONS[self.interpolation]))


class StoredImages(_ImageCache):
    """Images at the sizes at which they are stored: what rectangles are cut from, and what is styled, before resizing.

    The file's array is flat: height and width of every image, then the pixels
    of one after the other. Args: see :class:`DecodedImages`.
    """

    def find(self, path: str) -> np.ndarray | None:
        """Return an image, see :attr:`pixels`; None where it is none of these."""
        row = self._rows.get(path)
        return None if row is None else self.pixels[row]

    @functools.cached_property
    def pixels(self) -> list[np.ndarray]:
        """The images in ascending order of their paths, uint8 (H, W, 3) each, mapped read-only into memory.

        Raises:
            InputError: an image is missing or broken; no folder can be
                written, or the disk is full.
        """
        # A slice of the map's own class takes several times as long as one of a plain array.
        array = self._map().view(np.ndarray)
        sizes = self._sizes_in(array)
        pieces = np.split(array, (sizes.nbytes + np.cumsum([0, *3 * sizes.prod(axis=1)])).tolist())[1:-1]
        return [piece.reshape(*size, 3) for piece, size in zip(pieces, sizes.tolist())]

    @functools.cached_property
    def nbytes(self) -> int:
        """About how many bytes all pixels take, going by the headers of a few images.

        Raises:
            InputError: one of these is missing or broken.
        """
        some = self.paths[::max(len(self.paths) // _ASKED, 1)]
        return sum(3 * math.prod(image_size(path)) for path in some) * len(self.paths) // max(len(some), 1)

    @property
    def _kind(self) -> tuple[str, str]:
        return "stored", "stored"

    def _sizes_in(self, array: np.ndarray) -> np.ndarray:
        """Return the heights and widths that a file begins with, int64 (N, 2)."""
        count = 2 * len(self.paths)
        return np.frombuffer(array[:count * _SIZE.itemsize], _SIZE, count).reshape(-1, 2)

    def _fits(self, array: np.ndarray) -> bool:
        try:
            sizes = self._sizes_in(array)
        except ValueError:
            return False
        return array.shape == (sizes.nbytes + 3 * sizes.prod(axis=1).sum(),)

    def _plan(self) -> tuple[tuple[int, ...], bytes]:
        # This reads headers alone, so that the room on the disk is known before an image is decoded.
        sizes = np.array(list(self._for_all(image_size, "reading the sizes of images")), _SIZE)
        return (sizes.nbytes + 3 * int(sizes.prod(axis=1).sum()),), sizes.tobytes()

    def _decode(self, path: str) -> np.ndarray:
        return np.asarray(read_image(path))
