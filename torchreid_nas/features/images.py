"""Where images come from: files, folders, videos, arrays and PIL images, one after the other."""
from __future__ import annotations

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "Picture", "Source", "read_named"]

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from torchreid_nas.data.dataset import as_rgb, read_image
from torchreid_nas.errors import InputError
from torchreid_nas.features.labels import Label, read_label

IMAGE_SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


@dataclass(frozen=True)
class Picture:
    """One image of a source.

    Attributes:
        name: its path; of a video's frame ``path#frame`` (0-based); ``image <n>`` without a file.
        image: RGB; None where it cannot be read.
        problem: why not.
        label: what the path tells.
    """

    name: str
    image: Image.Image | None
    label: Label = Label()
    problem: str = ""


class Source:
    """The images of paths, arrays or PIL images; only what is asked for is in memory.

    Args:
        source: one of the following, or a sequence of them: the path of an
            image, a video or a folder (searched with its sub-folders in the
            order of paths; hidden files are skipped), a uint8 array (H, W, 3)
            in RGB order, a PIL image. Image files are turned as their EXIF
            orientation says, which torchreid leaves alone.
        stride: take every n-th frame of a video, from the first.

    Raises:
        InputError: a path that does not exist as the only one, a folder
            without images and videos, nothing at all, an array of another
            form, another type, a PIL image beyond 8 bits, a stride below 1.
    """

    def __init__(self, source: Any, stride: int = 1) -> None:
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            raise InputError(f"the stride through videos is {stride!r}, expected a whole number of at least 1")
        single = isinstance(source, (str, os.PathLike, np.ndarray, Image.Image))
        if not single and not isinstance(source, Iterable):
            raise InputError(_unknown(source))
        parts = [source] if single else list(source)
        if not parts:
            raise InputError("there is no image: the list of them is empty; pass at least one")
        if single and isinstance(source, (str, os.PathLike)) and not Path(source).expanduser().exists():
            raise InputError(f'"{source}" does not exist; give an image, a video or a folder of them')
        self.stride = stride
        self._parts = [part for index, given in enumerate(parts) for part in _expand(given, index)]

    def __len__(self) -> int:
        """Number of images; for videos what their headers claim."""
        return sum(_claimed_frames(part.path, self.stride) if part.is_video else 1 for part in self._parts)

    def __iter__(self) -> Iterator[Picture]:
        for part in self._parts:
            if part.is_video:
                yield from self._frames(part)
            elif part.path is not None:
                yield _read(part)
            else:
                yield Picture(part.name, part.image)

    def _frames(self, part: _Part) -> Iterator[Picture]:
        empty = True
        for number, image in _decode(part.path, self.stride):
            empty = False
            yield Picture(f"{part.name}#{number}", image, part.label)
        if empty:
            yield Picture(part.name, None, part.label, f'the video "{part.path}" has no frame that can be decoded')


@dataclass(frozen=True)
class _Part:
    """A file, or an image without one."""

    name: str
    path: Path | None = None
    image: Image.Image | None = None
    label: Label = Label()

    @property
    def is_video(self) -> bool:
        return self.path is not None and self.path.suffix.lower() in VIDEO_SUFFIXES


def read_named(names: Sequence[str]) -> dict[str, Image.Image]:
    """Return the images of pictures by their names; those that cannot be read are left out.

    Every video is decoded once, from its start: seeking is not exact in every format.
    """
    images: dict[str, Image.Image] = {}
    wanted: dict[Path, set[int]] = {}
    for name in names:
        path, frame = _split_name(name)
        if frame is not None:
            wanted.setdefault(path, set()).add(frame)
            continue
        picture = _read(_Part(name, path))
        if picture.image is not None:
            images[name] = picture.image
    for path, frames in wanted.items():
        for number, image in _decode(path, 1, frames):
            images[f"{path}#{number}"] = image
    return images


def _expand(given: Any, index: int) -> list[_Part]:
    if isinstance(given, Image.Image):
        return [_Part(f"image {index}", image=as_rgb(given, f"the image {index}"))]
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8 or not given.size:
            raise InputError(
                f"the array {index} has shape {given.shape} and dtype {given.dtype}, expected (height, width, 3) uint8 "
                "in RGB order; pass several images as a list"
            )
        return [_Part(f"image {index}", image=Image.fromarray(np.ascontiguousarray(given)))]
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(_unknown(given))
    path = Path(given).expanduser()
    if not path.is_dir():
        return [_Part(str(path), path, label=read_label(path))]
    files = _find_files(path)
    if not files:
        raise InputError(
            f'the folder "{path}" holds no image ({", ".join(IMAGE_SUFFIXES)}) and no video '
            f'({", ".join(VIDEO_SUFFIXES)}); check the path'
        )
    return [_Part(str(file), file, label=read_label(file, path)) for file in files]


def _find_files(folder: Path) -> list[Path]:
    """Return images and videos below a folder in order of their paths; links are followed, but not in circles."""
    files, visited = [], set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        folders[:] = [] if real in visited else [name for name in folders if not name.startswith(".")]
        if real not in visited:
            files += [Path(base, name) for name in names if _is_wanted(name)]
        visited.add(real)
    return sorted(files)


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))


def _unknown(given: Any) -> str:
    return (
        f"a {type(given).__name__} is no image; pass paths (images, videos, folders), uint8 arrays (height, width, 3) "
        "in RGB order, or PIL images"
    )


def _read(part: _Part) -> Picture:
    try:
        return Picture(part.name, _upright(read_image(part.path)), part.label)
    except InputError as error:
        return Picture(part.name, None, part.label, str(error))


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as every viewer shows it: telephones write beside the pixels how they were held."""
    if "exif" not in image.info:
        return image
    # Where that is damaged the pixels are whole all the same.
    with contextlib.suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def _decode(path: Path, stride: int, wanted: set[int] | None = None) -> Iterator[tuple[int, Image.Image]]:
    """Yield (0-based number, RGB image) of every ``stride``-th frame, or of those ``wanted``."""
    import cv2

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


def _claimed_frames(path: Path, stride: int) -> int:
    import cv2

    video = cv2.VideoCapture(str(path))
    frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return max(0, -(-frames // stride))


def _split_name(name: str) -> tuple[Path, int | None]:
    """Split the name of a picture into its file and, for a frame, the frame's number."""
    file, _, frame = name.rpartition("#")
    if frame.isdecimal() and Path(file).suffix.lower() in VIDEO_SUFFIXES:
        return Path(file), int(frame)
    return Path(name), None
