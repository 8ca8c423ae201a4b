"""Scores of rankings from the places of their positives, gathered block by block."""
from __future__ import annotations

__all__ = ["RankingResult", "Tally"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.places import sort_rows
from torchreid_nas.metrics.query_scores import QueryScores
from torchreid_nas.metrics.scores import Ranked, computed_scores


@dataclass(frozen=True, eq=False)
class RankingResult:
    """What a protocol reports about one distance matrix. All scores are fractions in [0, 1].

    Attributes:
        cmc: (max_rank,) float64, read-only; ``cmc[k - 1]`` is rank-k, the share of valid
            queries whose identity is among the first k.
        scores: the other metrics by name, each averaged over the valid queries: those of
            :data:`~torchreid_nas.metrics.SCORES` that are computed from rankings.
        num_valid_queries: queries whose identity is left in their gallery.
        queries: the same of every query; None for a mean over galleries.

    Example:
        >>> from torchreid_nas.metrics import evaluate_regdb
        >>> result = evaluate_regdb([[0.1, 0.2, 0.3]], [7], [7, 8, 7], max_rank=2)
        >>> result.cmc, round(result.mAP, 3), result.num_valid_queries
        (array([1., 1.]), 0.833, 1)
    """

    cmc: np.ndarray
    scores: Mapping[str, float]
    num_valid_queries: int
    queries: QueryScores | None = None

    @property
    def mAP(self) -> float:
        """Mean average precision, see :func:`~torchreid_nas.metrics.scores.average_precision`."""
        return self.scores["mAP"]

    @property
    def mAP_trapezoid(self) -> float:
        """Mean average precision by trapezoid, see :func:`~torchreid_nas.metrics.scores.average_precision_trapezoid`.

        Name the integration where figures of a paper are quoted that used it: the value is at most ``mAP``.
        """
        return self.scores["mAP_trapezoid"]

    @property
    def mINP(self) -> float:
        """Mean inverse negative penalty, see :func:`~torchreid_nas.metrics.scores.inverse_negative_penalty`."""
        return self.scores["mINP"]


class Tally:
    """Gathers what the rankings of blocks of queries score.

    Args:
        max_rank: length of the CMC.
        num_gallery: number of gallery images.
    """

    def __init__(self, max_rank: int, num_gallery: int) -> None:
        self._max_rank, self._num_gallery = max_rank, num_gallery
        self._functions = {score.name: score.of for score in computed_scores() if score.of is not None}
        self._blocks: list[tuple[npt.NDArray[Any], ...]] = []

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
        ranked = Ranked.of(places, 1 - dropped)
        scores = torch.stack([function(ranked) for function in self._functions.values()])
        if first is None:
            first = places.masked_fill(dropped.bool(), torch.iinfo(torch.int64).max).amin(dim=1)
        first = first.masked_fill(ranked.total == 0, -1)
        self._blocks.append(tuple(part.cpu().numpy() for part in (first, ranked.total, scores)))

    def result(self, order: npt.NDArray[np.int64] | None = None) -> RankingResult:
        """Return the scores of all that was added.

        Args:
            order: the numbers of the queries in the order in which they were added; None where they came in their own order.

        Raises:
            InputError: no query was valid.
        """
        first, positives = (np.concatenate([block[part] for block in self._blocks]).astype(np.int32) for part in (0, 1))
        scores = np.concatenate([block[2] for block in self._blocks], axis=1)
        if not (first >= 0).any():
            raise InputError(
                "no overlap of query and gallery identities is left: the protocol makes every query skip all gallery "
                "images of its identity, as when query and gallery come from the same camera; check the camera ids of "
                "both"
            )
        scores[:, first < 0] = np.nan
        if order is not None:
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            first, positives, scores = first[back], positives[back], scores[:, back]
        queries = QueryScores(first, positives, self._num_gallery, dict(zip(self._functions, scores)))
        cmc = queries.cmc(self._max_rank)
        cmc.flags.writeable = False
        return RankingResult(cmc, queries.means(), int(queries.valid.sum()), queries)
