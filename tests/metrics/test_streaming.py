from __future__ import annotations

import numpy as np
import pytest
import torch
import torchreid

from torchreid_nas.engine.distances import distances
from torchreid_nas.errors import InputError
from torchreid_nas.metrics import PROTOCOLS, rank_features, rank_queries, re_rank_features, streaming
from torchreid_nas.metrics.inputs import as_features


def case(seed=0, whole_numbers=False, num_queries=60, num_gallery=150):
    rng = np.random.default_rng(seed)
    if whole_numbers:  # Exact in any order of summation, with many ties.
        query, gallery = (rng.integers(3, size=(n, 4)).astype(np.float32) for n in (num_queries, num_gallery))
    else:
        query, gallery = (rng.standard_normal((n, 16), dtype=np.float32) for n in (num_queries, num_gallery))
    pids = rng.integers(0, 15, size=num_queries), rng.integers(3, 18, size=num_gallery)
    cameras = rng.integers(3, size=num_queries), rng.integers(3, size=num_gallery)
    return torch.from_numpy(query), torch.from_numpy(gallery), *pids, cameras


def same(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a.cmc, b.cmc, rtol=0, atol=tolerance)
    scores = b.mAP, b.mAP_trapezoid, b.mINP
    assert (a.mAP, a.mAP_trapezoid, a.mINP) == pytest.approx(scores, abs=tolerance)
    assert a.num_valid_queries == b.num_valid_queries


@pytest.fixture(params=[None, 7], ids=["one block", "blocks"])
def in_blocks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(streaming, "_QUERIES", 11)
        monkeypatch.setattr(streaming, "BLOCK_BYTES", request.param * 4 * 4 * 11)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("whole_numbers", [False, True])
@pytest.mark.parametrize("use_cameras", [False, True])
def test_equals_the_ranking_of_the_matrix(in_blocks, seed, whole_numbers, use_cameras):
    query, gallery, q_pids, g_pids, cameras = case(seed, whole_numbers)
    cameras = cameras if use_cameras else None
    distmat = torchreid.metrics.compute_distance_matrix(query, gallery)
    expected = rank_queries(distmat, q_pids, g_pids, cameras=cameras)
    assert expected.num_valid_queries < 60
    same(rank_features(query, gallery, q_pids, g_pids, cameras=cameras), expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("whole_numbers", [False, True])
@pytest.mark.parametrize("use_cameras", [False, True])
@pytest.mark.parametrize("unique_identities", [False, True])
def test_exclusions_and_identities_as_in_the_matrix(in_blocks, seed, whole_numbers, use_cameras, unique_identities):
    query, gallery, q_pids, g_pids, cameras = case(seed, whole_numbers)
    hidden = (cameras[0] == 1)[:, None] & (cameras[1] == 2)
    cameras = cameras if use_cameras else None
    distmat = torchreid.metrics.compute_distance_matrix(query, gallery)
    rule = {"cameras": cameras, "unique_identities": unique_identities}
    expected = rank_queries(distmat, q_pids, g_pids, excluded=lambda span: hidden[span], **rule)
    found = rank_features(query, gallery, q_pids, g_pids, excluded=lambda rows, columns: hidden[rows][:, columns], **rule)
    same(found, expected)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_a_protocol_gives_one_result_from_both(in_blocks, protocol):
    query, gallery, q_pids, g_pids, cameras = case()
    for metric in ("euclidean", "cosine"):
        labels = q_pids, g_pids, *cameras
        distmat = torchreid.metrics.compute_distance_matrix(query, gallery, metric)
        found = PROTOCOLS[protocol].evaluate_features(query, gallery, *labels, metric=metric)
        same(found, PROTOCOLS[protocol].evaluate(distmat, *labels))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_metric_and_dtypes(in_blocks, dtype):
    query, gallery, q_pids, g_pids, _ = case()
    query, gallery = query.to(dtype), gallery.to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    distmat = torchreid.metrics.compute_distance_matrix(query.to(wide), gallery.to(wide), "cosine")
    same(rank_features(query, gallery, q_pids, g_pids, metric="cosine"), rank_queries(distmat, q_pids, g_pids))


def test_features_that_are_all_the_same_keep_the_order_of_the_gallery(in_blocks):
    query, gallery, q_pids, g_pids, _ = case()
    query, gallery = (torch.full_like(part, 0.1) for part in (query, gallery))
    expected = rank_queries(np.zeros((60, 150)), q_pids, g_pids)
    same(rank_features(query, gallery, q_pids, g_pids), expected)


def test_a_pair_has_one_distance_whatever_product_it_is_read_from(monkeypatch):
    query, gallery, q_pids, g_pids, _ = case()
    expected = rank_features(query, gallery, q_pids, g_pids)
    product, products = torchreid.metrics.compute_distance_matrix, []

    def drifting(*arguments):
        products.append(1)
        return product(*arguments) - 1e-5 * len(products)

    monkeypatch.setattr(torchreid.metrics, "compute_distance_matrix", drifting)
    same(rank_features(query, gallery, q_pids, g_pids), expected)
    assert len(products) > 1


def test_nearly_parallel_features_keep_the_digits_of_their_distances():
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(100), 4)
    persons = rng.standard_normal((100, 256))
    features = 1000 * rng.standard_normal(256) + persons[pids] + 4 * rng.standard_normal((400, 256))
    exact = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert (exact[:50] @ exact[50:].T).mean() > 0.999
    expected = rank_queries(((exact[::4, None] - exact) ** 2).sum(axis=2), pids[::4], pids)
    single = torch.from_numpy(exact.astype(np.float32))
    plain = rank_queries(torchreid.metrics.compute_distance_matrix(single[::4], single), pids[::4], pids)
    assert abs(plain.mAP - expected.mAP) > 1e-3
    for found in (
        rank_features(single[::4], single, pids[::4], pids),
        rank_queries(distances(single[::4], single, "euclidean", normalize=False), pids[::4], pids),
    ):
        assert found.mAP == pytest.approx(expected.mAP, abs=1e-4)
    re_ranked = [re_rank_features(part[::4], part) for part in (single, torch.from_numpy(exact))]
    assert np.abs(re_ranked[0] - re_ranked[1]).max() < 1e-3


def test_other_features_are_left_as_they_are():
    query, gallery, *_ = case()
    found = distances(query, gallery, "euclidean", normalize=True)
    unit = [torch.nn.functional.normalize(part) for part in (query, gallery)]
    assert torch.equal(found, torchreid.metrics.compute_distance_matrix(*unit))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["r", "r+", None])
def test_arrays_and_a_gallery_on_disk(tmp_path, mode):
    query, gallery, q_pids, g_pids, _ = case()
    np.save(tmp_path / "gallery.npy", gallery.numpy())
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode=mode)
    expected = rank_features(query, gallery, q_pids, g_pids)
    same(rank_features(query.numpy(), mapped, q_pids, g_pids), expected)
    same(rank_features(query, torch.from_numpy(gallery.numpy()), q_pids, g_pids), expected)


def test_arrays_are_not_copied(tmp_path):
    np.save(tmp_path / "gallery.npy", np.ones((4, 3), dtype=np.float32))
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    assert as_features(mapped, mapped)[1].data_ptr() == mapped.ctypes.data


@pytest.mark.gpu
def test_on_a_gpu():
    query, gallery, q_pids, g_pids, cameras = case(whole_numbers=True)
    expected = rank_features(query, gallery, q_pids, g_pids, cameras=cameras)
    same(rank_features(query.cuda(), gallery, q_pids, g_pids, cameras=cameras), expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"gallery": torch.ones(4, 3)}, r"shapes \(2, 2\) and \(4, 3\)"),
        ({"gallery": torch.full((4, 2), torch.nan)}, "not finite"),
        ({"gallery": torch.tensor([[1.0, 1.0], [1.0, torch.nan], [1.0, 1.0], [1.0, 1.0]])}, "not finite"),
        ({"gallery": np.ones((4, 3))}, r"shapes \(2, 2\) and \(4, 3\)"),
        ({"gallery": np.full((4, 2), "far")}, "gallery features are an array of dtype <U3"),
        ({"q_pids": [0]}, r"q_pids has shape \(1,\).*2 query features"),
        ({"q_pids": [8, 9]}, "no overlap of query and gallery identities"),
        ({"cameras": ([0, 0], [0, 0, 0, 0])}, "no overlap of query and gallery identities is left"),
        ({"max_rank": True}, "max_rank is True"),
        ({"metric": "manhattan"}, '"manhattan".*"euclidean" or "cosine"'),
    ],
)
def test_bad_input(changes, message):
    arguments = {"query": torch.ones(2, 2), "gallery": torch.ones(4, 2), "q_pids": [0, 1], "g_pids": [0, 1, 2, 2]}
    with pytest.raises(InputError, match=message):
        rank_features(**{**arguments, **changes})
