"""Parting training data: by identity, or by the images of each identity."""
from __future__ import annotations

__all__ = ["relabel", "split_identities", "split_images", "split_images_by_count"]

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from torchreid_nas.data.dataset import Item
from torchreid_nas.data.sampler import group_by_identity
from torchreid_nas.errors import InputError


def split_identities(pids: Iterable[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Part identities at random into those to train on and those held out, both ascending.

    Of n distinct identities floor(fraction * n + 1/2) are held out, but at
    least one, and at least one stays. A fraction of 0 holds out none.

    Raises:
        InputError: ``fraction`` is outside [0, 1), or there are fewer than two
            identities to part.
    """
    pids = sorted(set(pids))
    if fraction == 0:
        return pids, []
    _check_fraction(fraction)
    if len(pids) < 2:
        raise InputError(f"{len(pids)} identities cannot be parted in two; use more training data or hold out none")
    order = np.random.default_rng(seed).permutation(len(pids))
    held_out = {pids[i] for i in order[: _share(len(pids), fraction)]}
    return [pid for pid in pids if pid not in held_out], sorted(held_out)


def split_images(
    items: Sequence[Item], modality_of: Callable[[int], int], fraction: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """Part the images of each identity at random, each modality by itself.

    Of n images floor(fraction * n + 1/2) go to the second part, but at least
    one, and at least one stays. An identity with fewer than two images in a
    modality stays in the first part whole. Items keep their order and labels.

    Raises:
        InputError: ``fraction`` is outside (0, 1).
    """
    _check_fraction(fraction)
    generator = np.random.default_rng(seed)
    second = np.zeros(len(items), dtype=bool)
    for group in group_by_identity(items, modality_of).values():
        if min(map(len, group)) < 2:
            continue
        for positions in group:
            second[generator.permutation(positions)[: _share(len(positions), fraction)]] = True
    return (
        [item for item, is_second in zip(items, second) if not is_second],
        [item for item, is_second in zip(items, second) if is_second],
    )


def split_images_by_count(
    items: Sequence[Item], count: int, overlap: bool, seed: int
) -> tuple[list[Item], list[Item]]:
    """Take ``count`` images of each identity at random for a second part (CDNet's split for its search).

    An identity keeps at least half of its images in the first part, so that
    both parts hold every identity with two images or more. Items keep order
    and labels.

    Args:
        items: 4-tuples.
        count: images per identity of the second part.
        overlap: the first part keeps all images, as in the CDNet authors' code.
        seed: of the choice.

    Raises:
        InputError: ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"search.val_images is {count}, expected at least 1 image per identity")
    generator = np.random.default_rng(seed)
    groups: dict[int, list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault(item[1], []).append(position)
    second = np.zeros(len(items), dtype=bool)
    for positions in groups.values():
        second[generator.permutation(positions)[: min(count, len(positions) // 2)]] = True
    return (
        [item for item, is_second in zip(items, second) if overlap or not is_second],
        [item for item, is_second in zip(items, second) if is_second],
    )


def relabel(items: Iterable[Item], labels: Mapping[int, int]) -> list[Item]:
    """Return the items whose pid is in ``labels``, with the pid that it names."""
    return [(path, labels[pid], camid, dsetid) for path, pid, camid, dsetid in items if pid in labels]


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise InputError(f"the fraction of a split is {fraction}, expected a number between 0 and 1")


def _share(count: int, fraction: float) -> int:
    return min(max(math.floor(fraction * count + 0.5), 1), count - 1)
