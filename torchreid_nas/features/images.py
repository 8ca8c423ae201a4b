"""Where images come from: files, folders, videos, arrays and PIL images, one after the other."""
from __future__ import annotations

__all__ = ["Picture", "Source", "read_named", "split_name"]

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torchreid_nas.data.dataset import as_rgb
from torchreid_nas.errors import InputError
from torchreid_nas.features.boxes import Box, Boxes, read_boxes
from torchreid_nas.features.labels import Label, read_label
from torchreid_nas.features.media import claimed_frames, decode, kind_of, read_upright


@dataclass(frozen=True)
class Picture:
    """One image of a source.

    Attributes:
        name: the path of its file, then ``#frame`` (0-based) of a video and ``@left,top,width,height`` of a box;
            ``image <n>`` without a file.
        image: RGB; None where it cannot be read.
        problem: why the image cannot be read.
        label: what the path tells, or the file of boxes.
        file: the name with the path that links lead to; ``""`` without a file.
    """

    name: str
    image: Image.Image | None
    label: Label = Label()
    problem: str = ""
    file: str = ""


class Source:
    """The images of paths, arrays or PIL images; only what is asked for is in memory.

    Args:
        source: one of the following, or a sequence of them: the path of an
            image, a video or a folder (searched with its sub-folders in the
            order of paths; hidden files are skipped), a uint8 array (H, W, 3)
            in RGB order, a PIL image. Image files are turned as their EXIF
            orientation says, which torchreid leaves alone.
        stride: take every n-th frame of a video, from the first.
        boxes: a file of boxes (:func:`torchreid_nas.features.boxes.read_boxes`): the persons are cut out, and pictures
            without a box are left out.

    Attributes:
        left_out: files of the folders that are neither images nor videos.

    Raises:
        InputError: a path that does not exist as the only one, a folder that
            cannot be read or is without images and videos, nothing at all, an
            array of another form, another type, a PIL image beyond 8 bits, a
            stride below 1, or boxes that do not say which image they belong to.
    """

    def __init__(self, source: Any, stride: int = 1, boxes: str | os.PathLike[str] | None = None) -> None:
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            raise InputError(f"the stride through videos is {stride!r}, expected a whole number of at least 1")
        single = isinstance(source, (str, os.PathLike, np.ndarray, Image.Image))
        if not single and not isinstance(source, Iterable):
            raise InputError(_unknown(source))
        given = [source] if single else list(source)
        if not given:
            raise InputError("there is no image: the list of them is empty; pass at least one")
        if single and isinstance(source, (str, os.PathLike)) and not Path(source).expanduser().exists():
            raise InputError(f'"{source}" does not exist; give an image, a video or a folder of them')
        self.stride = stride
        self.left_out: list[str] = []
        self._parts = [part for index, each in enumerate(given) for part in _expand(each, index, self.left_out)]
        self._boxes = None if boxes is None else read_boxes(boxes)
        if self._boxes is not None and self._boxes.of_frame and len(self._parts) > 1 and any(p.is_video for p in self._parts):
            raise InputError(
                f'the boxes "{boxes}" name frames and no files, and the source holds {len(self._parts)} files with a video '
                "among them; give one video, or a CSV with a column `file`"
            )

    def __len__(self) -> int:
        """Number of images: the number of boxes where there are boxes, and for videos the number that their headers claim."""
        if self._boxes is not None:
            return len(self._boxes)
        return sum(claimed_frames(part.path, self.stride) if part.path and part.is_video else 1 for part in self._parts)

    def __iter__(self) -> Iterator[Picture]:
        if self._boxes is None:
            for part in self._parts:
                yield from self._pictures(part)
        else:
            yield from self._crops(self._boxes)

    def _pictures(self, part: _Part, wanted: set[int] | None = None) -> Iterator[Picture]:
        if part.path is None:
            yield Picture(part.name, part.image)
        elif not part.is_video:
            yield _read(part, part.path)
        else:
            yield from _frames(part, part.path, self.stride, wanted)

    def _crops(self, boxes: Boxes) -> Iterator[Picture]:
        """Yield every box of every picture; a box whose picture is missing becomes a picture that cannot be read."""
        met: set[str] = set()
        for index, part in enumerate(self._parts):
            name = None if part.path is None else boxes.name_of(part.path)
            met.update([name] if name is not None else [])
            of_frame = boxes.of_frame if not boxes.of_file else boxes.of_file.get(name or "", {})
            if not part.is_video:
                own = of_frame.get(index, ()) if boxes.of_frame else [box for group in of_frame.values() for box in group]
                if own:
                    yield from _cut(next(self._pictures(part)), own)
                continue
            wanted = {number for number in of_frame if number % self.stride == 0}
            seen = set()
            for picture in self._pictures(part, wanted) if wanted else ():
                frame = split_name(picture.name)[1]
                if frame is not None:
                    seen.add(frame)
                yield from _cut(picture, of_frame[frame] if frame is not None else ())
            for number in sorted(wanted - seen if seen else ()):
                yield Picture(f"{part.name}#{number}", None, problem=(
                    f'"{boxes.path}" has boxes of frame {number}, which the video "{part.name}" does not have'
                ))
        last = len(self._parts)
        strange = [*(set(boxes.of_file) - met)]
        if boxes.of_frame and not any(part.is_video for part in self._parts):
            strange = [f"frame {number}" for number in boxes.of_frame if number >= last]
        for name in sorted(strange):
            yield Picture(name, None, problem=f'"{boxes.path}" has boxes of "{name}", which the source does not have')


@dataclass(frozen=True)
class _Part:
    """A file, or an image without one."""

    name: str
    path: Path | None = None
    image: Image.Image | None = None
    label: Label = Label()
    is_video: bool = False


def read_named(names: Sequence[str]) -> dict[str, Image.Image]:
    """Return the images of pictures by their names; those that cannot be read are left out.

    Every video is decoded once, from its start: seeking is not exact in every format.
    """
    images: dict[str, Image.Image] = {}
    wanted: dict[Path, set[int]] = {}
    whole: dict[tuple[Path, int | None], Image.Image] = {}
    split = {name: split_name(name) for name in names}
    for name, (path, frame, _) in split.items():
        if frame is not None:
            wanted.setdefault(path, set()).add(frame)
        elif (path, None) not in whole:
            picture = _read(_Part(name), path)
            if picture.image is not None:
                whole[path, None] = picture.image
    for path, frames in wanted.items():
        with contextlib.suppress(InputError):
            whole.update({(path, number): image for number, image in decode(path, 1, frames)})
    for name, (path, frame, box) in split.items():
        found = whole.get((path, frame))
        if found is not None and box is not None:
            found = box.crop(found)
        if found is not None:
            images[name] = found
    return images


def split_name(name: str) -> tuple[Path, int | None, Box | None]:
    """Split the name of a picture into its file, the number of a video's frame, and the box; None without them.

    >>> split_name("clip.avi#7@1,2,30,60")
    (PosixPath('clip.avi'), 7, Box(left=1, top=2, width=30, height=60, identity=None))
    """
    box = frame = None
    if not os.path.lexists(name):
        cut = re.fullmatch(r"(.+)@(-?\d{1,8}),(-?\d{1,8}),(\d{1,8}),(\d{1,8})", name, re.DOTALL)
        if cut:
            name, box = cut[1], Box(int(cut[2]), int(cut[3]), int(cut[4]), int(cut[5]))
        of_video = re.fullmatch(r"(.+)#(\d{1,12})", name, re.DOTALL) if not os.path.lexists(name) else None
        if of_video:
            name, frame = of_video[1], int(of_video[2])
    return Path(name), frame, box


def _cut(picture: Picture, boxes: Sequence[Box]) -> Iterator[Picture]:
    if picture.image is None:
        yield picture
        return
    for box in boxes:
        label = picture.label if box.identity is None else replace(picture.label, identity=box.identity)
        image = box.crop(picture.image)
        problem = "" if image is not None else (
            f'the box {box} of "{picture.name}" lies outside of the image of {picture.image.width} x {picture.image.height}'
        )
        yield Picture(f"{picture.name}@{box}", image, label, problem, f"{picture.file}@{box}" if picture.file else "")


def _expand(given: Any, index: int, left_out: list[str]) -> list[_Part]:
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
        return [_Part(str(path), path, label=read_label(path), is_video=kind_of(path) == "video")]
    kinds = {file: kind_of(file) for file in _find_files(path)}
    left_out += [str(file) for file, kind in kinds.items() if not kind]
    parts = [
        _Part(str(file), file, label=read_label(file, path), is_video=kind == "video") for file, kind in kinds.items() if kind
    ]
    if not parts:
        other = f" (it holds {len(kinds):,} other files, the first: {next(iter(kinds)).name})" if kinds else ""
        raise InputError(f'the folder "{path}" holds no image and no video{other}; check the path')
    return parts


def _find_files(folder: Path) -> list[Path]:
    """Return the files below a folder in order of their paths; links are followed, but not in circles."""
    files: list[Path] = []
    visited = set()
    for base, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(base)
        folders[:] = [] if real in visited else [name for name in folders if not name.startswith(".")]
        if real not in visited:
            files += [Path(base, name) for name in names if not name.startswith(".")]
        visited.add(real)
    return sorted(files)


def _refuse(error: OSError) -> None:
    raise InputError(
        f'the folder "{error.filename}" cannot be read ({error.strerror}); change its permissions, or leave it out of the source'
    ) from error


def _unknown(given: Any) -> str:
    return (
        f"a {type(given).__name__} is no image; pass paths (images, videos, folders), uint8 arrays (height, width, 3) "
        "in RGB order, or PIL images"
    )


def _read(part: _Part, path: Path) -> Picture:
    try:
        return Picture(part.name, read_upright(path), part.label, file=os.path.realpath(path))
    except InputError as error:
        return Picture(part.name, None, part.label, str(error))


def _frames(part: _Part, path: Path, stride: int, wanted: set[int] | None) -> Iterator[Picture]:
    file, problem = os.path.realpath(path), f'the video "{path}" has no frame that can be decoded'
    try:
        for number, image in decode(path, stride, wanted):
            problem = ""
            yield Picture(f"{part.name}#{number}", image, part.label, file=f"{file}#{number}")
    except InputError as error:
        problem = str(error)
    if problem:
        yield Picture(part.name, None, part.label, problem)
