"""What refuses data that nothing can be learned from, or on which a test would end in no figures."""
from __future__ import annotations

__all__ = ["check_scorable", "check_source", "testable"]

from collections.abc import Mapping, Sequence

from torchreid_nas.data.dataset import CrossModalityDataset, Item
from torchreid_nas.errors import InputError
from torchreid_nas.metrics.protocols import Protocol


def check_source(name: str, dataset: CrossModalityDataset) -> None:
    """Refuse a source that has nothing to learn from.

    Raises:
        InputError: the data set has no labels, or no training images.
    """
    if not dataset.labelled:
        raise InputError(
            f'the images of "{name}" have no labels, expected labelled ones to train on; say with data.layout where the persons '
            "stand, or name the images in data.targets of ECN alone"
        )
    if not dataset.train:
        raise InputError(f'"{name}" has no images to train on; name it in data.targets alone, or mend its split')


def testable(targets: Sequence[str], datasets: Mapping[str, CrossModalityDataset]) -> list[str]:
    """Return the targets that can be tested: those without labels serve domain adaptation alone.

    Raises:
        InputError: no target has labels, or a target lacks queries or a gallery.
    """
    without = [name for name in targets if not datasets[name].labelled]
    if without and len(without) == len(targets):
        raise InputError(
            f'the images of "{without[0]}" have no labels, so that nothing can be tested on them; name a labelled data set in '
            "data.targets besides, or leave test out of --stages"
        )
    kept = [name for name in targets if name not in without]
    for name in kept:
        for part, items in (("query", datasets[name].query), ("gallery", datasets[name].gallery_pool)):
            if not items:
                raise InputError(
                    f'"{name}" has no {part} images to test on; mend its split and its roles, or name another target'
                )
    return kept


def check_scorable(name: str, query: Sequence[Item], gallery: Sequence[Item], protocol: Protocol) -> None:
    """Refuse a target whose test would end in no figures, before a training takes its time.

    Args:
        name: of the target.
        query: its queries.
        gallery: the images that the protocol puts in a gallery.
        protocol: how the target is scored.

    Raises:
        InputError: no query can be scored.
    """
    _, q_pids, q_camids, *_ = zip(*query)
    _, g_pids, g_camids, *_ = zip(*gallery)
    if not protocol.count_valid(q_pids, g_pids, q_camids, g_camids):
        captures = ", in another file or sequence," if protocol.name == "captures" else ", seen by another camera,"
        apart = captures if protocol.skips_own_camera else ""
        raise InputError(
            f'none of the {len(q_pids):,} queries of "{name}" can be scored: no gallery image shows the same person{apart} '
            "under this protocol; give a test set whose queries and gallery share persons"
        )
