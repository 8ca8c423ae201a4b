"""Thresholds by false-accept rate, against loops over all pairs."""
import itertools
import os

import numpy as np
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.features import ROC, compute_roc, matching, pairwise_distances, threshold
from torchreid_nas.features.matching import unit


def people(make_set, count=6, images=4, noise=0.6, seed=0, prefix="p", cameras=None):
    """Images around one random direction per person."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 6, generator=torch.Generator().manual_seed(99))
    features = centres.repeat_interleave(images, 0) + noise * torch.randn(count * images, 6, generator=generator)
    camids = None if cameras is None else np.arange(count * images) % cameras
    return make_set(features, np.arange(count).repeat(images), camids, prefix)


def naive_pairs(left, right, metric="euclidean"):
    """(distance, same person) of all pairs that count."""
    within = right is None
    right = left if within else right
    distances = pairwise_distances(unit(left.features), unit(right.features), metric)
    pairs = []
    for i, j in itertools.product(range(len(left)), range(len(right))):
        if within and i >= j or not left.labels[i] or not right.labels[j]:
            continue
        if not within and left.paths[i] == right.paths[j]:
            continue
        same = left.labels[i] == right.labels[j]
        if same and left.camids[i] == right.camids[j] != -1:
            continue
        pairs.append((distances[i, j].item(), same))
    return pairs


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("cameras", [None, 2])
@pytest.mark.parametrize("far", [0.01, 0.1, 0.37])
def test_rates_are_those_of_a_loop_over_pairs(metric, two_sets, cameras, far, make_set):
    left = people(make_set, cameras=cameras)
    right = people(make_set, seed=1, prefix="g", cameras=cameras) if two_sets else None
    roc = compute_roc(left, right, metric)
    pairs = naive_pairs(left, right, metric)
    genuine, impostor = ([distance for distance, same in pairs if same == kind] for kind in (True, False))
    assert (roc.num_genuine, roc.num_impostor) == (len(genuine), len(impostor))
    point = roc.at_far(far)
    assert point.false_accepts == sum(distance <= point.distance for distance in impostor)
    assert point.far == point.false_accepts / len(impostor) <= far
    assert point.tar == sum(distance <= point.distance for distance in genuine) / len(genuine)
    # The loosest one: a hair more and the rate is exceeded.
    assert sum(distance <= point.distance + 2**-18 for distance in impostor) > far * len(impostor)


def test_an_image_in_both_folders_is_no_pair_with_itself(make_set):
    once = compute_roc(people(make_set))
    both = compute_roc(people(make_set), people(make_set))
    assert (both.num_genuine, both.num_impostor) == (2 * once.num_genuine, 2 * once.num_impostor)


def test_an_image_is_itself_by_a_relative_path_too(make_set):
    relative, absolute = people(make_set), people(make_set, prefix=os.path.join(os.getcwd(), "p"))
    assert compute_roc(relative, absolute).num_genuine == 2 * compute_roc(relative).num_genuine


def test_counts_are_exact_at_grid_points_and_rounded_down_between_them(make_set, monkeypatch):
    step = 2**-19
    impostor = step * torch.tensor([0, 1, 1.5, 2, 2.5], dtype=torch.float64)
    monkeypatch.setattr(threshold, "pairwise_distances", lambda *of: torch.cat([impostor, torch.ones(1)])[None])
    roc = compute_roc(make_set(torch.ones(1, 2), [1], prefix="q"), make_set(torch.ones(6, 2), [2] * 5 + [1], prefix="g"))
    for place in range(5):
        assert roc.at_distance(place * step).false_accepts == (impostor <= place * step).sum()
    assert roc.at_distance(1.9 * step).false_accepts == 2
    assert (roc.at_far(0.4).distance, roc.at_far(0.4).false_accepts) == (step, 2)
    with pytest.raises(InputError, match="no threshold reaches far=0.2"):
        roc.at_far(0.2)  # equal images come out at up to a step, so that the first is no threshold


def test_a_rate_that_is_a_whole_number_of_pairs_allows_them_all():
    counts = np.zeros(2**20 + 1, dtype=np.int64)
    counts[1000:1100] = 1
    # 0.29 · 100 is 28.999… in floating point.
    assert ROC(counts, counts, "euclidean").at_far(0.29).false_accepts == 29


def test_the_curve_rises_to_one_and_the_equal_error_lies_on_it(make_set):
    roc = compute_roc(people(make_set))
    distances, far, tar = roc.curve()
    for values in (distances, far, tar):
        assert (np.diff(values) >= 0).all()
    assert far[-1] == tar[-1] == 1
    rate, distance = roc.equal_error()
    point = roc.at_distance(distance)
    assert rate == pytest.approx(max(point.far, 1 - point.tar)) and 0 < rate < 0.5


def test_blocks_change_nothing(make_set, monkeypatch):
    left = people(make_set)
    whole = compute_roc(left)
    monkeypatch.setattr(matching, "BLOCK_ENTRIES", 50)
    blocked = compute_roc(left)
    np.testing.assert_array_equal(whole.genuine, blocked.genuine)
    np.testing.assert_array_equal(whole.impostor, blocked.impostor)


def test_separable_people_are_all_accepted_at_no_false_accept(make_set):
    roc = compute_roc(people(make_set, noise=0.01))
    point = roc.at_far(0.001)
    assert point.tar == 1 and point.false_accepts == 0


def test_features_without_information_accept_as_many_of_both(make_set):
    features = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    point = compute_roc(make_set(features, np.arange(200) // 4)).at_far(0.2)
    assert point.tar == pytest.approx(0.2, abs=0.08)


def test_pairs_of_one_camera_do_not_count_as_the_same_person(make_set):
    features = torch.eye(4)
    labels = [1, 1, 2, 2]
    assert compute_roc(make_set(features, labels, [0, 1, 0, 1])).num_genuine == 2
    assert compute_roc(make_set(features, labels, [0, 0, 0, 1])).num_genuine == 1
    assert compute_roc(make_set(features, labels)).num_genuine == 2
    assert compute_roc(make_set(features, labels, [0, 0, 0, 1])).num_impostor == 4


def test_images_without_identity_do_not_count(make_set):
    roc = compute_roc(make_set(torch.eye(5), [1, 1, 2, "", ""]))
    assert (roc.num_genuine, roc.num_impostor) == (1, 2)


@pytest.mark.parametrize("labels, camids, words", [
    ([1, 1, 1, 1], None, "of different persons"),
    ([1, 2, 3, 4], None, "of the same person"),
    ([1, 1, 2, 2], [0, 0, 0, 0], "of the same person"),
    (["", "", "", ""], None, "0 × 0 labelled images of 0 identities"),
])
def test_too_few_labels(labels, camids, words, make_set):
    with pytest.raises(InputError, match=f"{words}.*sub-folder"):
        compute_roc(make_set(torch.eye(4), labels, camids))


@pytest.mark.parametrize("far", [0, 1, -0.1, 2])
def test_a_rate_out_of_range(far, make_set):
    with pytest.raises(InputError, match="between 0 and 1"):
        compute_roc(people(make_set)).at_far(far)


def test_persons_that_are_copies_of_one_another_have_no_threshold(make_set):
    features = torch.ones(6, 3)
    with pytest.raises(InputError, match="12 of 12 pairs of different persons have distance 0"):
        compute_roc(make_set(features, [1, 1, 2, 2, 3, 3])).at_far(0.01)
