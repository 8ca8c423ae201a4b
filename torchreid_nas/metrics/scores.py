"""The metrics: the name, the title and the order of each, and how each is computed from the ranking of a query.

Results, tables, zoo entries, pictures and histories read this module. To add a
metric, write its function and register one :class:`Score`.
"""
from __future__ import annotations

__all__ = [
    "SCORES", "Ranked", "Score", "average_precision", "average_precision_trapezoid", "computed_scores", "find_score",
    "inverse_negative_penalty", "ordered_scores", "register_score", "row_scores",
]

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from torchreid_nas.errors import InputError, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclasses.dataclass(frozen=True)
class Ranked:
    """The rankings of R queries, as a metric sees them: the places of the positives, of which a query has up to P.

    Attributes:
        places: (R, P) int64, 0-based places of the gallery images of the query's identity, in ascending order.
            Images that the protocol skips take no place. An entry means something where ``kept`` is 1.
        kept: (R, P) int64, 1 for a positive, 0 for an entry without meaning.
        nth: (R, P) float64, how many positives stand up to this entry, itself included.
        total: (R,) float64, the number of positives. Where the number is 0, the query does not count, and the value
            that a metric gives is not read.

    Example:
        One query, whose two positives stand at places 0 and 3:

        >>> import torch
        >>> ranked = Ranked.of(torch.tensor([[0, 3]]), torch.tensor([[1, 1]]))
        >>> average_precision(ranked)
        tensor([0.7500], dtype=torch.float64)
    """

    places: torch.Tensor
    kept: torch.Tensor
    nth: torch.Tensor
    total: torch.Tensor

    @classmethod
    def of(cls, places: torch.Tensor, kept: torch.Tensor) -> Ranked:
        """Return the rankings with these places, see :class:`Ranked`."""
        nth = kept.cumsum(dim=1).double()
        return cls(places, kept, nth, nth[:, -1])

    @cached_property
    def precision(self) -> torch.Tensor:
        """(R, P) float64: at a positive the share of positives among the images up to it, 0 elsewhere."""
        return (self.nth / (self.places + 1)).mul_(self.kept)


def average_precision(ranked: Ranked) -> torch.Tensor:
    """Return the average precision of each query, (R,) float64, step-wise as torchreid computes it.

    Example:
        >>> import torch
        >>> average_precision(Ranked.of(torch.tensor([[0, 1, 5]]), torch.tensor([[1, 1, 1]])))
        tensor([0.8333], dtype=torch.float64)
    """
    return ranked.precision.sum(dim=1) / ranked.total


def average_precision_trapezoid(ranked: Ranked) -> torch.Tensor:
    """Return the average precision of each query as the area under straight lines between the points of the curve.

    The evaluation code of Market-1501 (Zheng et al., ICCV 2015) integrates so,
    and with it the code of many papers (ECN among them). The value is at most
    that of :func:`average_precision`.

    Example:
        >>> import torch
        >>> average_precision_trapezoid(Ranked.of(torch.tensor([[0, 1, 5]]), torch.tensor([[1, 1, 1]])))
        tensor([0.8167], dtype=torch.float64)
    """
    places = ranked.places
    # Recall grows at a positive alone, from the place before the positive. There is no place before the first, where the
    # curve begins at precision 1.
    before = ((ranked.nth - 1) / places).masked_fill(places == 0, 1.0).mul_(ranked.kept)
    return 0.5 * (average_precision(ranked) + before.sum(dim=1) / ranked.total)


def inverse_negative_penalty(ranked: Ranked) -> torch.Tensor:
    """Return for each query the number of positives over the 1-based place of the last positive.

    Ye et al., "Deep Learning for Person Re-identification: A Survey and
    Outlook", TPAMI 2021.

    Example:
        >>> import torch
        >>> inverse_negative_penalty(Ranked.of(torch.tensor([[0, 1, 5]]), torch.tensor([[1, 1, 1]])))
        tensor([0.5000], dtype=torch.float64)
    """
    last = (ranked.places * ranked.kept).amax(dim=1)
    return ranked.total / (last + 1)


class Result(Protocol):
    """What a score is read from, see :class:`torchreid_nas.metrics.RankingResult`."""

    @property
    def cmc(self) -> np.ndarray:
        """The CMC, from rank 1."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The metrics that have a function, by name."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric: what files, tables and pictures call it, and how it is computed.

    Args:
        name: key in ``results.json`` and in zoo entries; an identifier.
        title: of the column in tables.
        of: given :class:`Ranked`, the (R,) float64 values of the queries; the metric is their mean over the valid
            queries. None for a rank of the CMC and for a metric that is no ranking's (``top1`` and ``top5`` of a
            classification).
        rank: of the CMC; 0 for a metric that is no rank.
        key: config key that asks for the metric; ``""`` for a metric that every result has.

    Example:
        >>> Score("rank1", "Rank-1", rank=1).title
        'Rank-1'
    """

    name: str
    title: str
    of: Callable[[Ranked], torch.Tensor] | None = None
    rank: int = 0
    key: str = ""

    def value(self, result: Result) -> float:
        """Return the metric of a result, a fraction.

        Example:
            >>> from torchreid_nas.metrics import evaluate_regdb
            >>> result = evaluate_regdb([[0.1, 0.2, 0.3]], [7], [7, 8, 7])
            >>> [round(find_score(name).value(result), 3) for name in ("rank1", "mAP", "mINP")]
            [1.0, 0.833, 0.667]
        """
        return float(result.cmc[self.rank - 1]) if self.rank else result.scores[self.name]


SCORES: dict[str, Score] = {
    score.name: score for score in (
        *(Score(f"rank{rank}", f"Rank-{rank}", rank=rank) for rank in (1, 5, 10, 20)),
        Score("mAP", "mAP", average_precision),
        Score("mAP_trapezoid", "mAP (trapezoid)", average_precision_trapezoid, key="test.trapezoid_map"),
        Score("mINP", "mINP", inverse_negative_penalty),
        Score("top1", "top-1"),
        Score("top5", "top-5"),
    )
}
"""The metrics by name, in the order of tables. :func:`register_score` adds to them."""


def register_score(score: Score) -> None:
    """Add a metric: from then on results, tables and zoo entries have it.

    Raises:
        InputError: the name is taken, or is no identifier.

    Example:
        >>> register_score(Score("mAP", "mean average precision", average_precision))
        Traceback (most recent call last):
        torchreid_nas.errors.InputError: there is a metric "mAP" already; choose another name
    """
    if score.name in SCORES:
        raise InputError(f'there is a metric "{score.name}" already; choose another name')
    if not score.name.isidentifier():
        raise InputError(f'the name of a metric is "{score.name}", expected letters, digits and _ only')
    SCORES[score.name] = score


def find_score(name: str) -> Score:
    """Return the metric of that name; every rank of the CMC is one.

    Raises:
        InputError: there is no such metric.

    Example:
        >>> find_score("mAP_trapezoid").title, find_score("rank3").title
        ('mAP (trapezoid)', 'Rank-3')
    """
    if name in SCORES:
        return SCORES[name]
    found = re.fullmatch(r"rank([1-9][0-9]*)", name)
    if found is None:
        raise InputError(f'there is no metric "{name}", expected one of {", ".join(SCORES)}{nearest(name, SCORES)}')
    return Score(name, f"Rank-{found[1]}", rank=int(found[1]))


def computed_scores() -> list[Score]:
    """Return the metrics that have a function, in the order of tables.

    Example:
        >>> [score.name for score in computed_scores()]
        ['mAP', 'mAP_trapezoid', 'mINP']
    """
    return [score for score in SCORES.values() if score.of is not None]


def ordered_scores(names: Iterable[str]) -> list[Score]:
    """Return the metrics of these names, each once, in the order of tables: ranks of the CMC first, ascending.

    Example:
        >>> [score.name for score in ordered_scores(["mINP", "rank20", "rank3", "mINP", "mAP"])]
        ['rank3', 'rank20', 'mAP', 'mINP']
    """
    scores = [find_score(name) for name in dict.fromkeys(names)]
    order = list(SCORES)
    return sorted(scores, key=lambda score: (0, score.rank) if score.rank else (1, order.index(score.name)))


def row_scores(row: Mapping[str, Any], suffix: str = "") -> dict[str, float]:
    """Return the metrics of an entry of ``results.json`` by name, as fractions, in the order of tables.

    Args:
        row: the entry: ``ranks`` with ``cmc``, and the other metrics under their names.
        suffix: ``""`` for the means, ``"_std"`` for the deviations between trials.

    Raises:
        KeyError: the entry has no ``ranks`` or no CMC.

    Example:
        >>> row_scores({"ranks": [1, 5], "cmc": [0.5, 0.75], "mAP": 0.4})
        {'rank1': 0.5, 'rank5': 0.75, 'mAP': 0.4}
    """
    ranks = {f"rank{rank}": value for rank, value in zip(row["ranks"], row[f"cmc{suffix}"])}
    others = {name: row[name + suffix] for name, score in SCORES.items() if not score.rank and name + suffix in row}
    return {score.name: (ranks | others)[score.name] for score in ordered_scores(ranks | others)}
