"""Scores of rankings from the places of their positives, gathered block by block."""
from __future__ import annotations

__all__ = ["RankingResult", "Tally"]

from dataclasses import dataclass

import numpy as np
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.places import sort_rows


@dataclass(frozen=True, eq=False)
class RankingResult:
    """What a protocol reports about one distance matrix. All scores are fractions in [0, 1].

    Attributes:
        cmc: (max_rank,) float64, read-only; ``cmc[k - 1]`` is rank-k, the share of valid
            queries whose identity is among the first k.
        mAP: mean average precision (step-wise, as torchreid), averaged over the valid queries.
        mAP_trapezoid: the same with AP as the area under straight lines between the points of
            precision over recall, as the evaluation code of Market-1501 (Zheng et al., ICCV 2015)
            integrates, and after it that of many papers (ECN among them). It is at most ``mAP``:
            name it where figures of such a paper are quoted.
        mINP: mean inverse negative penalty (Ye et al., "Deep Learning for Person
            Re-identification: A Survey and Outlook", TPAMI 2021): number of positives
            over the 1-based position of the last of them, averaged over the valid queries.
        num_valid_queries: queries whose identity is left in their gallery.
    """

    cmc: np.ndarray
    mAP: float
    mAP_trapezoid: float
    mINP: float
    num_valid_queries: int


class Tally:
    """Adds up what the rankings of blocks of queries score.

    Args:
        max_rank: length of the CMC.
    """

    def __init__(self, max_rank: int) -> None:
        self._hits = np.zeros(max_rank, dtype=np.int64)
        self._sums = np.zeros(3)
        self._num_valid = 0

    def add(
        self, places: torch.Tensor, real: torch.Tensor, skipped: torch.Tensor | None = None,
        first: torch.Tensor | None = None,
    ) -> None:
        """Add a block.

        Args:
            places: (R, P) int64, 0-based places of the entries of each query's identity, in any order.
            real: (R, P) bool, where ``places`` means something; a row without any is an invalid query.
            skipped: (R, P) bool, entries that took part in the ranking though the protocol skips them:
                they are no positives, and what follows them moves up.
            first: (R,) the rank that the CMC counts, where it is not the smallest place.
        """
        # One number holds place and kind, so that a sort of values is enough. What is not real comes last.
        keys = 2 * places if skipped is None else 2 * places + skipped
        keys = sort_rows(keys.masked_fill(~real, torch.iinfo(torch.int64).max))
        dropped = keys & 1
        places = (keys >> 1) - dropped.cumsum(dim=1) + dropped
        kept = 1 - dropped
        nth = kept.cumsum(dim=1, dtype=torch.float64)
        total = nth[:, -1]
        valid = total > 0
        precision = (nth / (places + 1)).mul_(kept)
        # Recall grows at the positives alone, each time from the place before; there is none before the first, where
        # the curve begins at precision 1.
        before = torch.where(places > 0, (nth - 1) / places, 1.0).mul_(kept)
        average_precision = precision.sum(dim=1) / total
        trapezoid = 0.5 * (average_precision + before.sum(dim=1) / total)
        last = (places * kept).amax(dim=1)
        scores = torch.stack([average_precision, trapezoid, total / (last + 1)])[:, valid]
        self._sums += scores.sum(dim=1).cpu().numpy()
        self._num_valid += scores.shape[1]
        if first is None:
            first = places.masked_fill(dropped.bool(), torch.iinfo(torch.int64).max).amin(dim=1)
        ranks = first[valid].cpu().numpy()
        self._hits += np.bincount(ranks[ranks < len(self._hits)], minlength=len(self._hits))

    def result(self) -> RankingResult:
        """Return the scores of all that was added.

        Raises:
            InputError: no query was valid.
        """
        if self._num_valid == 0:
            raise InputError(
                "no overlap of query and gallery identities is left: the protocol makes every query skip all gallery "
                "images of its identity, as when query and gallery come from the same camera; check the camera ids of "
                "both"
            )
        cmc = self._hits.cumsum() / self._num_valid
        cmc.flags.writeable = False
        return RankingResult(cmc, *(self._sums / self._num_valid).tolist(), self._num_valid)
