from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from torchreid_nas.data import CrossModalityIdentitySampler
from torchreid_nas.errors import InputError, InputWarning


def modality_of(camid):
    return int(camid in (2, 5))


def make_items(visible, infrared):
    """Items with the given number of images per identity, in shuffled order, over several cameras."""
    items = [
        (f"{pid}-{camera}-{number}", pid, camera, 0)
        for counts, cameras in ((visible, (0, 1, 3)), (infrared, (2, 5)))
        for pid, count in enumerate(counts)
        for number in range(count)
        for camera in [cameras[number % len(cameras)]]
    ]
    random.Random(0).shuffle(items)
    return items


def test_labels_that_disagree_between_the_modalities_are_said_to():
    visible = [(f"v{pid}", pid, 0, 0) for pid in range(10)]
    infrared = [(f"i{pid}", 100 + pid, 2, 0) for pid in range(10)]
    with pytest.raises(InputError, match="10 have visible images only and 10 infrared.*must be the same in both modalities"):
        CrossModalityIdentitySampler(visible + infrared, modality_of, 8, 2)


@pytest.mark.parametrize("num_pids, num_instances", [(3, 4), (5, 1), (1, 2)])
def test_batches_are_visible_then_infrared_of_the_same_identities(num_pids, num_instances):
    items = make_items([7, 4, 9, 5, 6], [4, 8, 5, 6, 30])
    size = 2 * num_pids * num_instances
    sampler = CrossModalityIdentitySampler(items, modality_of, size, num_instances, num_batches=50)
    indices = list(sampler)
    assert len(indices) == len(sampler) == 50 * size
    for start in range(0, len(indices), size):
        batch = [items[index] for index in indices[start:start + size]]
        visible, infrared = batch[: size // 2], batch[size // 2:]
        assert {modality_of(item[2]) for item in visible} == {0}
        assert {modality_of(item[2]) for item in infrared} == {1}
        pids = [item[1] for item in visible]
        assert pids == [item[1] for item in infrared]
        assert pids == [pid for pid in pids[::num_instances] for _ in range(num_instances)]
        assert len(set(pids)) == num_pids
        # Everyone has at least K images here, so none comes twice.
        assert len({item[0] for item in batch}) == size


def test_every_identity_and_image_gets_its_share():
    items = make_items([6] * 4, [8] * 4)
    sampler = CrossModalityIdentitySampler(items, modality_of, 8, 2, num_batches=3000)
    counts = np.bincount(list(sampler), minlength=len(items))
    # Each batch holds an image with probability 2 identities x 2 images over 4 identities x its modality's images.
    chance = np.array([4 / (4 * (8 if modality_of(item[2]) else 6)) for item in items])
    deviations = (counts - 3000 * chance) / np.sqrt(3000 * chance * (1 - chance))
    assert np.abs(deviations).max() < 4.5 and (deviations**2).mean() < 1.6


def test_identities_with_few_images_resample():
    items = make_items([1, 2, 9], [9, 3, 1])
    sampler = CrossModalityIdentitySampler(items, modality_of, 24, 4, num_batches=30)
    drawn = {items[index][0] for index in sampler}
    assert drawn == {item[0] for item in items}


def test_the_papers_number_of_batches():
    # SYSU-MM01 with P = 16, K = 4: 348 iterations; RegDB: 33 (facts of the authors' code).
    sysu = make_items([56] * 394 + [22258 - 56 * 394], [30] * 394 + [11909 - 30 * 394])
    regdb = make_items([10] * 206, [10] * 206)
    # One more even where the images fill whole batches.
    whole = make_items([8] * 16, [4] * 16)
    for items, batches in ((sysu, 348), (regdb, 33), (whole, 3)):
        sampler = CrossModalityIdentitySampler(items, modality_of, 128)
        assert sampler.num_batches == batches and len(sampler) == batches * 128


def test_order_depends_on_seed_and_epoch_alone():
    items = make_items([5] * 6, [5] * 6)

    def order(seed, epoch):
        sampler = CrossModalityIdentitySampler(items, modality_of, 8, 2, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    expected = order(3, 7)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    sampler = CrossModalityIdentitySampler(items, modality_of, 8, 2, seed=3)
    for epoch in range(7):
        sampler.set_epoch(epoch)
        list(sampler)
    sampler.set_epoch(7)
    assert list(sampler) == expected
    assert list(sampler) == order(3, 8), "an engine that does not call set_epoch must not see the same epoch again"
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_identities_that_lack_a_modality_are_reported_and_left_out():
    items = make_items([4, 0, 4, 4, 4], [4, 4, 4, 0, 4])
    with pytest.warns(InputWarning, match="2 of 5 identities lack.*: labels 1, 3$"):
        sampler = CrossModalityIdentitySampler(items, modality_of, 12, 2)
    assert sampler.left_out == (1, 3) and sampler.pids == (0, 2, 4)
    assert {items[index][1] for index in sampler} == {0, 2, 4}
    with pytest.raises(InputError, match="needs 4 identities .train.batch_size 16.* but 3 of 5 .*lower.*or raise"):
        CrossModalityIdentitySampler(items, modality_of, 16, 2)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"batch_size": 12}, r"batch size 12 .*\(sampler.num_instances\); use a multiple of 8"),
        ({"batch_size": 0}, "batch size 0"),
        ({"num_instances": 0}, "0 images per identity"),
        ({"num_batches": 0}, "batches per epoch is 0"),
        ({"seed": -1}, "seed of the sampler is -1"),
    ],
)
def test_numbers_out_of_range(options, complaint):
    items = make_items([4] * 4, [4] * 4)
    with pytest.raises(InputError, match=complaint):
        CrossModalityIdentitySampler(items, modality_of, **{"batch_size": 16, "num_instances": 4, **options})


def test_works_with_the_stock_loader():
    items = make_items([5] * 6, [5] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = CrossModalityIdentitySampler(items, modality_of, 16)
    loader = DataLoader([item[1] for item in items], batch_size=16, sampler=sampler, drop_last=True)
    batches = list(loader)
    assert len(batches) == len(loader) == sampler.num_batches == 30 // 8 + 1
    assert all(torch.equal(batch[:8], batch[8:]) for batch in batches)
