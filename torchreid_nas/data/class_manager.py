"""The data manager of classification: batches of images in random order, without identities and cameras."""
from __future__ import annotations

__all__ = ["TOP_K", "ClassDataManager"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import Dataset, RandomSampler

from torchreid_nas.data.classes import ClassDataset, ClassImages, load_classes
from torchreid_nas.data.identity_manager import BoundedSampler
from torchreid_nas.data.manager import ImageLoader, list_names
from torchreid_nas.data.seeding import SeededSampler, seeded
from torchreid_nas.data.share import OwnShare, check_divides
from torchreid_nas.data.splits import split_images_by_count
from torchreid_nas.distributed import processes
from torchreid_nas.errors import InputError
from torchreid_nas.metrics.protocols import Protocol

Transform = Callable[[Image.Image], torch.Tensor]

TOP_K = Protocol("top_k", "top-k accuracy")
"""The test of a classification: no image is retrieved, the protocol is a name alone."""


class _Batches(Dataset[dict[str, Any]]):
    """Images as torchreid's engines read them: the class is the ``pid``."""

    def __init__(self, images: ClassImages, transform: Transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with seeded(index):
            image = self.transform(self.images.read(index))
        return {"img": image, "pid": self.images.labels[index], "camid": 0, "impath": self.images.paths[index]}


class ClassDataManager:
    """What an engine and a run ask of data, for images of classes; see :func:`~torchreid_nas.data.classes.load_classes`.

    Every image comes once per epoch, in an order that torch's global random
    state decides. The last batch is smaller where the number of images asks for
    it, as in CDNet's authors' code; a last batch of one image, which BatchNorm
    cannot normalise, is left out (ours).

    Args:
        root: of the data sets.
        source: name of the data set to train on.
        targets: names to test on; empty for a training. All have the classes of the source.
        transforms: of training and of test images, see
            :func:`~torchreid_nas.data.class_transforms.build_class_transforms`.
        batch_size_train, batch_size_test: images per batch.
        workers: loader processes; what is random about an image does not depend on their number.
        num_batches: bounds the training batches per epoch; None for all images.
        use_gpu: pin memory.
        seed: of the held-out images and of the parts of a search.
        holdout: share of the training images of each class that chooses the best epoch; 0 for none.
        download: see :func:`~torchreid_nas.data.classes.load_classes`.

    Attributes:
        train_loader: of all training images that are not held out.
        train_images, validation_images: the images of ``train_loader``, and those held out.
        test_loader: per target the loader ``"query"`` of its test images; the ``"gallery"`` is None.
        test_dataset: per target ``"query"``, items (path, class, 0), and ``"gallery"``, which is empty.
        validation_loader: of the held-out images, or None.
        classes: names; the position is the label.
        num_train_pids: number of classes.

    Raises:
        InputError: missing or broken data, or a target with other classes.
    """

    data_type = "image"

    def __init__(
        self, root: str, source: str | Sequence[str], targets: Sequence[str], transforms: tuple[Transform, Transform],
        batch_size_train: int = 128, batch_size_test: int = 128, workers: int = 4, num_batches: int | None = None,
        use_gpu: bool = False, seed: int = 0, holdout: float = 0.0, download: bool = False,
    ) -> None:
        self.sources, self.targets = list_names("sources", source), list(targets)
        if len(self.sources) != 1:
            raise InputError(
                f"data.sources names {', '.join(self.sources) or 'nothing'}, expected one data set: the classes of several "
                "do not agree"
            )
        self.transform_tr, self.transform_te = transforms
        self.batch_size_train, self.batch_size_test = batch_size_train, batch_size_test
        self.workers, self.num_batches, self.use_gpu, self.seed = workers, num_batches, use_gpu, seed
        names = dict.fromkeys([*self.sources, *self.targets])
        self._datasets: dict[str, ClassDataset] = {name: load_classes(name, root, download) for name in names}
        data = self._datasets[self.sources[0]]
        self.classes, self.num_train_pids, self.num_train_cams = data.classes, len(data.classes), 1
        for name in self.targets:
            if list(self._datasets[name].classes) != list(data.classes):
                raise InputError(f'the classes of "{name}" are not those of "{data.name}"; test on a data set with the same ones')
        self.train_images, self.validation_images = self._held_out(data.train, holdout)
        self.train_loader = self._training_loader(self.train_images)
        self.validation_loader = self._test_loader(self.validation_images) if len(self.validation_images) else None
        self.test_loader = {
            name: {"query": self._test_loader(self._datasets[name].test), "gallery": None} for name in self.targets
        }
        self.test_dataset: dict[str, dict[str, list[tuple[str, int, int]]]] = {
            name: {
                "query": [(path, label, 0) for path, label in zip(one.test.paths, one.test.labels)], "gallery": [],
            }
            for name in self.targets for one in (self._datasets[name],)
        }

    @property
    def datasets(self) -> Mapping[str, ClassDataset]:
        """The data sets by name, of sources and targets."""
        return self._datasets

    def test_galleries(self, name: str, protocol: Protocol | None = None) -> list[np.ndarray]:
        """Return one empty gallery: a test has one trial, and its images are classified, not retrieved."""
        return [np.arange(0)]

    def protocols(self, name: str) -> list[Protocol]:
        """Return the name of the test: top-k accuracy."""
        return [TOP_K]

    def setting(self, name: str, protocol: Protocol | None = None) -> str:
        """Return what results say of the test of a target."""
        return f"{TOP_K.label}, {self.num_train_pids} classes, {self._datasets[name].title}"

    def direction(self, name: str) -> str:
        """Return ``""``: nothing is retrieved."""
        return ""

    def summary(self) -> str:
        """Return a table of classes and images of each part."""
        parts = [("train: " + self.sources[0], self.train_images.labels)]
        if self.validation_loader is not None:
            parts.append(("held out of training", self.validation_images.labels))
        parts += [(f"{name}: test", self._datasets[name].test.labels) for name in self.targets]
        rows = [[title, len(set(labels)), len(labels)] for title, labels in parts]
        return tabulate(rows, headers=["part", "classes", "images"])

    def search_split(self, images: int, overlap: bool) -> tuple[ImageLoader, ImageLoader, int]:
        """Part the training images into those for the weights and those for the architecture; classes are in both.

        Args:
            images: per class for the architecture; a class keeps at least half of its images for the weights.
            overlap: leave these images in the first part too, as the authors' code does.

        Returns:
            The loader of the first part, that of the second, and the number of classes.
        """
        items = [(index, label, 0, 0) for index, label in enumerate(self.train_images.labels)]
        first, second = split_images_by_count(items, images, overlap, self.seed)  # type: ignore[arg-type]  # numbers for paths
        loaders = [self._training_loader(self.train_images.only([item[0] for item in part])) for part in (first, second)]  # type: ignore[misc]
        return loaders[0], loaders[1], self.num_train_pids

    def _held_out(self, images: ClassImages, holdout: float) -> tuple[ClassImages, ClassImages]:
        """Part the held-out images from those of training: of each class the same share, at least one, never the last two."""
        chosen: set[int] = set()
        if holdout:
            generator = np.random.default_rng(self.seed)
            labels = np.asarray(images.labels)
            for label in range(self.num_train_pids):
                positions = generator.permutation(np.flatnonzero(labels == label))
                chosen.update(positions[:min(max(round(holdout * len(positions)), 1), max(len(positions) - 2, 0))].tolist())
        kept = [index for index in range(len(images)) if index not in chosen]
        return (images.only(kept), images.only(sorted(chosen))) if chosen else (images, images.only([]))

    def _training_loader(self, images: ClassImages) -> ImageLoader:
        dataset = _Batches(images, self.transform_tr)
        sampler: Any = RandomSampler(dataset)
        if self.num_batches is not None:
            sampler = BoundedSampler(sampler, self.num_batches * self.batch_size_train)
        check_divides(self.batch_size_train, sampler)
        alone = len(sampler) % self.batch_size_train == 1
        own = OwnShare(SeededSampler(sampler), self.batch_size_train)
        return ImageLoader(
            dataset, self.batch_size_train // processes(), sampler=own, num_workers=self.workers, pin_memory=self.use_gpu,
            drop_last=alone,
        )

    def _test_loader(self, images: ClassImages) -> ImageLoader:
        dataset = _Batches(images, self.transform_te)
        return ImageLoader(dataset, self.batch_size_test, num_workers=self.workers, pin_memory=self.use_gpu)
