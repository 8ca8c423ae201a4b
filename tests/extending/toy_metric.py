"""A metric from outside: one file, with its function and its registration."""
from __future__ import annotations

import torch

from torchreid_nas.metrics import Ranked, Score, register_score


def reciprocal_rank(ranked: Ranked) -> torch.Tensor:
    """One over the 1-based place of the first positive."""
    first = ranked.places.masked_fill(ranked.kept == 0, torch.iinfo(torch.int64).max).amin(dim=1)
    return 1 / (first.double() + 1)


def register() -> None:
    register_score(Score("mrr", "MRR", reciprocal_rank))
