from __future__ import annotations

import numpy as np
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.metrics import RankingResult, average_results, rank_queries, ranking


def case(seed=0, num_queries=30, num_gallery=50, num_pids=8):
    rng = np.random.default_rng(seed)
    return (
        rng.random((num_queries, num_gallery)),
        rng.integers(num_pids, size=num_queries),
        rng.integers(num_pids, size=num_gallery),
    )


def same(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a.cmc, b.cmc, rtol=0, atol=tolerance)
    scores = b.mAP, b.mAP_trapezoid, b.mINP
    assert (a.mAP, a.mAP_trapezoid, a.mINP) == pytest.approx(scores, abs=tolerance)
    assert a.num_valid_queries == b.num_valid_queries


def test_worked_example():
    # Positives at places 1, 3 of query 0 and 2, 4 of query 1.
    distmat = [[0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.4, 0.3]]
    result = rank_queries(distmat, [5, 5], [5, 6, 5, 6], max_rank=3)
    np.testing.assert_allclose(result.cmc, [0.5, 1, 1])
    assert result.mAP == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 4) / 2) / 2)
    # From precision 1 at recall 0 over 1 to (1/2 →) 2/3, and from 0 to 1/2 over (1/3 →) 2/4.
    areas = ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2, ((0 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2
    assert result.mAP_trapezoid == pytest.approx(sum(areas) / 2)
    assert result.mINP == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert result.num_valid_queries == 2
    assert {type(value) for value in (result.mAP, result.mAP_trapezoid, result.mINP)} == {float}
    assert type(result.num_valid_queries) is int
    assert result.cmc.dtype == np.float64 and not result.cmc.flags.writeable


def test_ties_keep_the_order_of_the_gallery():
    pids = [6, 5, 6, 5]
    result = rank_queries(np.zeros((1, 4)), [5], pids, max_rank=4)
    np.testing.assert_array_equal(result.cmc, [0, 1, 1, 1])
    assert result.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    # On identities, 6 is seen first and once; a closer image of another identity comes before both.
    unique = rank_queries([[0, 0, 0, 0, -1]], [5], pids + [9], max_rank=3, unique_identities=True)
    np.testing.assert_array_equal(unique.cmc, [0, 0, 1])


def test_perfect_and_worst_ranking():
    pids = np.repeat(np.arange(4), 5)
    positive = pids[:, None] == pids
    best = rank_queries(1.0 - positive, pids, pids)
    assert (best.cmc[0], best.mAP, best.mAP_trapezoid, best.mINP) == pytest.approx((1, 1, 1, 1))
    worst = rank_queries(positive.astype(float), pids, pids)
    assert worst.cmc[14] == 0 and worst.cmc[15] == 1
    assert worst.mINP == pytest.approx(5 / 20)
    # Places 16 to 20: each hit's area is between its precision and the one before it.
    assert worst.mAP_trapezoid == pytest.approx(np.mean([(n / (15 + n) + (n + 1) / (16 + n)) / 2 for n in range(5)]))


def test_the_trapezoid_never_exceeds_the_steps():
    for seed in range(20):
        result = rank_queries(*case(seed, num_queries=1, num_gallery=12, num_pids=3))
        assert 0 < result.mAP_trapezoid <= result.mAP <= 1
    # They agree where all hits come first, and one hit alone counts half, but at the first place.
    alone = [rank_queries([[1.0, 2.0, 3.0]], [0], pids) for pids in ([0, 1, 1], [1, 0, 1], [1, 1, 0])]
    assert [one.mAP for one in alone] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [one.mAP_trapezoid for one in alone] == pytest.approx([1, 1 / 4, 1 / 6])


def test_depends_on_the_order_of_distances_only():
    distmat, q_pids, g_pids = case()
    expected = rank_queries(distmat, q_pids, g_pids)
    same(rank_queries(np.exp(3 * distmat), q_pids, g_pids), expected)
    columns = np.random.default_rng(1).permutation(len(g_pids))
    same(rank_queries(distmat[:, columns], q_pids, g_pids[columns]), expected)


@pytest.mark.parametrize("unique", [False, True])
def test_blocks_do_not_change_the_result(monkeypatch, unique):
    distmat, q_pids, g_pids = case()
    distmat = distmat.round(1)
    whole = rank_queries(distmat, q_pids, g_pids, unique_identities=unique)
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 7 * 4 * distmat.shape[1] * 8)
    same(rank_queries(distmat, q_pids, g_pids, unique_identities=unique), whole)


def test_excluded_sees_each_query_once(monkeypatch):
    distmat, q_pids, g_pids = case()
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 7 * 4 * distmat.shape[1] * 8)
    mask = np.random.default_rng(1).random(distmat.shape) < 0.3
    rows = []

    def excluded(span):
        rows.extend(range(span.start, span.stop))
        return mask[span]

    result = rank_queries(distmat, q_pids, g_pids, excluded=excluded)
    assert rows == list(range(30))
    # Not in the gallery and infinitely far away, with all positives before, is the same for AP.
    per_query = [
        rank_queries(distmat[q:q + 1, ~mask[q]], q_pids[q:q + 1], g_pids[~mask[q]]) for q in range(30)
    ]
    for score in ("mAP", "mAP_trapezoid", "mINP"):
        assert getattr(result, score) == pytest.approx(np.mean([getattr(one, score) for one in per_query]), abs=1e-12)
    np.testing.assert_allclose(result.cmc, np.mean([one.cmc for one in per_query], axis=0), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_and_torch(dtype):
    distmat, q_pids, g_pids = case()
    distmat = (distmat * 100).round()
    expected = rank_queries(distmat, q_pids, g_pids)
    if isinstance(dtype, torch.dtype):
        given = torch.from_numpy(distmat).to(dtype).requires_grad_()
        same(rank_queries(given, torch.from_numpy(q_pids), torch.from_numpy(g_pids)), expected)
    else:
        given = distmat.astype(dtype)
        same(rank_queries(given, q_pids, g_pids), expected)


@pytest.fixture
def torch_warns_each_time():
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.filterwarnings("error")
def test_any_memory_layout_and_no_warning_of_a_slow_path(torch_warns_each_time):
    distmat, q_pids, g_pids = case()
    expected = rank_queries(distmat, q_pids, g_pids, unique_identities=True)
    same(rank_queries(np.asfortranarray(distmat), q_pids, g_pids, unique_identities=True), expected)
    same(rank_queries(torch.from_numpy(distmat.T.copy()).T, q_pids, g_pids, unique_identities=True), expected)


@pytest.mark.filterwarnings("error")
def test_read_only_and_reversed_arrays_of_any_byte_order():
    distmat, q_pids, g_pids = case()
    expected = rank_queries(distmat, q_pids, g_pids)
    same(rank_queries(distmat[:, ::-1], q_pids, g_pids[::-1]), expected)
    same(rank_queries(distmat.astype(">f8"), q_pids, g_pids), expected)
    distmat.flags.writeable = False
    same(rank_queries(distmat, q_pids, g_pids), expected)


@pytest.mark.parametrize("levels", [3, 10**6])
@pytest.mark.parametrize("unique", [False, True])
def test_cameras_are_the_mask_of_own_identity_and_camera(levels, unique):
    distmat, q_pids, g_pids = case()
    distmat = (distmat * levels).round()
    rng = np.random.default_rng(1)
    cameras = rng.integers(3, size=30), rng.integers(3, size=50)
    masks = (q_pids[:, None] == g_pids) & (cameras[0][:, None] == cameras[1]), rng.random(distmat.shape) < 0.2
    for more in (None, masks[1]):
        mask = masks[0] if more is None else masks[0] | more
        expected = rank_queries(distmat, q_pids, g_pids, excluded=mask.__getitem__, unique_identities=unique)
        given = None if more is None else more.__getitem__
        same(
            rank_queries(distmat, q_pids, g_pids, excluded=given, cameras=cameras, unique_identities=unique), expected
        )


@pytest.mark.gpu
@pytest.mark.parametrize("levels", [3, 10**6])
def test_on_a_gpu(levels):
    distmat, q_pids, g_pids = case()
    distmat = torch.from_numpy((distmat * levels).round())
    cameras = q_pids % 3, g_pids % 2
    for options in ({"cameras": cameras}, {"unique_identities": True}):
        expected = rank_queries(distmat, q_pids, g_pids, **options)
        same(rank_queries(distmat.cuda(), q_pids, g_pids, **options), expected)


def test_inputs_stay_as_they_were():
    distmat, q_pids, g_pids = case()
    copies = distmat.copy(), q_pids.copy(), g_pids.copy()
    rank_queries(distmat, q_pids, g_pids, excluded=lambda span: g_pids[None] == 0)
    for before, after in zip(copies, (distmat, q_pids, g_pids)):
        np.testing.assert_array_equal(before, after)


def test_a_gallery_smaller_than_max_rank_repeats_the_last_value():
    result = rank_queries([[1.0, 2.0], [1.0, 2.0]], [0, 1], [0, 1], max_rank=5)
    np.testing.assert_array_equal(result.cmc, [0.5, 1, 1, 1, 1])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"distmat": np.zeros(4)}, r"distmat has shape \(4,\)"),
        ({"distmat": np.zeros((0, 3))}, "non-empty"),
        ({"distmat": np.zeros((2, 3), dtype=complex)}, "complex128"),
        ({"distmat": np.array([[0, 1, 2], [0, 1, np.nan]])}, r"distmat\[1, 2\] is nan"),
        ({"distmat": np.array([[0, np.inf, 2], [0, 1, 2]])}, r"distmat\[0, 1\] is inf"),
        ({"distmat": np.array([[0, 1, 2], [-np.inf, 1, 2]])}, r"distmat\[1, 0\] is -inf"),
        ({"q_pids": [0, 1, 2]}, r"q_pids has shape \(3,\).*expected \(2,\)"),
        ({"g_pids": [0.0, 1.0, 2.0]}, "g_pids.*float64.*integers"),
        ({"max_rank": 0}, "max_rank is 0"),
        ({"q_pids": [7, 8]}, r"no overlap of query and gallery identities.*\(7, 8\).*\(0, 1, 2\).*test split"),
        ({"excluded": lambda span: np.ones((1, 3), dtype=bool)}, "no overlap of query and gallery identities is left"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"distmat": np.zeros((2, 3)), "q_pids": [0, 1], "g_pids": [0, 1, 2], **changes}
    with pytest.raises(InputError, match=message):
        rank_queries(**arguments)


def test_a_late_block_names_its_own_row(monkeypatch):
    distmat, q_pids, g_pids = case()
    distmat[17, 3] = np.nan
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 7 * 4 * distmat.shape[1] * 8)
    with pytest.raises(InputError, match=r"distmat\[17, 3\]"):
        rank_queries(distmat, q_pids, g_pids)


def test_average():
    results = [
        RankingResult(np.array([0.2, 0.4]), {"mAP": 0.3, "mAP_trapezoid": 0.2, "mINP": 0.1}, 100),
        RankingResult(np.array([0.6, 0.8]), {"mAP": 0.5, "mAP_trapezoid": 0.48, "mINP": 0.3}, 103),
    ]
    mean, std = average_results(results)
    np.testing.assert_allclose(mean.cmc, [0.4, 0.6])
    scores = mean.mAP, mean.mAP_trapezoid, mean.mINP, mean.num_valid_queries
    assert scores == pytest.approx((0.4, 0.34, 0.2, 102))
    np.testing.assert_allclose(std["cmc"], [0.2, 0.2])
    assert (std["mAP"], std["mAP_trapezoid"], std["mINP"]) == pytest.approx((0.1, 0.14, 0.1))
    assert average_results(results[:1])[1]["mAP"] == 0


def test_bad_average():
    with pytest.raises(InputError, match="no results"):
        average_results([])
    with pytest.raises(InputError, match=r"lengths \[1, 2\].*max_rank"):
        average_results([RankingResult(np.ones(n), {"mAP": 1.0}, 1) for n in (1, 2)])
