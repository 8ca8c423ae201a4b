"""The data manager of domain adaptation: a labelled source and an unlabelled target."""
from __future__ import annotations

__all__ = ["DomainAdaptationDataManager"]

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, Sampler

from torchreid_nas.data.camstyle import STYLERS, CameraStyleDataset, CameraStyler, CamstyleNames, make_camera_styler
from torchreid_nas.data.camstyle.names import is_msmt17
from torchreid_nas.data.dataset import CrossModalityDataset
from torchreid_nas.data.identity_manager import BoundedSampler, IdentityDataManager
from torchreid_nas.data.manager import list_names
from torchreid_nas.errors import InputError, nearest

CAMERA_STYLES = (*STYLERS, "none")


class DomainAdaptationDataManager(IdentityDataManager):
    """:class:`ReIDDataManager` with the training images of the targets beside those of the sources, as ECN takes them.

    Both loaders shuffle and drop the last, incomplete batch; they draw from
    torch's global random state: seed it per epoch, as the engines here do.
    Batches of a source or target with both modalities are ``[visible; infrared]``
    in equal halves, drawn independently (ours).

    Args:
        load_train_targets: data sets whose training images take part without
            labels, each image once, those of MSMT17's ``list_val`` too: a name or names, or
            True for those of ``targets``, as in torchreid. ``[]`` or False leaves the target out,
            for an evaluation or for a training on the source alone, and must be said: there is no default.
        batch_size_target: images per target batch; default ``batch_size_train``.
        camstyle: show a target image in the style of a camera drawn uniformly:
            ``"files"`` (released or trained images on disk, of the image's own
            data set), ``"fourier"``, ``"statistics"`` (of all targets) or
            ``"none"``; see :mod:`torchreid_nas.data.camstyle`.
        **kwargs: those of :class:`ReIDDataManager`.

    Attributes:
        train_loader_t: loader of the target; None without one.
        trainset_t: its images, in the order of their slots.

    Raises:
        InputError: see :class:`ReIDDataManager`; a batch larger than the target; camera styles that cannot be had.
    """

    def __init__(
        self, *args: Any, load_train_targets: bool | str | Sequence[str] | None = None, batch_size_target: int | None = None,
        camstyle: str = "none", **kwargs: Any,
    ) -> None:
        if load_train_targets is None:
            raise InputError(
                "load_train_targets is missing, so that training would see no target; name data sets, or pass True for the "
                "targets, or [] for an evaluation or a training on the source alone"
            )
        named = [] if isinstance(load_train_targets, bool) else list_names("load_train_targets", load_train_targets)
        super().__init__(*args, **{**kwargs, "also_load": named})
        names = self.named_targets if load_train_targets is True else named
        if load_train_targets is True and not names:
            raise InputError("load_train_targets is True and targets names no data set; name the data sets to adapt to")
        if camstyle not in CAMERA_STYLES:
            raise InputError(
                f'ecn.camstyle is "{camstyle}", expected one of {", ".join(CAMERA_STYLES)}'
                f"{nearest(camstyle, CAMERA_STYLES)}"
            )
        self.camera_styler: CameraStyler | None = None
        self.train_loader_t: DataLoader | None = None
        self.trainset_t: CrossModalityDataset | None = None
        if names:
            self._set_train_targets(names, batch_size_target or self.batch_size_train, camstyle)

    def make_sampler(
        self, dataset: CrossModalityDataset, batch_size: int, num_instances: int, num_batches: int | None, seed: int,
    ) -> Sampler:
        """Return a shuffle of all images, by halves where there are both modalities; ``num_batches`` bounds it."""
        if len(dataset.data) < batch_size:
            raise InputError(
                f"the source has {len(dataset.data)} training images, expected at least a batch of {batch_size}; "
                "lower train.batch_size"
            )
        sampler = _shuffle(dataset, batch_size, "train.batch_size")
        return sampler if num_batches is None else BoundedSampler(sampler, num_batches * batch_size)

    def target_images(self) -> DataLoader:
        """Return a loader of the target's training images in test transforms, in the order of their entries in the memory.

        Raises:
            InputError: there is no target.
        """
        if self.trainset_t is None:
            raise InputError("the data manager has no target images; pass load_train_targets")
        return self._test_loader(self.trainset_t, self.trainset_t.train)

    def summary(self) -> str:
        """Return the table of what was found, and what is known of the camera styles."""
        text = super().summary()
        if self.trainset_t is not None:
            text += f"\nunlabelled training images of the target: {len(self.trainset_t.train):,}"
        if self.camera_styler is not None:
            text += f"\n{self.camera_styler.summary()}"
        return text

    def _set_train_targets(self, names: Sequence[str], batch_size: int, camstyle: str) -> None:
        parts = [self._datasets[name].whole_training() for name in names]
        whole = functools.reduce(operator.add, parts)
        # RegDB in both directions is one set of training images.
        items = list({item[0]: item for item in whole.train}.values())
        if len(items) < batch_size:
            raise InputError(
                f"the target has {len(items)} training images, expected at least a batch of {batch_size}; "
                "lower ecn.batch_size_target"
            )
        self._decode_once(names, items)
        self.trainset_t = whole.view(items, self.transform_tr)
        self.trainset_t.labelled = all(part.labelled for part in parts)
        shown: Any = self.trainset_t
        if camstyle != "none":
            # Files have the data sets' own numbers of cameras, not those of the sum.
            own = [item for part in parts for item in part.train]
            first = {summed[3]: summed[2] - item[2] for summed, item in zip(whole.train, own)}
            file_names = [CamstyleNames(is_msmt17(name), first[number]) for number, name in enumerate(names)]
            self.camera_styler = make_camera_styler(camstyle, items, file_names, self.seed)
            shown = CameraStyleDataset(self.trainset_t, self.camera_styler)
        self.train_loader_t = self._loader(
            shown, batch_size, _shuffle(self.trainset_t, batch_size, "ecn.batch_size_target"), "ecn.batch_size_target"
        )


def _shuffle(dataset: CrossModalityDataset, batch_size: int, key: str) -> RandomSampler | _Halves:
    """Return a sampler of all images; ``key`` is where the batch size comes from."""
    modalities = [dataset.modality_of(item[2]) for item in dataset.data]
    if len(set(modalities)) < 2:
        return RandomSampler(dataset)
    if batch_size % 2:
        raise InputError(f"{key} is {batch_size}, expected an even number for two modalities")
    return _Halves(modalities, batch_size)


class _Halves(Sampler):
    """Batches of ``[visible; infrared]``: each modality shuffled, the smaller one as often as needed."""

    parts = 2

    def __init__(self, modalities: Sequence[int], batch_size: int) -> None:
        self._places = [[place for place, m in enumerate(modalities) if m == modality] for modality in range(2)]
        self._half = batch_size // 2

    def __len__(self) -> int:
        return max(map(len, self._places)) // self._half * 2 * self._half

    def __iter__(self) -> Iterator[int]:
        """Yield indices; all orders depend on torch's state at the start of the pass, however far loaders look ahead."""
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        drawn = [_shuffled_again(places, generator) for places in self._places]
        for _ in range(len(self) // (2 * self._half)):
            for half in drawn:
                for _ in range(self._half):
                    yield next(half)


def _shuffled_again(places: Sequence[int], generator: torch.Generator) -> Iterator[int]:
    while True:
        for index in torch.randperm(len(places), generator=generator).tolist():
            yield places[index]
