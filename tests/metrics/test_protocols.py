from __future__ import annotations

import time

import numpy as np
import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.metrics import PROTOCOLS, evaluate_llcm, evaluate_market1501, evaluate_regdb, evaluate_sysu_mm01


def trapezoid(hits):
    """The loop of Market-1501's evaluation code over one ranking: areas under the line from point to point."""
    area, old_recall, old_precision, found = 0.0, 0.0, 1.0, 0
    for place, hit in enumerate(hits, start=1):
        found += hit
        recall, precision = found / sum(hits), found / place
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


def naive(distmat, q_pids, g_pids, skip, unique, max_rank):
    """The text of the protocols, one query and one gallery image at a time."""
    cmcs, precisions, areas, inps = [], [], [], []
    for q, pid in enumerate(q_pids):
        order = sorted((g for g in range(len(g_pids)) if not skip(q, g)), key=lambda g: (distmat[q, g], g))
        ranking = [g_pids[g] for g in order]
        if pid not in ranking:
            continue
        places = [place for place, other in enumerate(ranking, start=1) if other == pid]
        precisions.append(sum((n + 1) / place for n, place in enumerate(places)) / len(places))
        areas.append(trapezoid([other == pid for other in ranking]))
        inps.append(len(places) / places[-1])
        if unique:
            ranking = list(dict.fromkeys(ranking))
        first = ranking.index(pid)
        cmcs.append([float(first <= rank) for rank in range(max_rank)])
    return np.mean(cmcs, axis=0), np.mean(precisions), np.mean(areas), np.mean(inps), len(cmcs)


def check(result, expected):
    cmc, mean_ap, mean_area, mean_inp, num_valid = expected
    np.testing.assert_allclose(result.cmc, cmc, rtol=0, atol=1e-12)
    scores = result.mAP, result.mAP_trapezoid, result.mINP
    assert scores == pytest.approx((mean_ap, mean_area, mean_inp), abs=1e-12)
    assert result.num_valid_queries == num_valid


def random_case(seed, levels):
    """Few distance levels make many ties; identities 0 to 14 in queries and 3 to 17 in the gallery, with duplicates."""
    rng = np.random.default_rng(seed)
    distmat = rng.integers(levels, size=(60, 40)) / 8
    if seed % 2:
        distmat = distmat.astype(np.float32)
    q_pids, g_pids = rng.integers(0, 15, size=60), rng.integers(3, 18, size=40)
    return distmat, q_pids, g_pids, rng.choice([2, 5], size=60), rng.choice([0, 1, 3, 4], size=40)


@pytest.mark.parametrize("levels", [1, 3, 30, 10**6])
@pytest.mark.parametrize("seed", range(4))
def test_sysu_equals_the_naive_loop(seed, levels):
    distmat, q_pids, g_pids, q_camids, g_camids = random_case(seed, levels)
    expected = naive(
        distmat, q_pids, g_pids, lambda q, g: q_camids[q] == 2 and g_camids[g] == 1, unique=True, max_rank=20
    )
    assert 0 < expected[4] < 60
    check(evaluate_sysu_mm01(distmat, q_pids, g_pids, q_camids, g_camids), expected)


@pytest.mark.parametrize("levels", [1, 3, 30, 10**6])
@pytest.mark.parametrize("seed", range(4))
def test_regdb_equals_the_naive_loop(seed, levels):
    distmat, q_pids, g_pids, _, _ = random_case(seed, levels)
    expected = naive(distmat, q_pids, g_pids, lambda q, g: False, unique=False, max_rank=50)
    assert 0 < expected[4] < 60
    check(evaluate_regdb(distmat, q_pids, g_pids, max_rank=50), expected)


@pytest.mark.parametrize("levels", [1, 3, 30, 10**6])
@pytest.mark.parametrize("seed", range(4))
def test_market1501_equals_the_naive_loop(seed, levels):
    distmat, q_pids, g_pids, q_camids, g_camids = random_case(seed, levels)
    q_camids = q_camids - 2  # Cameras 0 and 3, which the gallery has as well.
    expected = naive(
        distmat, q_pids, g_pids, lambda q, g: q_pids[q] == g_pids[g] and q_camids[q] == g_camids[g],
        unique=False, max_rank=20,
    )
    assert 0 < expected[4] < 60
    check(evaluate_market1501(distmat, q_pids, g_pids, q_camids, g_camids), expected)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("seed", range(4))
def test_queries_are_counted_without_distances(protocol, seed):
    distmat, q_pids, g_pids, q_camids, g_camids = random_case(seed, 30)
    q_camids = np.random.default_rng(seed).integers(0, 3, size=60)
    count = PROTOCOLS[protocol].count_valid(q_pids, g_pids, q_camids, g_camids)
    result = PROTOCOLS[protocol].evaluate(distmat, q_pids, g_pids, q_camids, g_camids)
    assert count == result.num_valid_queries < 60


def test_equals_the_authors_numbers(golden):
    numbers = golden("protocol")
    distmat, q_pids, g_pids = (numbers[key] for key in ("distmat", "q_pids", "g_pids"))
    sysu = evaluate_sysu_mm01(distmat, q_pids, g_pids, numbers["q_camids"] - 1, numbers["g_camids"] - 1)
    # Their CMC is stored in float32.
    np.testing.assert_allclose(sysu.cmc, numbers["sysu_cmc"], rtol=0, atol=1e-7)
    assert sysu.mAP == pytest.approx(numbers["sysu_mAP"].item(), abs=1e-12)
    regdb = evaluate_regdb(distmat, q_pids, g_pids)
    np.testing.assert_allclose(regdb.cmc, numbers["regdb_cmc"], rtol=0, atol=1e-7)
    assert regdb.mAP == pytest.approx(numbers["regdb_mAP"].item(), abs=1e-12)


@pytest.mark.parametrize("shift", [0, 1])
def test_llcm_equals_the_authors_numbers_in_both_branches(golden, shift):
    numbers = golden("llcm_protocol")
    arguments = [numbers[key] for key in ("distmat", "q_pids", "g_pids")] + [numbers[f"{q}_camids"] - shift for q in "qg"]
    for prefix, result in (("", evaluate_llcm(*arguments)), ("transposed_", PROTOCOLS["llcm_repository"].evaluate(*arguments))):
        np.testing.assert_allclose(result.cmc, numbers[f"{prefix}cmc"], rtol=0, atol=1e-6)
        expected = [numbers[f"{prefix}{name}"].item() for name in ("mAP", "mINP")]
        assert (result.mAP, result.mINP) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_blocks_of_features_score_as_their_distances(name):
    rng = np.random.default_rng(0)
    # Whole numbers: their squared distances are exact, whatever the order of the sums.
    query, gallery = (rng.integers(-3, 4, size=(count, 6)).astype(np.float32) for count in (50, 40))
    distmat = ((query[:, None] - gallery[None]) ** 2).sum(axis=-1)
    labels = rng.integers(0, 9, size=50), rng.integers(0, 9, size=40), rng.integers(0, 6, size=50), rng.integers(0, 6, size=40)
    whole, blocks = PROTOCOLS[name].evaluate(distmat, *labels), PROTOCOLS[name].evaluate_features(query, gallery, *labels)
    np.testing.assert_array_equal(whole.cmc, blocks.cmc)
    assert whole.scores == pytest.approx(blocks.scores, abs=1e-12) and whole.num_valid_queries == blocks.num_valid_queries
    assert whole.num_valid_queries == PROTOCOLS[name].count_valid(*labels)


@pytest.mark.parametrize("seed", range(4))
def test_llcm_equals_the_naive_loop(seed):
    distmat, q_pids, g_pids, q_camids, g_camids = random_case(seed, 30)
    q_camids = q_camids - 2 + 9  # Cameras 1 and 4 by their infrared sensors; the gallery has both, too.
    expected = naive(
        distmat, q_pids, g_pids, lambda q, g: q_pids[q] == g_pids[g] and q_camids[q] - 9 == g_camids[g], unique=True, max_rank=20,
    )
    assert 0 < expected[4] < 60
    check(evaluate_llcm(distmat, q_pids, g_pids, q_camids, g_camids), expected)


def test_mpanets_regdb_counts_an_identity_once_and_keeps_rank_1_and_map():
    distmat, q_pids, g_pids, *_ = random_case(3, 10**6)
    images, identities = (PROTOCOLS[name].evaluate(distmat, q_pids, g_pids, None, None) for name in ("regdb", "regdb_identities"))
    assert identities.cmc[0] == images.cmc[0] and identities.mAP == images.mAP and identities.mINP == images.mINP
    assert (identities.cmc >= images.cmc).all() and identities.cmc[9] > images.cmc[9]


def test_the_protocol_by_trapezoid_calls_its_area_map():
    arguments = random_case(0, 30)
    step, area = (PROTOCOLS[name].evaluate(*arguments) for name in ("market1501", "market1501_trapezoid"))
    assert area.mAP == step.mAP_trapezoid < step.mAP and (area.cmc == step.cmc).all() and area.mINP == step.mINP
    assert area.queries.means()["mAP"] == area.mAP


def test_a_transposed_protocol_names_wrong_labels_as_they_were_given():
    with pytest.raises(InputError, match=r"q_pids has shape \(2,\).*expected \(1,\)"):
        PROTOCOLS["llcm_repository"].evaluate([[0.1, 0.2, 0.3]], [1, 2], [1, 9, 1], [0], [1, 2, 3])


def test_sysu_camera_3_skips_camera_2_whatever_the_identity():
    distmat = [[0.1, 0.2, 0.3]]
    arguments = {"q_pids": [1], "g_pids": [1, 9, 1], "g_camids": [1, 1, 0]}
    outdoor = evaluate_sysu_mm01(distmat, q_camids=[5], **arguments)
    assert outdoor.mAP == pytest.approx((1 + 2 / 3) / 2)
    # Both the hit and the other identity of camera 2 are gone: the image of camera 1 comes first.
    indoor = evaluate_sysu_mm01(distmat, q_camids=[2], **arguments)
    assert (indoor.mAP, indoor.mINP, indoor.cmc[0]) == pytest.approx((1, 1, 1))


def test_sysu_counts_an_identity_once_in_the_cmc_only():
    # Identity 9 takes places 1 to 3; the hit is image 4 and identity 2.
    result = evaluate_sysu_mm01([[1, 2, 3, 4]], [1], [9, 9, 9, 1], [5], [0, 0, 1, 3], max_rank=3)
    np.testing.assert_array_equal(result.cmc, [0, 1, 1])
    assert result.mAP == result.mINP == pytest.approx(1 / 4)


def test_sysu_cmc_is_padded_when_few_identities_are_left():
    result = evaluate_sysu_mm01([[1, 2]], [1], [9, 1], [2], [0, 0])
    np.testing.assert_array_equal(result.cmc, [0] + [1] * 19)


def test_sysu_queries_left_without_their_identity_are_not_counted():
    result = evaluate_sysu_mm01([[1, 2], [1, 2], [1, 2]], [1, 4, 2], [1, 2], [2, 5, 2], [1, 0])
    assert result.num_valid_queries == 1 and result.cmc[0] == 1
    with pytest.raises(InputError, match="no overlap of query and gallery identities is left.*camera"):
        evaluate_sysu_mm01([[1.0, 2.0]], [1], [1, 2], [2], [1, 0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"q_camids": [3, 6]}, "q_camids runs from 3 to 6.*subtract 1"),
        ({"g_camids": [-1, 0]}, "g_camids runs from -1 to 0"),
        ({"g_camids": [0, 1, 3]}, r"g_camids has shape \(3,\).*expected \(2,\)"),
        ({"distmat": np.zeros(2)}, r"distmat has shape \(2,\)"),
        ({"q_pids": [7, 8]}, "no overlap of query and gallery identities"),
        ({"distmat": np.array([[0.0, 1.0], [np.nan, 1.0]])}, r"distmat\[1, 0\] is nan"),
        ({"distmat": np.array([[0.0, 1.0], [1.0, -np.inf]])}, r"distmat\[1, 1\] is -inf"),
    ],
)
def test_bad_sysu_input(changes, message):
    arguments = {
        "distmat": np.zeros((2, 2)), "q_pids": [0, 1], "g_pids": [0, 1], "q_camids": [2, 5], "g_camids": [0, 1],
    }
    with pytest.raises(InputError, match=message):
        evaluate_sysu_mm01(**{**arguments, **changes})


def test_bad_regdb_input():
    with pytest.raises(InputError, match="no overlap of query and gallery identities"):
        evaluate_regdb(np.zeros((2, 2)), [0, 1], [2, 3])
    with pytest.raises(InputError, match=r"distmat\[0, 0\] is nan"):
        evaluate_regdb(np.full((2, 2), np.nan), [0, 1], [0, 1])


def test_real_sizes_take_a_fraction_of_a_second():
    # Loose on purpose, for shared machines: usual are some tens of milliseconds; benchmarks/ranking.py has the ratio.
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(206), 10)
    distmat = rng.random((2060, 2060), dtype=np.float32)
    start = time.perf_counter()
    result = evaluate_regdb(distmat, pids, pids)
    assert time.perf_counter() - start < 3
    assert result.num_valid_queries == 2060
