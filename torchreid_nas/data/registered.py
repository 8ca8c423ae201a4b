"""What is known of a registered data set before its files are read: protocol, splits, options, modalities."""
from __future__ import annotations

__all__ = ["OPTIONS", "DatasetFacts", "dataset_facts", "registered_dataset"]

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset
from torchreid_nas.data.synthetic import LAYOUTS
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.host import IMAGE_DATASETS
from torchreid_nas.metrics.protocols import Protocol, find_protocol

OPTIONS = {
    "split_id": "data.split_id", "shot": "test.shot", "gallery_draw": "test.gallery_draw", "num_trials": "test.num_trials",
}
"""Options of data sets, and the config keys that set them."""


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What the class of a data set says of it.

    Attributes:
        name: under which the data set is registered.
        protocol: how its queries are scored.
        options: which of :data:`OPTIONS` change what the data set holds or how it is tested.
        num_splits: fixed splits, each of which is trained and tested by itself; 1 for a data set with one.
        draws_gallery: whether its galleries are drawn at random, see ``draw_gallery``.
        modalities: of its cameras.
        stand_in: layout of ``torchreid-nas synthetic`` that stands in for the data set; ``""`` without one.
    """

    name: str
    protocol: Protocol
    options: frozenset[str]
    num_splits: int
    draws_gallery: bool
    modalities: tuple[str, ...]
    stand_in: str


def dataset_facts(name: str) -> DatasetFacts:
    """Return what is known of a data set of torchreid's registry: a class, a ``functools.partial`` of one, or torchreid's own.

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
    while isinstance(cls, functools.partial):
        cls = cls.func

    def say(attribute: str) -> Any:
        return getattr(cls, attribute, getattr(CrossModalityDataset, attribute))

    options = cls.options if hasattr(cls, "options") else _named_options(cls)
    modalities = MODALITIES if say("infrared_camids") else MODALITIES[:1]
    return DatasetFacts(
        name, find_protocol(say("protocol")), frozenset(options), say("num_splits"), say("draws_gallery"), modalities,
        say("stand_in") or (name if name in LAYOUTS else ""),
    )


def registered_dataset(name: str) -> Callable[..., Any]:
    """Return what torchreid's registry holds under a name.

    Raises:
        InputError: there is nothing.
    """
    if name not in IMAGE_DATASETS:
        raise InputError(
            f'there is no image data set "{name}", expected one of {", ".join(IMAGE_DATASETS)}'
            f"{nearest(name, IMAGE_DATASETS)}"
        )
    return IMAGE_DATASETS[name]


def _named_options(dataset: Callable[..., Any]) -> set[str]:
    return set(OPTIONS) & set(inspect.signature(dataset).parameters)
