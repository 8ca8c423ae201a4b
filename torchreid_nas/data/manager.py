"""From names of data sets to the loaders of search, training and test."""
from __future__ import annotations

__all__ = ["CACHE_MODES", "ImageLoader", "ReIDDataManager", "list_names"]

import contextlib
import functools
import io
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchreid
from tabulate import tabulate
from torch.utils.data import DataLoader, Sampler

from torchreid_nas.data.augmentation import BatchTransform
from torchreid_nas.data.cache import cache_folders
from torchreid_nas.data.cached_loader import CachedLoader
from torchreid_nas.data.camstyle.dataset import CameraStyleDataset
from torchreid_nas.data.channels import UNCHANGED_CHANNELS, Channels
from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset, Item
from torchreid_nas.data.decoded_sets import DecodedSets
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.data.registered import dataset_facts
from torchreid_nas.data.seeding import SeededSampler
from torchreid_nas.data.share import OwnShare, check_divides
from torchreid_nas.data.splits import relabel, split_identities
from torchreid_nas.data.transforms import ERASING, Erasing, build_cross_modality_transforms
from torchreid_nas.data.usable import check_scorable, check_source, testable
from torchreid_nas.distributed import processes
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.metrics.protocols import Protocol, find_protocol

CACHE_MODES = ("auto", "on", "off")


class ReIDDataManager(torchreid.data.ImageDataManager.__base__):
    """torchreid's ``DataManager``, quiet, with held-out identities and a split for searches.

    Offers what torchreid's ``Engine`` asks for (``train_loader``,
    ``test_loader[name]["query" | "gallery"]``, ``test_dataset``, ``sources``,
    ``targets``, ``num_train_pids``, ...) and never prints; :meth:`summary`
    tells what was found. How training batches are drawn, and how the training
    data is parted for a search, is the subclasses' part. Where the protocol
    draws galleries at random, the gallery loader runs over the whole pool, so that features
    are extracted once, and :meth:`test_galleries` tells which belong to each
    trial.

    Args:
        root: the folder that holds the data sets.
        sources: name or names in torchreid's registry to train on.
        targets: names to test on; default ``sources``; ``[]`` for none.
        height, width: of the network's input, in pixels.
        transforms, norm_mean, norm_std: see
            :func:`build_cross_modality_transforms`.
        split_id: the RegDB trial, from 0.
        layout, split_seed, train_share: of own images, see :class:`~torchreid_nas.data.own.dataset.OwnDataset`.
        batch_size_train: images in a training batch, all modalities together.
        batch_size_test: images in a test batch.
        workers: loader processes where images are decoded for every batch; 0 loads in this one. What is random about an
            image does not depend on their number.
        num_instances: images per identity (and modality) in a training batch.
        num_batches: training batches per epoch; default the sampler's own count.
        use_gpu: pin memory when CUDA is there.
        seed: of the sampler and of :meth:`search_split`.
        gallery_draw, shot: of the galleries of SYSU-MM01.
        protocols: names of the protocols to test under; each target takes those that are its own, or else its own one.
        num_trials: galleries where they are drawn at random.
        holdout: share of the training identities kept from training for
            choosing the best model; 0 for none.
        holdout_seed: chooses these identities.
        also_load: further data sets, for subclasses.
        cache: ``"auto"`` decodes every image once and augments whole batches
            (:class:`CachedLoader`), except that training images are decoded
            for every batch, by torchreid's transforms and ``workers``, where
            ``transforms`` names one that has no batched form
            (``random_patch``, ``color_jitter``); ``"on"`` refuses such
            transforms, ``"off"`` decodes all for every batch.
        cache_dir: folder of the decoded images; default see :func:`cache_folders`.
        device: where loaders of decoded images put their batches; default the
            GPU with ``use_gpu``, otherwise the CPU.
        channels_last: memory order of these batches.
        interpolation: by which images are resized, see :func:`build_cross_modality_transforms`.
        erasing: which rectangles ``random_erase`` erases.
        channels: what becomes of the channels of training images, see :class:`~torchreid_nas.data.channels.Channels`.
        training: False for a test alone: there is no training loader, and no batch that the identities must fill.

    Attributes:
        targets: what is tested.
        named_targets: these, and targets without labels, which serve domain adaptation alone.
        trainset: what ``train_loader`` reads, labels 0..num_train_pids-1.
        validation_loader: ``{"query": ..., "gallery": ...}``, images of the
            held-out identities in test transforms, or None.
            ``validation_dataset`` holds their items.

    Raises:
        InputError: unknown name, missing or broken data, or an argument out of
            range.
    """

    data_type = "image"
    targets: list[str]

    def __init__(
        self,
        root: str = "",
        sources: str | Sequence[str] | None = None,
        targets: str | Sequence[str] | None = None,
        height: int = 256,
        width: int = 128,
        transforms: str | Sequence[str] | None = ("pad_crop", "random_flip", "random_erase"),
        norm_mean: Sequence[float] | None = None,
        norm_std: Sequence[float] | None = None,
        split_id: int = 0,
        batch_size_train: int = 128,
        batch_size_test: int = 128,
        workers: int = 4,
        num_instances: int = 4,
        num_batches: int | None = None,
        use_gpu: bool = False,
        seed: int = 0,
        gallery_draw: str = "random",
        shot: int = 1,
        protocols: Sequence[str] = (),
        num_trials: int = 10,
        holdout: float = 0.0,
        holdout_seed: int = 0,
        also_load: Sequence[str] = (),
        cache: str = "auto",
        cache_dir: str = "",
        device: torch.device | str | None = None,
        channels_last: bool = False,
        training: bool = True,
        interpolation: str = "bilinear",
        erasing: Erasing = ERASING,
        layout: str = "",
        split_seed: int = 0,
        train_share: float = 0.5,
        channels: Channels = UNCHANGED_CHANNELS,
    ):
        sources, targets = list_names("sources", sources), None if targets is None else list_names("targets", targets)
        if not sources:
            raise InputError("sources names no data set to train on; set data.sources")
        for key, value, least in (
            ("batch_size_test", batch_size_test, 1), ("workers", workers, 0), ("num_trials", num_trials, 1),
            ("num_instances", num_instances, 1), ("num_batches", num_batches, 1),
        ):
            if value is not None and value < least:
                raise InputError(f"{key} is {value}, expected at least {least}")
        if cache not in CACHE_MODES:
            raise InputError(
                f'data.cache is "{cache}", expected one of {", ".join(CACHE_MODES)}{nearest(cache, CACHE_MODES)}'
            )
        # torchreid's constructor builds and prints transforms of its own.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(sources, targets, height, width, [], norm_mean, norm_std, use_gpu)
        self.transform_tr, self.transform_te = build_cross_modality_transforms(
            height, width, transforms, norm_mean, norm_std, interpolation, erasing, channels
        )
        self.channels = channels
        self.batch_size_train = batch_size_train
        self.batch_size_test = batch_size_test
        self.workers = workers
        self.num_instances = num_instances
        self.num_batches = num_batches
        self.seed = seed
        self.num_trials = num_trials
        self._protocols = list(protocols)
        self._gallery_draw = gallery_draw
        self.cache = cache
        self._training = training
        self._decoded = DecodedSets(height, width, root, cache_folders(root, cache_dir), interpolation)
        self._device = torch.device(device or ("cuda" if self.use_gpu else "cpu"))
        self._channels_last = channels_last
        if cache == "on" and BatchTransform.of(self.transform_tr, height, width) is None:
            raise InputError(
                f"data.cache is on and data.transforms {transforms} has no batched form; set data.cache auto, or leave "
                "random_patch and color_jitter out"
            )

        options = {
            "root": root, "split_id": split_id, "gallery_draw": gallery_draw, "shot": shot, "layout": layout,
            "split_seed": split_seed, "train_share": train_share,
        }
        self._datasets = {
            name: load_dataset(name, options) for name in dict.fromkeys([*self.sources, *self.targets, *also_load])
        }
        for name in self.sources:
            check_source(name, self._datasets[name])
        train = functools.reduce(operator.add, (self._datasets[name] for name in self.sources))
        self._decode_once(self.sources, train.train)
        self._set_train(train, holdout, holdout_seed)
        self.test_loader: dict[str, dict[str, DataLoader]] = {}
        self.test_dataset: dict[str, dict[str, list[Item]]] = {}
        self.named_targets = list(self.targets)
        self.targets = testable(self.targets, self._datasets)
        for name in self.targets:
            dataset = self._datasets[name]
            self.test_dataset[name] = {"query": dataset.query, "gallery": dataset.gallery_pool}
            for protocol in self.protocols(name):
                drawn = sorted({place for places in self.test_galleries(name, protocol) for place in places.tolist()})
                check_scorable(name, dataset.query, [dataset.gallery_pool[place] for place in drawn], protocol)
            self._decode_once([name], [*dataset.query, *dataset.gallery_pool])
            self.test_loader[name] = {
                part: self._test_loader(dataset, items) for part, items in self.test_dataset[name].items()
            }

    def test_galleries(self, name: str, protocol: Protocol | None = None) -> list[np.ndarray]:
        """Return for each trial of a target the positions of its gallery in ``test_dataset[name]["gallery"]``.

        Args:
            name: of the target.
            protocol: one of :meth:`protocols`; default the first one.

        Returns:
            ``num_trials`` int64 arrays where galleries are drawn, otherwise one array of all positions.

        Raises:
            InputError: ``name`` is not a target, or a gallery cannot be drawn.
        """
        if name not in self.test_dataset:
            raise InputError(
                f'"{name}" is not a target, expected one of {", ".join(self.targets)}{nearest(name, self.targets)}'
            )
        dataset = self._datasets[name]
        pool = dataset.gallery_pool
        if not dataset.draws_gallery:
            return [np.arange(len(pool))]
        positions = {item[0]: position for position, item in enumerate(pool)}
        galleries = (protocol or self.protocols(name)[0]).galleries
        return [
            np.array([positions[path] for path, *_ in dataset.draw_gallery(trial, **galleries)])
            for trial in range(self.num_trials)
        ]

    def protocols(self, name: str) -> list[Protocol]:
        """Return how a target is scored; the first protocol counts where one figure is asked for."""
        dataset = self._datasets[name]
        own = find_protocol(dataset.protocol)
        chosen = dataset_facts(name).tested_under(self._protocols, own, self._gallery_draw)
        return [dataset.adapted(protocol) for protocol in chosen]

    def setting(self, name: str, protocol: Protocol | None = None) -> str:
        """Return what results say of the test of a target, e.g. ``"RegDB split_id 0"``, under its first protocol by default."""
        return self._datasets[name].describe(name, protocol or self.protocols(name)[0])

    def direction(self, name: str) -> str:
        """Return what a target retrieves from what, e.g. ``"visible → infrared"``; ``""`` for data of one modality."""
        return self._datasets[name].direction

    def summary(self) -> str:
        """Return a table of what was found: identities and images of each part, per modality where there are two."""
        parts = [("train: " + " + ".join(self.sources), self.trainset, self.trainset.train)]
        if self.validation_dataset is not None:
            held_out = [item for items in self.validation_dataset.values() for item in items]
            parts.append(("held out of training", self.trainset, held_out))
        for name, tests in self.test_dataset.items():
            dataset = self._datasets[name]
            pool = f"gallery pool ({self.num_trials} draws)" if dataset.draws_gallery else "gallery"
            parts.append((f"{name}: query", dataset, tests["query"]))
            parts.append((f"{name}: {pool}", dataset, tests["gallery"]))
        rows = []
        for title, dataset, items in parts:
            counts = [sum(dataset.modality_of(item[2]) == modality for item in items) for modality in range(2)]
            rows.append([title, len({item[1] for item in items}), *counts])
        headers = ["part", "identities", *(f"{word} images" for word in MODALITIES)]
        if not any(infrared for *_, infrared in rows):
            # Data of one modality: whether it is visible is not known, and nothing is said of the other.
            headers, rows = ["part", "identities", "images"], [row[:-1] for row in rows]
        remarks = [remark for dataset in self._datasets.values() for remark in dataset.remarks]
        table = "\n".join([tabulate(rows, headers=headers), *dict.fromkeys(remarks)])
        if self.cache == "off" or not self._training or isinstance(self.train_loader, CachedLoader):
            return table
        return f"{table}\ntraining images are decoded for every batch: the cache has no batched form of all data.transforms"

    @property
    def datasets(self) -> Mapping[str, CrossModalityDataset]:
        """The loaded data sets by their names."""
        return self._datasets

    # -- for subclasses -------------------------------------------------------

    def make_sampler(
        self, dataset: CrossModalityDataset, batch_size: int, num_instances: int, num_batches: int | None, seed: int,
    ) -> Sampler:
        """Return the sampler of a training loader over ``dataset.data``."""
        raise NotImplementedError

    def validation_parts(self, dataset: CrossModalityDataset, items: Sequence[Item]) -> dict[str, list[Item]]:
        """Part the images of the held-out identities into ``"query"`` and ``"gallery"``."""
        raise NotImplementedError

    def _set_train(self, dataset: CrossModalityDataset, holdout: float, holdout_seed: int) -> None:
        """Part the held-out identities from those of training, and make both kinds of loaders."""
        kept, held_out = split_identities((item[1] for item in dataset.train), holdout, holdout_seed)
        labels = {pid: label for label, pid in enumerate(kept)}
        self.trainset = dataset.view(relabel(dataset.train, labels), self.transform_tr)
        self._val_pids = frozenset(labels[pid] for pid in dataset.val_pids if pid in labels)
        self._num_train_pids = self.trainset.num_train_pids
        self._num_train_cams = self.trainset.num_train_cams
        self.train_loader = self._identity_loader(
            self.trainset, self.batch_size_train, self.num_instances, self.num_batches, self.seed
        ) if self._training else None
        self.validation_dataset: dict[str, list[Item]] | None = None
        self.validation_loader: dict[str, DataLoader] | None = None
        if not held_out:
            return
        items = relabel(dataset.train, {pid: pid for pid in held_out})
        self.validation_dataset = self.validation_parts(dataset, items)
        parts = self.validation_dataset.values()
        usable = len(set.intersection(*({item[1] for item in part} for part in parts)))
        if usable < 2:
            raise InputError(
                f"of the {len(held_out)} identities held out of training {usable} have images to be found by "
                f"(of both modalities, or of two cameras), expected at least 2; raise the held-out share ({holdout})"
            )
        self.validation_loader = {
            part: self._test_loader(dataset, items) for part, items in self.validation_dataset.items()
        }

    def _identity_loader(
        self,
        dataset: CrossModalityDataset,
        batch_size: int,
        num_instances: int,
        num_batches: int | None,
        seed: int,
    ) -> DataLoader:
        return self._loader(
            dataset, batch_size, self.make_sampler(dataset, batch_size, num_instances, num_batches, seed)
        )

    def _loader(
        self, dataset: CrossModalityDataset | CameraStyleDataset, batch_size: int, sampler: Sampler,
        key: str = "train.batch_size",
    ) -> DataLoader:
        """Return a training loader; ``key`` says in messages where the batch size comes from."""
        check_divides(batch_size, sampler, key)
        return self._make_loader(dataset, batch_size, sampler=sampler, drop_last=True)

    def _test_loader(self, dataset: CrossModalityDataset, items: Sequence[Item]) -> DataLoader:
        return self._make_loader(dataset.view(items, self.transform_te), self.batch_size_test)

    def _make_loader(
        self, dataset: CrossModalityDataset | CameraStyleDataset, batch_size: int, **options: Any,
    ) -> DataLoader:
        transform = BatchTransform.of(dataset.transform, self.height, self.width)
        reader = self._decoded.reader(dataset, transform)
        if reader is not None and transform is not None:
            return CachedLoader(
                dataset, batch_size, reader=reader, transform=transform, device=self._device,
                channels_last=self._channels_last, **options,
            )
        if "sampler" in options:
            options["sampler"] = OwnShare(SeededSampler(options["sampler"]), batch_size)
            batch_size //= processes()
        return ImageLoader(dataset, batch_size, num_workers=self.workers, pin_memory=self.use_gpu, **options)

    def _decode_once(self, names: Sequence[str], items: Iterable[Item]) -> None:
        """Have these images of the named data sets decoded when a loader first reads one of them."""
        if self.cache != "off":
            self._decoded.add([self._datasets[name] for name in names], items)


class ImageLoader(DataLoader):
    """A DataLoader that raises an ``InputError`` of a worker as it was, without the worker's traceback.

    Where the sampler is an :class:`~torchreid_nas.data.share.OwnShare`, batches can be skipped: see :class:`CachedLoader`.
    """

    sampler: Any

    @property
    def skip(self) -> int:
        """Batches at the start of the next pass that are drawn and not read; other samplers have no such attribute."""
        return int(self.sampler.skip // (self.batch_size or 1))

    @skip.setter
    def skip(self, batches: int) -> None:
        self.sampler.skip = batches * (self.batch_size or 1)

    # torch's annotation promises an iterator class of its own.
    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the batches of one pass."""
        try:
            yield from super().__iter__()
        except InputError as error:
            # PyTorch re-raises in this process with the traceback as message.
            raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from error


def list_names(key: str, value: str | Sequence[str] | None) -> list[str]:
    """Return one name or several as a list; ``key`` is where they come from.

    Raises:
        InputError: a name comes twice.

    Example:
        >>> list_names("sources", "regdb"), list_names("sources", None)
        (['regdb'], [])
    """
    names = [value] if isinstance(value, str) else list(value or [])
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'{key} names "{name}" twice; name each data set once')
    return names
