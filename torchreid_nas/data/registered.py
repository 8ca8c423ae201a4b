"""What is known of a registered data set before its files are read: protocol, splits, options, modalities."""
from __future__ import annotations

__all__ = [
    "ALL_PROTOCOLS", "CLASS_DATASETS", "OPTIONS", "DatasetFacts", "check_protocols", "dataset_facts", "registered_dataset",
    "test_targets",
]

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset
from torchreid_nas.data.own.dataset import OwnDataset
from torchreid_nas.data.own.names import is_own
from torchreid_nas.data.synthetic import LAYOUTS
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.host import IMAGE_DATASETS
from torchreid_nas.metrics.protocols import PROTOCOLS, Protocol, find_protocol

CLASS_DATASETS = ("cifar10", "cifar100", "imagenet")
"""Data sets of classes, for task classification; see :mod:`torchreid_nas.data.classes`."""

OPTIONS = {
    "split_id": "data.split_id", "layout": "data.layout", "split_seed": "data.split_seed", "train_share": "data.train_share",
    "shot": "test.shot", "gallery_draw": "test.gallery_draw", "num_trials": "test.num_trials",
}
"""Options of data sets, and the config keys that set them."""

ALL_PROTOCOLS = "all"
"""The value of ``test.protocol`` that asks for every protocol of a target."""


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What the class of a data set says of it.

    Attributes:
        name: under which the data set is registered.
        protocol: how its queries are scored.
        protocols: all protocols that the data set can be tested under.
        options: which of :data:`OPTIONS` change what the data set holds or how it is tested.
        num_splits: fixed splits, each of which is trained and tested by itself; 1 for a data set with one.
        draws_gallery: whether its galleries are drawn at random, see ``draw_gallery``.
        modalities: of its cameras.
        stand_in: layout of ``torchreid-nas synthetic`` that stands in for the data set; ``""`` without one.
    """

    name: str
    protocol: Protocol
    protocols: tuple[Protocol, ...]
    options: frozenset[str]
    num_splits: int
    draws_gallery: bool
    modalities: tuple[str, ...]
    stand_in: str

    def tested_under(self, names: Sequence[str], own: Protocol, gallery_draw: str = "random") -> list[Protocol]:
        """Return the protocols that ``test.protocol`` asks for: those of the names that are the data set's, or its own.

        Args:
            names: of protocols; :data:`ALL_PROTOCOLS` stands for all of the data set whose galleries are drawn as
                ``gallery_draw`` says, so that the figures of one table compare with those of one table elsewhere.
            own: the protocol without any name.
            gallery_draw: ``"random"`` or ``"official"``.

        Example:
            >>> import torchreid_nas
            >>> facts = dataset_facts("regdb")
            >>> [protocol.name for protocol in facts.tested_under(["all"], facts.protocol)]
            ['regdb', 'regdb_identities']
            >>> [protocol.name for protocol in facts.tested_under(["llcm"], facts.protocol)]
            ['regdb']
        """
        if ALL_PROTOCOLS in names:
            every = [protocol for protocol in self.protocols if protocol.galleries] or list(self.protocols)
            return [one for one in every if one.galleries.get("gallery_draw", gallery_draw) == gallery_draw]
        known = {protocol.name: protocol for protocol in self.protocols} | {self.protocol.name: own}
        return [known[name] for name in dict.fromkeys(names) if name in known] or [own]


def dataset_facts(name: str) -> DatasetFacts:
    """Return what is known of a data set of torchreid's registry: a class, a ``functools.partial`` of one, or torchreid's own.

    Of own images (``folder:PATH``, ``csv:FILE``) protocol and modalities follow from the files: the loaded data set says them.

    The attributes of :class:`CrossModalityDataset` say it. For a class without
    them, such as torchreid's own, the defaults of that class hold, and the
    options are those that its constructor names.

    Raises:
        InputError: there is no data set, or no protocol, of that name.

    Example:
        >>> import torchreid_nas
        >>> facts = dataset_facts("regdb_ir2vis")
        >>> facts.protocol.name, sorted(facts.options), facts.num_splits, facts.modalities
        ('regdb', ['split_id'], 10, ('visible', 'infrared'))
        >>> dataset_facts("market1501").protocol.label
        'Market-1501'
    """
    cls = registered_dataset(name)
    fixed: dict[str, Any] = {}
    while isinstance(cls, functools.partial):
        fixed = {**cls.keywords, **fixed}
        cls = cls.func

    def say(attribute: str) -> Any:
        return getattr(cls, attribute, getattr(CrossModalityDataset, attribute))

    options = cls.options if hasattr(cls, "options") else _named_options(cls)
    modalities = MODALITIES if say("infrared_camids") else MODALITIES[:1]
    own = find_protocol(say("protocol"))
    # A data set that is registered for indoor search holds no images of other cameras.
    protocols = [
        protocol for protocol in PROTOCOLS.values()
        if protocol.family == own.family and all(fixed.get(key, value) == value for key, value in protocol.galleries.items())
    ]
    return DatasetFacts(
        name, own, tuple(protocols) or (own,), frozenset(options), say("num_splits"), say("draws_gallery"), modalities,
        say("stand_in") or (name if name in LAYOUTS else ""),
    )


def check_protocols(names: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse a ``test.protocol`` under which none of the targets can be tested.

    Raises:
        InputError: naming the first such name, or a target that does not exist.
    """
    known = list(dict.fromkeys(protocol.name for target in targets for protocol in dataset_facts(target).protocols))
    for name in names:
        if name != ALL_PROTOCOLS and name not in known:
            raise InputError(
                f'test.protocol names "{name}", and none of data.targets ({", ".join(targets)}) can be tested so, expected '
                f'"{ALL_PROTOCOLS}" or some of {", ".join(known)}{nearest(name, known)}'
            )


def test_targets(names: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Return the targets of a test but for those whose asked protocols another target with more protocols covers.

    Args:
        names: of protocols.
        targets: of the config.

    Example:
        >>> import torchreid_nas
        >>> test_targets(["all"], ["sysu_mm01", "sysu_mm01_indoor"])
        ['sysu_mm01']
        >>> test_targets([], ["sysu_mm01", "sysu_mm01_indoor"])
        ['sysu_mm01', 'sysu_mm01_indoor']
    """
    known = {target: {protocol.name for protocol in dataset_facts(target).protocols} for target in targets}
    asked = {target: own if ALL_PROTOCOLS in names else own & set(names) for target, own in known.items()}
    return [
        one for one in targets
        if not asked[one] or not any(known[one] < known[other] and asked[one] <= asked[other] for other in targets)
    ]


def registered_dataset(name: str) -> Callable[..., Any]:
    """Return what torchreid's registry holds under a name, or for a name of own images what reads these.

    Raises:
        InputError: there is nothing.
    """
    if is_own(name):
        return functools.partial(OwnDataset, name)
    if name not in IMAGE_DATASETS:
        if name in CLASS_DATASETS:
            raise InputError(
                f'"{name}" is a data set of classes, and task is reid; name a data set of persons, or set task classification'
            )
        raise InputError(
            f'there is no image data set "{name}", expected one of {", ".join(IMAGE_DATASETS)}, or own images as folder:PATH or '
            f"csv:FILE{nearest(name, IMAGE_DATASETS)}"
        )
    return IMAGE_DATASETS[name]


def _named_options(dataset: Callable[..., Any]) -> set[str]:
    return set(OPTIONS) & set(inspect.signature(dataset).parameters)
