"""An image data set whose cameras see visible light or infrared."""
from __future__ import annotations

__all__ = ["MODALITIES", "VISIBLE", "INFRARED", "Item", "CrossModalityDataset", "as_cross_modality", "as_rgb",
           "copy_facts", "image_size", "read_image", "read_pixels"]

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torchreid
from PIL import Image

from torchreid_nas.data.channels import FIRST_VISIBLE, INFRARED_STREAM, SECOND_VISIBLE, StreamedCompose
from torchreid_nas.data.items import Item, as_items
from torchreid_nas.data.reading import as_rgb, image_size, read_image, read_pixels
from torchreid_nas.data.seeding import seeded
from torchreid_nas.errors import InputError
from torchreid_nas.metrics.protocols import Protocol, find_protocol

MODALITIES = ("visible", "infrared")
VISIBLE, INFRARED = range(2)


class CrossModalityDataset(torchreid.data.ImageDataset):
    """torchreid's ``ImageDataset`` that also knows the modality of each image.

    Items stay torchreid's 4-tuples (path, pid, camid, dsetid); the camera
    tells the modality. ``dataset[i]`` is torchreid's dict plus ``modality``
    (``VISIBLE`` = 0 or ``INFRARED`` = 1) and ``index`` (position in
    ``self.data``), so both pass through any collate function.

    Args:
        train: (path, identity, camera) or torchreid's 4-tuples, at least one. Identities and cameras are whole numbers;
            NumPy's, and floats without a fraction, become integers.
        query: likewise.
        gallery: likewise.
        infrared_camids: cameras that see infrared; default the class's own.
        gallery_pool: every image that a gallery may be drawn from, where the
            protocol draws galleries at random; default ``gallery``.
        left_out: images of the training part that training with labels leaves
            out, see :meth:`whole_training`.
        **kwargs: torchreid's ``transform``, ``k_tfm``, ``mode``,
            ``combineall``, ``verbose``; others are ignored, as in torchreid.

    A class says by its attributes how its data are tested and what they depend
    on; :func:`torchreid_nas.data.dataset_facts` reads them, and nothing else in
    this package asks for the name of a data set.

    Attributes:
        protocol: how queries are scored: a :class:`torchreid_nas.metrics.Protocol`, or the name of a registered one.
        setting: what results say of the test. ``{name}`` is the name in torchreid's registry, ``{protocol}`` the
            protocol's label; other fields are attributes of the data set.
        options: options of :data:`torchreid_nas.data.registered.OPTIONS` that change the data or their test.
        num_splits: fixed splits, each of which is trained and tested by itself.
        draws_gallery: True for a class with ``draw_gallery(trial, **galleries)``, where ``galleries`` are those of a protocol.
        stand_in: layout of ``torchreid-nas synthetic`` that stands in for the data; ``""`` without one.
        needed_parts: parts that must hold images.
        labelled: whether the identities are known; without them the images serve domain adaptation alone.
        remarks: sentences on the data, which the summary of a data manager ends with.
        val_pids: training labels of an official validation part, or empty.

    Raises:
        InputError: a part is empty, or the identity or the camera of an image is no whole number.

    Example:
        >>> class Campus(CrossModalityDataset):
        ...     infrared_camids = frozenset({1})
        ...     setting = "{protocol} on {name}"
        >>> visible, infrared = [("a.jpg", 0, 0)], [("b.jpg", 0, 1)]
        >>> campus = Campus(visible + infrared, infrared, visible, verbose=False)
        >>> campus.direction, campus.describe("campus")
        ('infrared → visible', 'Market-1501 on campus')
    """

    train: list[Item]
    query: list[Item]
    gallery: list[Item]
    num_train_pids: int
    infrared_camids: frozenset[int] = frozenset()
    val_pids: frozenset[int] = frozenset()
    draws_gallery: bool = False
    protocol: str | Protocol = "market1501"
    setting: str = "{name}"
    options: Sequence[str] = ()
    num_splits: int = 1
    stand_in: str = ""
    needed_parts: Sequence[str] = ("train", "query", "gallery")
    labelled: bool = True
    remarks: Sequence[str] = ()

    def __init__(
        self,
        train: Sequence[tuple],
        query: Sequence[tuple],
        gallery: Sequence[tuple],
        infrared_camids: Iterable[int] | None = None,
        gallery_pool: Sequence[tuple] | None = None,
        left_out: Sequence[tuple] = (),
        **kwargs: Any,
    ):
        for part, items in (("train", train), ("query", query), ("gallery", gallery)):
            if not items and part in self.needed_parts:
                raise InputError(
                    f"{type(self).__name__} has no {part} images; check the lists of the data set and the split"
                )
        if infrared_camids is not None:
            self.infrared_camids = frozenset(infrared_camids)
        self.left_out: list[Item] = as_items("left-out", left_out)
        # combine_all, which torchreid's constructor calls, reads the pool.
        self.gallery_pool: list[Item] = as_items("gallery", gallery if gallery_pool is None else gallery_pool)
        parts = {part: as_items(part, items) for part, items in (("train", train), ("query", query), ("gallery", gallery))}
        some = next(filter(None, parts.values()), [])
        # torchreid looks at the first image of every part: a part without images gets those of another for a moment.
        super().__init__(*(items or some for items in parts.values()), **kwargs)
        for part in (part for part, items in parts.items() if not items):
            setattr(self, part, [])
            if part == getattr(self, "mode", "train"):
                self.data: list[Item] = []
            if part == "train":
                self.num_train_pids = self.num_train_cams = 0

    def modality_of(self, camid: int) -> int:
        """Return ``VISIBLE`` or ``INFRARED`` for a camera of this data set."""
        return INFRARED if camid in self.infrared_camids else VISIBLE

    def count_cameras(self, items: Sequence[tuple]) -> int | None:
        """Return the number of cameras of some images; None where the cameras are not known."""
        return len({item[2] for item in items})

    @property
    def direction(self) -> str:
        """What is retrieved from what: ``"visible → infrared"``; ``""`` for images of one modality."""
        modalities = [sorted({self.modality_of(item[2]) for item in items}) for items in (self.query, self.gallery_pool)]
        if modalities == [[VISIBLE], [VISIBLE]]:
            return ""
        return " → ".join(" and ".join(MODALITIES[modality] for modality in part) for part in modalities)

    def describe(self, name: str, protocol: Protocol | None = None) -> str:
        """Return :attr:`setting` for the data set under its name in torchreid's registry.

        Args:
            name: of the data set.
            protocol: another one than the data set's own. Where the setting names no protocol, its label is returned.

        Raises:
            InputError: the setting names an attribute that the data set lacks.
        """
        own = find_protocol(self.protocol)
        if protocol is not None and protocol.name != own.name and "{protocol}" not in self.setting:
            return protocol.label
        return _filled(self, name=name, protocol=(protocol or own).label)

    def adapted(self, protocol: Protocol) -> Protocol:
        """Return a protocol as it applies to this data set; some depend on the direction of retrieval."""
        return protocol

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return torchreid's item with ``modality`` and ``index``.

        Raises:
            InputError: the image is missing or broken.
        """
        with seeded(index):
            index = range(len(self.data))[index]
            return self.item_of(index, read_image(self.data[index][0]))

    def item_of(self, index: int, image: Image.Image) -> dict[str, Any]:
        """Return the item at ``index`` (from 0) with ``image`` in the place of its own, before the transform."""
        path, pid, camid, dsetid = self.data[index]
        if self.transform is not None:
            streamed = isinstance(self.transform, StreamedCompose)
            transform = self.transform.of(self.stream_of(index)) if streamed else self.transform
            image = self._transform_image(transform, self.k_tfm, image)
        return {
            "img": image,
            "pid": pid,
            "camid": camid,
            "impath": path,
            "dsetid": dsetid,
            "modality": self.modality_of(camid),
            "index": index,
        }

    def stream_of(self, index: int) -> int:
        """Return which stream of a training batch the item at ``index`` belongs to; see :mod:`torchreid_nas.data.channels`."""
        return INFRARED_STREAM if self.modality_of(self.data[index][2]) == INFRARED else FIRST_VISIBLE

    def combine_all(self) -> None:
        """Add all test images to the training part under new labels (``combineall=True``).

        Unlike torchreid's this takes the whole gallery pool, and query
        identities that no gallery holds (SYSU-MM01's indoor search has some).
        """
        if self._train_only:
            return
        tests = [item for item in [*self.query, *self.gallery_pool] if item[1] not in self._junk_pids]
        labels = {pid: self.num_train_pids + i for i, pid in enumerate(sorted({item[1] for item in tests}))}
        self.train = [*self.train, *((path, labels[pid], camid, dsetid) for path, pid, camid, dsetid in tests)]
        self.num_train_pids = self.get_num_pids(self.train)
        self.num_train_cams = self.get_num_cams(self.train)

    def whole_training(self) -> CrossModalityDataset:
        """Return a data set that trains on the images left out as well: without labels they are images like the others.

        Of torchreid's these are the images of MSMT17's ``list_val``, of the same
        persons as those of ``list_train``.
        """
        if not self.left_out:
            return self
        return CrossModalityDataset(
            [*self.train, *self.left_out], self.query, self.gallery, infrared_camids=self.infrared_camids,
            gallery_pool=self.gallery_pool, verbose=False,
        )

    def view(self, items: Sequence[Item], transform: Callable | None = None) -> CrossModalityDataset:
        """Return a data set over just ``items``, with these cameras' modalities.

        Raises:
            InputError: there are no items.
        """
        return CrossModalityDataset(
            items, items, items, infrared_camids=self.infrared_camids, transform=transform, verbose=False
        )

    def doubled(self) -> CrossModalityDataset:
        """Return a data set of N more items, copies of these: item N + i is item i in the second visible stream."""
        return _Doubled(
            [*self.data, *self.data], self.data, self.data, infrared_camids=self.infrared_camids, transform=self.transform,
            verbose=False,
        )

    def __add__(self, other: torchreid.data.ImageDataset) -> CrossModalityDataset:
        """Return a data set whose training part is this one's followed by the other's.

        As in torchreid the other's identities and data set numbers are shifted
        and query and gallery stay this one's. Cameras are shifted beyond the
        largest number of this one (torchreid's shift by their count collides
        when numbers have gaps). The cameras of a plain ``ImageDataset`` count
        as visible.

        Raises:
            InputError: the other is no image data set.
        """
        other = as_cross_modality(other)
        camids = {item[2] for item in [*self.train, *self.query, *self.gallery_pool]}
        shift = 1 + max(camids | self.infrared_camids)
        train = list(self.train)
        for path, pid, camid, dsetid in other.train:
            train.append((path, pid + self.num_train_pids, camid + shift, dsetid + self.num_datasets))
        return _Sum(
            train,
            self.query,
            self.gallery,
            infrared_camids=self.infrared_camids | {camid + shift for camid in other.infrared_camids},
            gallery_pool=self.gallery_pool,
            transform=self.transform,
            k_tfm=self.k_tfm,
            mode=self.mode,
            verbose=False,
        )

    def __radd__(self, other: Any) -> CrossModalityDataset:
        """Support ``sum(datasets)``, and a plain ``ImageDataset`` on the left.

        Python asks a *subclass* of ``ImageDataset`` on the left (Market1501,
        say) first, and that returns a plain data set: put this one first, or
        use :func:`as_cross_modality`.
        """
        if isinstance(other, int) and other == 0:
            return self
        return as_cross_modality(other) + self


class _Sum(CrossModalityDataset):
    """Data sets to train on together; nobody tests on what the first one has for a test."""

    needed_parts = ("train",)


class _Doubled(CrossModalityDataset):
    """The items of a data set twice; see :meth:`CrossModalityDataset.doubled`."""

    def stream_of(self, index: int) -> int:
        """Return the stream of an item, the second visible one for the second copy of a visible image."""
        stream = super().stream_of(index)
        return SECOND_VISIBLE if stream == FIRST_VISIBLE and index >= len(self.data) // 2 else stream


def as_cross_modality(dataset: torchreid.data.ImageDataset) -> CrossModalityDataset:
    """Return ``dataset`` itself, or a plain image data set as one whose cameras are all visible.

    Raises:
        InputError: it is no image data set.
    """
    if isinstance(dataset, CrossModalityDataset):
        return dataset
    if not isinstance(dataset, torchreid.data.ImageDataset):
        raise InputError(
            f"a {type(dataset).__name__} cannot join a cross-modality data set; use torchreid image data sets"
        )
    other = CrossModalityDataset(
        dataset.train,
        dataset.query,
        dataset.gallery,
        infrared_camids=getattr(dataset, "infrared_camids", None),
        left_out=_left_out(dataset),
        transform=dataset.transform,
        k_tfm=dataset.k_tfm,
        mode=dataset.mode,
        verbose=False,
    )
    copy_facts(dataset, other)
    return other


def copy_facts(source: torchreid.data.ImageDataset, other: CrossModalityDataset) -> None:
    """Have a data set tested as another says that it is: give it those of the other's attributes that it has."""
    if hasattr(source, "protocol"):
        other.protocol = source.protocol
    if hasattr(source, "setting"):
        # What the other data set knows of itself is filled in; its name is not known here.
        other.setting = _filled(source, name="{name}", protocol="{protocol}")


def _filled(dataset: torchreid.data.ImageDataset, **words: str) -> str:
    try:
        return dataset.setting.format_map({**vars(dataset), **words})
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f'the setting of {type(dataset).__name__} is "{dataset.setting}", expected {{name}}, {{protocol}} and names of '
            f"attributes of the data set in braces ({type(error).__name__}: {error})"
        ) from error


def _left_out(dataset: torchreid.data.ImageDataset) -> Sequence[tuple]:
    """Return the images of MSMT17's ``list_val``, which torchreid gives with ``combineall`` alone, together with the tests."""
    if isinstance(dataset, torchreid.data.datasets.image.MSMT17) and not dataset.combineall:
        return dataset.process_dir(dataset.train_dir, dataset.list_val_path)
    return ()
