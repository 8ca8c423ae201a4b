"""What the doctor keeps of an image: it is read and decoded once, and some 800 bytes stay."""
from __future__ import annotations

__all__ = ["MEASUREMENT", "State", "THUMB", "measure"]

import contextlib
import enum
import hashlib
import io
import os
import stat
import struct
import warnings

import numpy as np
from PIL import Image

from torchreid_nas.data.dataset import as_rgb
from torchreid_nas.errors import InputError, shown

# Larger files are not read, and images of more pixels are not decoded (ours): memory stays bounded.
_MOST_BYTES = 2**28
_MOST_PIXELS = 40_000_000
THUMB = 32, 16
"""(height, width) of the small grey picture that near-copies are compared by."""

_ORIENTATION = 0x0112
_REASON = 100
# Sharpness is measured near this height, so that large images compare with small ones.
_HEIGHT = 128
# How files of JPEG, PNG, BMP and TIFF begin.
_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
# Formats for which Pillow starts another program.
_FOREIGN = {"EPS", "WMF"}


class State(enum.IntEnum):
    """How reading an image ended."""

    GOOD = 0
    MISSING = 1
    EMPTY = 2
    UNREADABLE = 3
    TRUNCATED = 4
    DEEP = 5
    TOO_LARGE = 6


MEASUREMENT = np.dtype([
    ("state", "u1"), ("bits", "u1"), ("turned", "u1"), ("width", "<u4"), ("height", "<u4"), ("file", "S16"), ("pixels", "S16"),
    ("hash", "<u8"), ("thumb", "u1", THUMB), ("mean", "<f4"), ("spread", "<f4"), ("sharpness", "<f4"), ("colour", "<f4"),
    ("chroma", "<f4"), ("reason", f"S{_REASON}"),
])
"""One image: how reading it ended and why; bits per value and EXIF orientation (1 is upright); size in pixels; digests of the
file and of the pixels; a perceptual hash (the signs of the 64 lowest frequencies of the small grey picture but its mean, by
the discrete cosine transform) and that picture; mean and standard deviation of the grey values (0 to 255); sharpness
(standard deviation of the Laplacian over that of the image); how far colours spread beside the brightness (standard deviation
along the second axis of all colours, 0 for grey and for evenly tinted images), and their mean distance from grey."""


def _cosines(count: int, length: int) -> np.ndarray:
    """Return the first rows of the discrete cosine transform, (count, length)."""
    places = (2 * np.arange(length) + 1) * np.pi / (2 * length)
    return np.cos(np.arange(count)[:, None] * places).astype(np.float32)


# 11 x 6 frequencies, of which the first is the mean and the last is left out.
_DOWN, _ACROSS = _cosines(11, THUMB[0]), _cosines(6, THUMB[1])


def measure(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the measurement of one image, shape (), dtype :data:`MEASUREMENT`; what is wrong with a file is its state.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (64, 128), (90, 60, 60)).save(f"{folder}/a.png")
        ...     found = measure(f"{folder}/a.png")
        >>> State(found["state"]).name, int(found["width"]), int(found["height"]), float(found["chroma"])
        ('GOOD', 64, 128, 30.0)
        >>> State(measure("no/such.png")["state"]).name
        'MISSING'
    """
    row = np.zeros((), MEASUREMENT)
    try:
        state, reason = _read(path, row)
    except FileNotFoundError:
        state, reason = State.MISSING, "the file does not exist"
    except OSError as error:
        state, reason = State.UNREADABLE, error.strerror or str(error)
    except ValueError as error:  # a path with a zero byte
        state, reason = State.UNREADABLE, str(error)
    row["state"] = state
    row["reason"] = shown(reason, _REASON - 30).encode("utf-8")[:_REASON]
    return row


def _read(path: str | os.PathLike[str], row: np.ndarray) -> tuple[State, str]:
    about = os.stat(path)  # noqa: PTH116  Path.stat is slower, and this is asked of every image
    if not stat.S_ISREG(about.st_mode):
        return State.UNREADABLE, "no regular file"
    if about.st_size == 0:
        return State.EMPTY, "the file is empty"
    if about.st_size > _MOST_BYTES:
        return State.TOO_LARGE, f"{about.st_size:,} bytes"
    with open(path, "rb") as file:  # noqa: PTH123  likewise
        content = file.read()
    row["file"] = hashlib.blake2b(content, digest_size=16).digest()
    opened = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                opened = True
                return _decode(image, row)
    except (InputError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        # A damaged file may break Pillow's readers in many ways.
        if not opened and content.startswith(_STARTS):
            return State.TRUNCATED, "the file ends in its header, or the header is damaged"
        state = State.TRUNCATED if opened and isinstance(error, (OSError, EOFError, struct.error)) else State.UNREADABLE
        return state, "no image that Pillow knows" if not opened else str(error) or type(error).__name__


def _decode(image: Image.Image, row: np.ndarray) -> tuple[State, str]:
    row["width"], row["height"] = image.size
    row["bits"] = 1 if image.mode == "1" else 8
    row["turned"] = 1
    if image.format in _FOREIGN:
        return State.UNREADABLE, f"the format {image.format} is drawn by another program"
    if image.width * image.height > _MOST_PIXELS:
        return State.TOO_LARGE, f"{image.width} x {image.height} pixels"
    if "exif" in image.info:
        with contextlib.suppress(Exception):  # a damaged block of EXIF says nothing
            row["turned"] = min(max(int(image.getexif().get(_ORIENTATION, 1)), 1), 8)
    mode = image.mode
    try:
        rgb = as_rgb(image, "the image")
    except InputError:
        row["bits"] = 16
        return State.DEEP, f"mode {mode}, or colours of 16 bits whose upper bits are not used"
    _look(rgb, row)
    return State.GOOD, ""


def _look(rgb: Image.Image, row: np.ndarray) -> None:
    """Fill in what the pixels tell."""
    digest = hashlib.blake2b(rgb.tobytes(), digest_size=16, person=b"%dx%d" % (rgb.width % 10**6, rgb.height % 10**6))
    row["pixels"] = digest.digest()
    factor = max(rgb.height // _HEIGHT, 1)
    grey_image = (rgb.reduce(factor) if factor > 1 else rgb).convert("L")
    grey = np.asarray(grey_image, dtype=np.float32)
    row["mean"], row["spread"] = grey.mean(), grey.std()
    if min(grey.shape) > 2:
        laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
        row["sharpness"] = laplacian.std() / (row["spread"] + 1)
    small = np.asarray(rgb.resize(THUMB[::-1], Image.Resampling.BOX), dtype=np.float32).reshape(-1, 3)
    row["chroma"] = (small.max(axis=1) - small.min(axis=1)).mean()
    row["colour"] = max(np.linalg.eigvalsh(np.cov(small.T))[1], 0) ** 0.5
    thumb = np.asarray(grey_image.resize(THUMB[::-1], Image.Resampling.BOX))
    row["thumb"] = thumb
    frequencies = _DOWN @ thumb.astype(np.float32) @ _ACROSS.T
    row["hash"] = np.packbits(frequencies.ravel()[1:65] > 0).view("<u8")[0]
