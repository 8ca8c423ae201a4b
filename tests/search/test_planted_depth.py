"""Top-k Sample Search finds the one sound candidate of twelve: in nine of ten seeds in the long form."""
from __future__ import annotations

import pytest
import torch
from scripts import benchmark_script

from torchreid_nas.search.relaxation import TopK


@pytest.fixture(scope="module")
def planted():
    with benchmark_script("planted_depth") as module:
        yield module


@pytest.mark.parametrize(("seeds", "found", "different"), [(3, 3, 3), pytest.param(10, 9, 5, marks=pytest.mark.long)])
def test_top_2_chooses_the_sound_candidate(planted, seeds, found, different):
    outcomes = [planted.search(TopK(), seed) for seed in range(seeds)]
    assert sum(outcome.found for outcome in outcomes) >= found, outcomes
    # The seeds plant candidates that differ, so that no order of the candidates explains it.
    assert len({outcome.sound for outcome in outcomes}) >= different, outcomes


def test_a_search_is_determined_by_its_seed(planted):
    assert planted.search(TopK(), 1, steps=3) == planted.search(TopK(), 1, steps=3)
    assert planted.search(TopK(), 1, steps=3) != planted.search(TopK(), 2, steps=3)


@torch.no_grad()
def test_all_candidates_but_the_sound_one_are_noisy(planted):
    """The problem is what it says: twice the same input, and one candidate alone answers alike."""
    torch.manual_seed(0)
    model = planted.PlantedNetwork(4, TopK(), torch.Generator().manual_seed(0))
    x = torch.randn(4, planted.CHANNELS, planted.SIZE, planted.SIZE)
    same = [torch.equal(op(x), op(x)) for op in model.block.ops.values()]
    assert [index for index, alike in enumerate(same) if alike] == [4]
