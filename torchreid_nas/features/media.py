"""Files that hold pictures: which kind a file is, and how its images are read."""
from __future__ import annotations

__all__ = ["VIDEO_SUFFIXES", "claimed_frames", "decode", "image_suffixes", "kind_of", "read_upright"]

import contextlib
import functools
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from torchreid_nas.data.dataset import read_image
from torchreid_nas.data.formats import readable_formats, readable_suffixes
from torchreid_nas.errors import InputError

VIDEO_SUFFIXES = (
    ".264", ".265", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v",
    ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)
_OF_OPENCV = (".exr", ".hdr", ".pam", ".pic", ".pxm", ".sr")
# Where the mark of a container stands: at the first byte, or at the fifth.
_VIDEO_MARKS = (b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"0&\xb2u", b"\0\0\1\xba", b"\0\0\1\xb3", b"YUV4MPEG2")
_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the images that the installed Pillow or OpenCV opens.

    >>> {".jpg", ".png", ".bmp", ".tiff"} <= set(image_suffixes()), ".mpg" in image_suffixes()
    (True, False)
    """
    return tuple(sorted({*readable_suffixes(), *_OF_OPENCV} - set(VIDEO_SUFFIXES)))


def kind_of(path: Path) -> str:
    """Return ``"image"``, ``"video"``, or ``""`` for a file that is neither: by the suffix, or else by the content.

    A name that looks like an image stands for one, whatever it is: :func:`read_upright` says what is wrong with it.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in image_suffixes():
        return "image"
    if _irregular(path):
        return ""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return ""
    if start.startswith(_VIDEO_MARKS) or start[4:8] == b"ftyp" and start[8:12] not in (b"avif", b"avis", b"heic", b"mif1") \
            or start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return "video"
    # A file may break Pillow's readers in many ways; none of them is an image then.
    with contextlib.suppress(Exception), Image.open(path, formats=readable_formats()):
        return "image"
    return ""


def read_upright(path: Path) -> Image.Image:
    """Return an image as RGB, turned as its EXIF orientation says; of formats that Pillow does not know, by OpenCV.

    Raises:
        InputError: the file is missing, no regular file (which might never end), damaged, no image, or has more than 8 bits.
    """
    irregular = _irregular(path)
    if irregular:
        raise InputError(f'"{path}" is {irregular}, expected a regular file; leave it out')
    try:
        return _upright(read_image(path))
    except InputError:
        image = _by_opencv(path) if path.suffix.lower() in _OF_OPENCV else None
        if image is None:
            raise
        return image


def decode(path: Path, stride: int, wanted: set[int] | None = None) -> Iterator[tuple[int, Image.Image]]:
    """Yield (0-based number, RGB image) of every ``stride``-th frame of a video, or of the frames ``wanted``.

    Raises:
        InputError: it is no regular file.
    """
    import cv2

    irregular = _irregular(path)
    if irregular:
        raise InputError(f'"{path}" is {irregular}, expected a regular file; leave it out')
    last = max(wanted) if wanted else None
    video = cv2.VideoCapture(str(path))
    try:
        number = 0
        # grab() without retrieve() spares the conversion of frames that nobody wants.
        while video.grab():
            if number % stride == 0 if wanted is None else number in wanted:
                decoded, frame = video.retrieve()
                if decoded:
                    yield number, Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            if number == last:
                return
            number += 1
    finally:
        video.release()


def claimed_frames(path: Path, stride: int) -> int:
    """Return how many frames of a video are read with a stride, as its header claims; 0 where it cannot be opened."""
    import cv2

    if _irregular(path):
        return 0
    video = cv2.VideoCapture(str(path))
    frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return max(0, -(-frames // stride))


def _irregular(path: Path) -> str:
    """Return what a path is that is no regular file; ``""`` for a regular file and for a path that does not exist."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return ""
    return "" if kind == stat.S_IFREG else _KINDS.get(kind, "no file")


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as every viewer shows it: telephones write beside the pixels how they were held."""
    if "exif" not in image.info:
        return image
    # Where that is damaged the pixels are whole all the same.
    with contextlib.suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def _by_opencv(path: Path) -> Image.Image | None:
    import cv2

    stored: np.ndarray | None = None
    pixels: np.ndarray | None = None
    with contextlib.suppress(cv2.error):
        # As stored for the depth; with channels in an order that does not depend on the format for the values.
        stored, pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.imread(str(path), cv2.IMREAD_COLOR)
    if stored is None or pixels is None:
        return None
    if stored.dtype != np.uint8:
        raise InputError(
            f'the image "{path}" has values of {stored.dtype}, expected 8 bits; save it again with the values that matter '
            "scaled to 0 to 255"
        )
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
