from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
import torchreid

from torchreid_nas.errors import InputError
from torchreid_nas.metrics import evaluate_rank, use_fast_ranking


def case(seed=0, num_queries=40, num_gallery=90, num_pids=7):
    rng = np.random.default_rng(seed)
    return (
        rng.random((num_queries, num_gallery), dtype=np.float32),
        *(rng.integers(num_pids, size=size) for size in (num_queries, num_gallery)),
        *(rng.integers(3, size=size) for size in (num_queries, num_gallery)),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_rank", [1, 20, 50])
def test_equals_torchreid(seed, max_rank):
    arguments = case(seed)
    cmc, mean_ap = torchreid.metrics.evaluate_rank(*arguments, max_rank=max_rank, use_cython=False)
    ours, our_ap = evaluate_rank(*arguments, max_rank=max_rank)
    assert ours.dtype == np.float32 and ours.shape == (max_rank,)
    np.testing.assert_allclose(ours, cmc, rtol=0, atol=1e-6)
    assert our_ap == pytest.approx(mean_ap, abs=1e-6)


def test_takes_the_place_of_torchreids_and_gives_it_back():
    before = torchreid.metrics.evaluate_rank
    expected = before(*case(), use_cython=False)
    engine = inspect.getmodule(torchreid.engine.Engine)
    handle = use_fast_ranking()
    assert torchreid.metrics.evaluate_rank is not before
    assert engine.metrics.evaluate_rank is torchreid.metrics.evaluate_rank
    # The module that defines it may call it by its name.
    assert inspect.getmodule(before).evaluate_rank is torchreid.metrics.evaluate_rank
    cmc, mean_ap = torchreid.metrics.evaluate_rank(*case(), use_cython=False)
    np.testing.assert_allclose(cmc, expected[0], rtol=0, atol=1e-6)
    assert mean_ap == pytest.approx(expected[1], abs=1e-6)
    with use_fast_ranking():
        assert torchreid.metrics.evaluate_rank.original is before
    assert torchreid.metrics.evaluate_rank is not before
    handle.undo()
    handle.undo()
    assert torchreid.metrics.evaluate_rank is before


def test_a_block_ends_it_after_an_error_too():
    before = torchreid.metrics.evaluate_rank
    with pytest.raises(InputError, match="no overlap"), use_fast_ranking():
        torchreid.metrics.evaluate_rank(np.zeros((1, 2)), [0], [1, 2], [0], [0, 0])
    assert torchreid.metrics.evaluate_rank is before


def test_cuhk03_stays_torchreids(monkeypatch):
    calls = []
    monkeypatch.setattr(torchreid.metrics, "evaluate_rank", lambda *arguments: calls.append(arguments) or "theirs")
    with use_fast_ranking():
        assert torchreid.metrics.evaluate_rank(*case(), use_metric_cuhk03=True) == "theirs"
    assert evaluate_rank(*case(), use_metric_cuhk03=True) == "theirs"
    assert [arguments[5:] for arguments in calls] == [(50, True, True)] * 2


def test_a_small_gallery_gives_a_cmc_of_its_length():
    cmc, mean_ap = evaluate_rank(torch.tensor([[0.1, 0.2, 0.3]]), [1], [1, 2, 1], [0], [0, 0, 1])
    np.testing.assert_array_equal(cmc, [0, 1, 1])
    assert mean_ap == pytest.approx(1 / 2)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (4,)])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(InputError, match="expected a non-empty real matrix"):
        evaluate_rank(np.zeros(shape), *(np.zeros(size, int) for size in (*shape, 0)[:2] * 2))
