"""Images of classes: CIFAR-10 and CIFAR-100 as their authors pack them, ImageNet, and any folder with a folder per class."""
from __future__ import annotations

__all__ = ["ClassDataset", "ClassImages", "load_classes"]

import dataclasses
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from torchreid_nas.data.dataset import read_image
from torchreid_nas.data.registered import CLASS_DATASETS
from torchreid_nas.errors import InputError, shown
from torchreid_nas.host import IMAGE_DATASETS

# Every n-th image of a class is tested, where a folder has no parts (ours).
_TESTED = 5
_TEST_PARTS = ("val", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class ClassImages:
    """Images with the number of the class of each.

    Attributes:
        paths: files; where several images are packed in a file, the file comes several times.
        labels: classes, from 0.
        pixels: (N, H, W, 3) uint8 for images that are packed, None for a file per image.
    """

    paths: Sequence[str]
    labels: Sequence[int]
    pixels: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """Return an image in RGB.

        Raises:
            InputError: the file is missing or broken.
        """
        if self.pixels is not None:
            return Image.fromarray(self.pixels[index])
        image: Image.Image = read_image(self.paths[index])
        return image

    def only(self, indices: Sequence[int]) -> ClassImages:
        """Return some of the images, in this order."""
        pixels = None if self.pixels is None else self.pixels[list(indices)]
        return ClassImages([self.paths[i] for i in indices], [self.labels[i] for i in indices], pixels)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassDataset:
    """A data set of classes.

    Attributes:
        name: as the config names it.
        title: what results say of it.
        classes: names; the position is the label.
        train: for training.
        test: for test, of the same classes.
    """

    name: str
    title: str
    classes: Sequence[str]
    train: ClassImages
    test: ClassImages


def load_classes(name: str, root: str | os.PathLike[str], download: bool = False) -> ClassDataset:
    """Return a data set of classes.

    - ``cifar10``, ``cifar100``: ``<root>/cifar-10-batches-py``, ``<root>/cifar-100-python``, as torchvision keeps them. Files
      that are not the published ones are read too; ``title`` says so.
    - ``imagenet`` and any other name: the folder ``<root>/<name>`` with the parts ``train`` and ``val`` (or ``test``), each
      with a folder of images per class. Without these parts the classes lie in the folder itself, and of each class
      every fifth image by name is for test (ours).

    Args:
        name: see above.
        root: of the data sets.
        download: fetch CIFAR where it is missing; nothing else is downloaded.

    Raises:
        InputError: files are missing or broken, a label is out of range, there are fewer than two classes, or a class has
            one training image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for number in range(4):
        ...         folder = Path(root, "fruit", ["apple", "pear"][number % 2])
        ...         folder.mkdir(parents=True, exist_ok=True)
        ...         for image in range(3):
        ...             Image.new("RGB", (8, 8)).save(folder / f"{number}{image}.png")
        ...     data = load_classes("fruit", root)
        >>> data.classes, len(data.train), len(data.test)
        (['apple', 'pear'], 8, 4)
    """
    data = _cifar(name, Path(root).expanduser(), download) if name in _CIFAR else _folder(name, Path(root).expanduser())
    if len(data.classes) < 2:
        raise InputError(f'"{name}" has one class ("{data.classes[0]}"), expected two or more; add the folder of another class')
    counts = Counter(data.train.labels)
    few = next((number for number in range(len(data.classes)) if counts[number] < 2), None)
    if few is not None:
        raise InputError(
            f'the class "{data.classes[few]}" of "{name}" has {counts[few] or "no"} training image, expected two or more; add '
            "images or remove the class"
        )
    return data


# -- CIFAR --------------------------------------------------------------------


def _unchecked(files: Sequence[Sequence[str]]) -> list[list[Any]]:
    """Return torchvision's list of files without digests, so that other files of the layout are read too."""
    return [[name, None] for name, _ in files]


class _CIFAR10(datasets.CIFAR10):
    train_list: ClassVar[Any] = _unchecked(datasets.CIFAR10.train_list)
    test_list: ClassVar[Any] = _unchecked(datasets.CIFAR10.test_list)
    meta: ClassVar[Any] = {**datasets.CIFAR10.meta, "md5": None}


class _CIFAR100(datasets.CIFAR100):
    train_list: ClassVar[Any] = _unchecked(datasets.CIFAR100.train_list)
    test_list: ClassVar[Any] = _unchecked(datasets.CIFAR100.test_list)
    meta: ClassVar[Any] = {**datasets.CIFAR100.meta, "md5": None}


_CIFAR = {"cifar10": ("CIFAR-10", datasets.CIFAR10, _CIFAR10), "cifar100": ("CIFAR-100", datasets.CIFAR100, _CIFAR100)}


def _cifar(name: str, root: Path, download: bool) -> ClassDataset:
    title, published, reader = _CIFAR[name]
    folder = root / published.base_folder
    if download and not folder.exists():
        try:
            published(root, download=True)
        # torchvision's loader fails with errors of urllib, of tar files, and of its own.
        except Exception as error:
            raise InputError(
                f"{title} cannot be downloaded to \"{root}\" ({shown(error, 200)}); fetch {published.url} yourself and unpack "
                "it there"
            ) from error
    names = [file for file, _ in (*published.train_list, *published.test_list)] + [str(published.meta["filename"])]
    missing = next((file for file in names if not (folder / file).is_file()), None)
    if missing is not None:
        raise InputError(
            f'{title} is missing or incomplete: "{folder / missing}" does not exist; unpack {published.url} in "{root}", or set '
            "classification.download True"
        )
    try:
        parts: dict[bool, Any] = {train: reader(root, train=train) for train in (True, False)}
        images = {
            train: ClassImages(_cifar_paths(folder, part), [int(label) for label in part.targets], part.data)
            for train, part in parts.items()
        }
        classes = [str(word) for word in parts[True].classes]
    except (OSError, EOFError, pickle.UnpicklingError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f'a file of {title} in "{folder}" is broken ({type(error).__name__}: {shown(error, 200)}); '
            f"unpack {published.url} again"
        ) from error
    for part, kept in zip(("training", "test"), images.values()):
        if kept.pixels is None or len(kept.pixels) != len(kept.labels):
            raise InputError(
                f'the {part} file of {title} in "{folder}" has {len(kept.pixels) if kept.pixels is not None else 0} images and '
                f"{len(kept.labels)} labels; unpack {published.url} again"
            )
        wrong = next((label for label in kept.labels if not 0 <= label < len(classes)), None)
        if wrong is not None:
            raise InputError(
                f'the {part} file of {title} in "{folder}" has the label {wrong}, expected 0 to {len(classes) - 1}; unpack '
                f"{published.url} again"
            )
    digests = (*published.train_list, *published.test_list)
    as_published = all(check_integrity(str(folder / file), md5) for file, md5 in digests)
    return ClassDataset(
        name, title if as_published else f"files in the layout of {title} that are not the published ones", classes,
        images[True], images[False],
    )


def _cifar_paths(folder: Path, part: Any) -> list[str]:
    """Return the file of every image; all files of a part hold as many images."""
    files = [str(folder / name) for name, _ in (part.train_list if part.train else part.test_list)]
    return [files[index * len(files) // len(part.targets)] for index in range(len(part.targets))]


# -- folders ------------------------------------------------------------------


def _folder(name: str, root: Path) -> ClassDataset:
    folder = root / name
    if name in IMAGE_DATASETS and not folder.is_dir():
        raise InputError(
            f'"{name}" is a data set of persons, and task is classification; name {", ".join(CLASS_DATASETS)} or a folder of '
            "classes, or set task reid"
        )
    if not folder.is_dir():
        raise InputError(
            f'there is no folder of classes "{folder}"; put it there as {name}/train/<class>/<image> and '
            f"{name}/val/<class>/<image>, or as {name}/<class>/<image>"
        )
    title = "ImageNet" if name == "imagenet" else f'the folder "{Path(name).name}"'
    tests = [part for part in _TEST_PARTS if (folder / part).is_dir()]
    if (folder / "train").is_dir() and tests:
        classes, train = _images(folder / "train")
        their_classes, test = _images(folder / tests[0])
        unknown = next((word for word in their_classes if word not in classes), None)
        if unknown is not None:
            raise InputError(
                f'"{folder / tests[0]}" has the class "{unknown}", which "{folder / "train"}" lacks; add its training images or '
                "remove it"
            )
        place = {word: label for label, word in enumerate(classes)}
        labels = [place[their_classes[label]] for label in test.labels]
        return ClassDataset(name, title, classes, train, dataclasses.replace(test, labels=labels))
    classes, images = _images(folder)
    tested: set[int] = set()
    for label, word in enumerate(classes):
        positions = [index for index, own in enumerate(images.labels) if own == label]
        if len(positions) < 2:
            raise InputError(
                f'the class "{word}" in "{folder}" has one image, expected two or more, of which one is for test; add images or '
                "remove the class"
            )
        tested.update(positions[::_TESTED])
    parts = [[index for index in range(len(images)) if (index in tested) == test] for test in (False, True)]
    return ClassDataset(name, f"{title}, every fifth image for test", classes, images.only(parts[0]), images.only(parts[1]))


def _images(folder: Path) -> tuple[list[str], ClassImages]:
    """Return the classes and images of a folder with a folder per class, by name."""
    try:
        found = datasets.ImageFolder(str(folder))
    except (FileNotFoundError, OSError) as error:
        raise InputError(
            f'"{folder}" is no folder of classes ({shown(str(error).splitlines()[0], 200)}); put the images of each class into a '
            "folder of its own"
        ) from error
    return list(found.classes), ClassImages([path for path, _ in found.samples], [label for _, label in found.samples])
