from __future__ import annotations

import numpy as np
import pytest
import torch
import torchreid
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.metrics import k_reciprocal, re_rank_features, re_ranking, reranking


def features(seed=0, num_queries=40, num_gallery=130, dim=16, identities=15):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(identities, dim, generator=generator)
    return [
        F.normalize(centres[torch.randint(identities, (n,), generator=generator)] + torch.randn(n, dim, generator=generator))
        for n in (num_queries, num_gallery)
    ]


def matrices(query, gallery, metric="euclidean"):
    pairs = (query, gallery), (query, query), (gallery, gallery)
    return [torchreid.metrics.compute_distance_matrix(a, b, metric).numpy() for a, b in pairs]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k1, k2, lambda_value", [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 1.0), (1, 1, 0.5), (3, 9, 0.3)])
def test_equals_torchreid(metric, k1, k2, lambda_value):
    query, gallery = features()
    distances = matrices(query, gallery, metric)
    expected = torchreid.utils.re_ranking(*distances, k1, k2, lambda_value)
    ours = re_ranking(*distances, k1, k2, lambda_value)
    assert ours.dtype == np.float32 and ours.shape == (40, 130)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    from_features = re_rank_features(query, gallery, k1, k2, lambda_value, metric)
    np.testing.assert_allclose(from_features, expected, rtol=0, atol=2e-6)


def test_cosine_distances_do_not_depend_on_the_lengths_of_features():
    query, gallery = (part * torch.linspace(0.1, 7, len(part))[:, None] for part in features())
    expected = re_ranking(*matrices(query, gallery, "cosine"))
    np.testing.assert_allclose(re_rank_features(query, gallery, metric="cosine"), expected, rtol=0, atol=2e-6)


def test_fewer_images_than_neighbours():
    query, gallery = features(num_queries=3, num_gallery=9)
    expected = torchreid.utils.re_ranking(*matrices(query, gallery))
    np.testing.assert_allclose(re_rank_features(query, gallery), expected, rtol=0, atol=2e-6)


def test_blocks_and_given_arrays_do_not_change_the_result(monkeypatch, tmp_path):
    query, gallery = features(1)
    distances = matrices(query, gallery)
    expected = re_ranking(*distances)
    monkeypatch.setattr(reranking, "BLOCK_BYTES", 2**14)
    monkeypatch.setattr(k_reciprocal, "_PIECE_ELEMENTS", 2**14)
    np.testing.assert_allclose(re_ranking(*distances), expected, rtol=0, atol=1e-6)
    out = np.memmap(tmp_path / "distances", np.float32, "w+", shape=expected.shape)
    assert re_rank_features(query, gallery, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("error")
def test_arrays_and_read_only_memory_maps(tmp_path):
    query, gallery = features()
    np.save(tmp_path / "gallery.npy", gallery.numpy())
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    np.testing.assert_array_equal(re_rank_features(query.numpy(), mapped), re_rank_features(query, gallery))


def test_inputs_stay_as_they_were():
    query, gallery = features()
    given = [query, gallery, *map(torch.from_numpy, matrices(query, gallery))]
    copies = [part.clone() for part in given]
    re_rank_features(query, gallery)
    re_ranking(*given[2:])
    for before, after in zip(copies, given):
        assert torch.equal(before, after)


def test_does_not_depend_on_the_order_of_images():
    query, gallery = features(2)
    rows, columns = torch.randperm(len(query)), torch.randperm(len(gallery))
    expected = re_rank_features(query, gallery)[rows][:, columns]
    np.testing.assert_allclose(re_rank_features(query[rows], gallery[columns]), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    query, gallery = (part.to(dtype) for part in features())
    expected = re_rank_features(query.float(), gallery.float())
    np.testing.assert_allclose(re_rank_features(query, gallery), expected, rtol=0, atol=2e-6)


def test_more_duplicates_than_neighbours():
    # Images beyond the first k1 + 1 are in nobody's list, not even in their own.
    query, gallery = torch.ones(3, 4), torch.ones(30, 4)
    distances = re_rank_features(query, gallery, k1=5, k2=1)
    assert np.isfinite(distances).all() and distances.min() > -1e-6 and distances.max() < 1 + 1e-6


def test_nearest_keeps_the_order_of_ties():
    block = torch.randint(4, (50, 300), generator=torch.Generator().manual_seed(0)).float()
    expected = block.argsort(dim=1, stable=True)[:, :80]
    smallest, columns = k_reciprocal.nearest(block, 80)
    np.testing.assert_array_equal(columns, expected)
    np.testing.assert_array_equal(smallest, block.gather(1, expected))


@pytest.mark.gpu
def test_on_a_gpu():
    query, gallery = features()
    expected = re_rank_features(query, gallery)
    np.testing.assert_allclose(re_rank_features(query.cuda(), gallery.cuda()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"gallery": torch.ones(5, 3)}, r"shapes \(3, 2\) and \(5, 3\)"),
        ({"query": torch.full((3, 2), torch.nan)}, "not all finite.*diverged"),
        # Finite, but its distance to the others squared is beyond float32.
        ({"query": torch.full((3, 2), 1e12)}, "not a finite number.*diverged"),
        ({"k1": 0}, "k1 is 0.*at least 1"),
        ({"k2": 0}, "k2 is 0.*at least 1"),
        ({"metric": "manhattan"}, '"manhattan".*"euclidean" or "cosine"'),
        ({"out": np.empty((3, 4), np.float32)}, r"out has shape \(3, 4\).*expected \(3, 5\)"),
    ],
)
def test_bad_features(changes, message):
    arguments = {"query": torch.ones(3, 2), "gallery": torch.ones(5, 2), "k1": 2, "k2": 2, **changes}
    with pytest.raises(InputError, match=message):
        re_rank_features(**arguments)


def test_bad_matrices():
    with pytest.raises(InputError, match=r"shapes \(2, 3\), \(2, 2\), \(2, 2\)"):
        re_ranking(np.ones((2, 3)), np.ones((2, 2)), np.ones((2, 2)))
    for bad in (np.nan, -np.inf):
        with pytest.raises(InputError, match="not a finite number"):
            re_ranking(np.full((2, 3), bad), np.ones((2, 2)), np.ones((3, 3)), k1=2, k2=2)
    with pytest.raises(InputError, match="the distances are an array of dtype <U3"):
        re_ranking(np.full((2, 3), "far"), np.ones((2, 2)), np.ones((3, 3)))


def test_matrices_of_other_types_and_orders():
    def parts(dtype):
        # Whole numbers up to 255, which every type holds exactly.
        generator = np.random.default_rng(0)
        between, queries, gallery = (generator.integers(0, 256, shape) for shape in ((4, 9), (4, 4), (9, 9)))
        return [torch.from_numpy(part).to(dtype) for part in (between, queries + queries.T >> 1, gallery + gallery.T >> 1)]

    expected = re_ranking(*parts(torch.float32), k1=4, k2=2)
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int64):
        np.testing.assert_array_equal(re_ranking(*parts(dtype), k1=4, k2=2), expected)
    # The same distances, read backwards through negative strides.
    turned = [np.ascontiguousarray(part.numpy()[::-1, ::-1])[::-1, ::-1] for part in parts(torch.float32)]
    np.testing.assert_array_equal(re_ranking(*turned, k1=4, k2=2), expected)
