from __future__ import annotations

from collections import Counter

import pytest

from torchreid_nas.data import split_identities, split_images
from torchreid_nas.data.splits import relabel, split_images_by_count
from torchreid_nas.errors import InputError


def camera_is_odd(camid):
    return camid % 2


@pytest.mark.parametrize(
    "count, fraction, expected", [(206, 0.25, 52), (10, 0.25, 3), (9, 0.25, 2), (10, 0.01, 1), (3, 0.99, 2), (10, 0, 0)]
)
def test_share_of_identities(count, fraction, expected):
    pids = [7 * i for i in range(count)]
    kept, held_out = split_identities(pids * 2, fraction, seed=0)
    assert len(held_out) == expected and sorted(kept + held_out) == pids
    assert kept == sorted(kept) and held_out == sorted(held_out)


def test_identities_are_chosen_by_the_seed():
    chosen = [tuple(split_identities(range(40), 0.25, seed)[1]) for seed in range(20)]
    assert tuple(split_identities(reversed(range(40)), 0.25, 3)[1]) == chosen[3]
    assert len(set(chosen)) == 20 and len(set().union(*chosen)) == 40


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5])
def test_fractions_out_of_range(fraction):
    with pytest.raises(InputError, match=f"fraction of a split is {fraction}"):
        split_identities(range(4), fraction, 0)
    with pytest.raises(InputError, match=f"fraction of a split is {fraction}"):
        split_images([], camera_is_odd, fraction, 0)


def test_one_identity_cannot_be_parted():
    with pytest.raises(InputError, match="1 identities cannot be parted"):
        split_identities([5], 0.5, 0)


def test_images_are_parted_within_each_identity_and_modality():
    counts = {0: (8, 4), 1: (2, 2), 2: (1, 9), 3: (5, 0), 4: (3, 40)}
    items = [
        (f"{pid}-{modality}-{number}", pid, 2 * (number % 2) + modality, 0)
        for number in range(40)
        for pid, sizes in counts.items()
        for modality in range(2)
        if number < sizes[modality]
    ]
    first, second = split_images(items, camera_is_odd, 0.25, seed=0)
    assert sorted(first + second) == sorted(items)
    assert first == [item for item in items if item in set(first)]
    found = Counter((item[1], item[2] % 2) for item in second)
    assert found == {(0, 0): 2, (0, 1): 1, (1, 0): 1, (1, 1): 1, (4, 0): 1, (4, 1): 10}
    assert split_images(items, camera_is_odd, 0.25, 0) == (first, second)
    assert split_images(items, camera_is_odd, 0.25, 1)[1] != second


def test_a_number_of_images_of_each_identity_leaves_it_at_least_half():
    sizes = {0: 10, 1: 5, 2: 2, 3: 1}
    items = [(f"{pid}-{number}", pid, 0, 0) for number in range(10) for pid, size in sizes.items() if number < size]
    first, second = split_images_by_count(items, 3, overlap=False, seed=0)
    assert sorted(first + second) == sorted(items) and first == [item for item in items if item in set(first)]
    assert Counter(item[1] for item in second) == {0: 3, 1: 2, 2: 1}
    assert split_images_by_count(items, 3, overlap=True, seed=0) == (items, second)
    assert split_images_by_count(items, 3, overlap=False, seed=1)[1] != second
    with pytest.raises(InputError, match="search.val_images is 0"):
        split_images_by_count(items, 0, overlap=False, seed=0)


def test_relabel_keeps_only_the_named():
    items = [("a", 3, 0, 0), ("b", 5, 1, 0), ("c", 4, 1, 2)]
    assert relabel(items, {3: 1, 4: 0}) == [("a", 1, 0, 0), ("c", 0, 1, 2)]
