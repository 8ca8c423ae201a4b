"""The split advisor: its null is made of identities, and a planted gap is found."""
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.search.advisor import IdentityStatistics, frechet_distance, permutation_test

CHANNELS, IMAGES = 8, 6


def groups(identities, generator, gap=0.0, paired=True):
    """Counts, sums and squares of identities whose images are alike within an identity: one value per image and channel."""
    persons = torch.randn(identities, CHANNELS, generator=generator)
    values = persons[None, :, None] + 0.3 * torch.randn(2, identities, IMAGES, CHANNELS, generator=generator)
    values[1] += gap
    present = torch.ones(2, identities)
    if not paired:
        present[0, : identities // 2] = present[1, identities // 2:] = 0
    return IMAGES * present, values.sum(2) * present[..., None], values.square().sum(2) * present[..., None], values, present


def test_two_halves_of_different_people_alarm_by_images_not_by_identities():
    by_identity = by_image = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        counts, sums, squares, values, present = groups(20, generator, paired=False)
        by_identity += permutation_test(counts, sums, squares, 99, generator)[2] <= 0.05
        images = values[present.bool()].flatten(0, 1)
        sides = present.bool().nonzero()[:, 0].repeat_interleave(IMAGES)
        # Each image an identity of its own: what a permutation of images exchanges.
        own = torch.nn.functional.one_hot(sides, 2).T.float()
        by_image += permutation_test(own, images * own[..., None], images.square() * own[..., None], 99, generator)[2] <= 0.05
    # 5 % of 40 are 2; more than 7 come once in a thousand times.
    assert by_image == 40 and by_identity <= 7, (by_image, by_identity)


def test_a_planted_gap_between_the_modalities_is_found():
    generator = torch.Generator().manual_seed(0)
    counts, sums, squares, *_ = groups(20, generator, gap=1.0)
    distance, null, p = permutation_test(counts, sums, squares, 99, generator)
    assert distance > null and p <= 0.01


def test_one_modality_is_refused():
    counts, sums, squares, *_ = groups(4, torch.Generator().manual_seed(0))
    counts[1] = 0
    with pytest.raises(InputError, match="images are of one"):
        permutation_test(counts, sums, squares, 9, torch.Generator())


def test_statistics_of_a_hook_are_those_of_the_slots_input():
    layer, images = torch.nn.BatchNorm2d(3), torch.randn(8, 3, 2, 2, dtype=torch.float64).float()
    pids = torch.tensor([5, 5, 9, 9] * 2)
    statistics = IdentityStatistics(layer, pids.tolist())
    statistics.expect(pids)
    layer(images)
    statistics.remove()
    x = images.double().unflatten(0, (2, 2, 2))
    torch.testing.assert_close(statistics.sums, x.sum((2, 4, 5)))
    torch.testing.assert_close(statistics.squares, x.square().sum((2, 4, 5)))
    assert (statistics.counts == 8).all() and not layer._forward_pre_hooks
    visible, infrared = images.double().chunk(2)
    means = [part.mean((0, 2, 3)) for part in (visible, infrared)]
    deviations = [part.std((0, 2, 3), correction=0) for part in (visible, infrared)]
    pooled = images.double().var((0, 2, 3), correction=0)
    expected = ((means[0] - means[1]).square() + (deviations[0] - deviations[1]).square()) / pooled
    found = frechet_distance(statistics.counts.sum(1), statistics.sums.sum(1), statistics.squares.sum(1))
    torch.testing.assert_close(found, expected.mean())
