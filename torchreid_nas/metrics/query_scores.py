"""What one gallery says of every query: where figures come from, and what intervals and comparisons read."""
from __future__ import annotations

__all__ = ["QueryScores"]

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from torchreid_nas.metrics.scores import find_score


@dataclasses.dataclass(frozen=True, eq=False)
class QueryScores:
    """The scores of Q queries on one gallery, in the order of the queries. Figures are means over the valid queries.

    Args:
        first: (Q,) int32, the 0-based rank of the first hit as the CMC counts it; -1 for a query that does not count.
        positives: (Q,) int32, gallery images of the query's identity that the protocol leaves.
        gallery: number of gallery images.
        values: (Q,) float64 by the name of a metric, see :data:`~torchreid_nas.metrics.SCORES`; NaN where a query does not
            count.

    Example:
        >>> from torchreid_nas.metrics import evaluate_regdb
        >>> queries = evaluate_regdb([[0.1, 0.2], [0.4, 0.3]], [7, 7], [7, 8]).queries
        >>> queries.score("rank1"), queries.score("mAP")
        (array([1., 0.]), array([1. , 0.5]))
    """

    first: npt.NDArray[np.int32]
    positives: npt.NDArray[np.int32]
    gallery: int
    values: Mapping[str, npt.NDArray[np.float64]]

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(Q,) bool: whether a query counts, because its identity is left in the gallery."""
        return self.first >= 0

    def only(self, names: Collection[str]) -> QueryScores:
        """Return the same with the metrics of these names alone."""
        return dataclasses.replace(self, values={name: self.values[name] for name in self.values if name in names})

    def score(self, name: str) -> npt.NDArray[np.float64]:
        """Return a metric of every query, (Q,) float64: 0 or 1 for a rank; NaN where a query does not count.

        Raises:
            InputError: there is no such metric.
            KeyError: the metric was not computed.
        """
        rank = find_score(name).rank
        if not rank:
            return self.values[name]
        return np.where(self.valid, (self.first < rank).astype(np.float64), np.nan)

    def cmc(self, max_rank: int) -> npt.NDArray[np.float64]:
        """Return the CMC, (max_rank,) float64, over the valid queries, of which there is at least one."""
        ranks = self.first[self.valid]
        hits = np.bincount(ranks[ranks < max_rank], minlength=max_rank)
        cmc: npt.NDArray[np.float64] = hits.cumsum() / len(ranks)
        return cmc

    def means(self) -> dict[str, float]:
        """Return the mean over the valid queries of every metric in ``values``."""
        return {name: float(values[self.valid].mean()) for name, values in self.values.items()}
