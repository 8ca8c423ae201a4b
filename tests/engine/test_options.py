"""The seed of everything random."""
from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from torchreid_nas.engine import seed_everything


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_and_its_parts_decide_all_three_generators():
    draws = {}
    for parts in ((1,), (1, 0), (1, 1), (2,), (1, 0, 0)):
        seed_everything(*parts)
        draws[parts] = drawn()
        seed_everything(*parts)
        assert drawn() == draws[parts]
    for values in zip(*draws.values()):
        assert len(set(values)) == len(draws)


@pytest.mark.parametrize(("parts", "seed"), [((1,), 1835504127), ((1, 0), 1641411168), ((7, 3), 3842200183)])
def test_the_seeds_are_those_of_numpys_sequence(parts, seed, monkeypatch):
    """Numbers of a run must not change with Python or NumPy: the seeds stand here."""
    given = []
    monkeypatch.setattr("torchreid.utils.set_random_seed", given.append)
    seed_everything(*parts)
    assert given == [seed]
