"""The interval of one figure: what other test persons would have given."""
from __future__ import annotations

__all__ = ["Interval", "bootstrap_interval", "check_options", "interval"]

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.clusters import Clusters


class Interval(NamedTuple):
    """A mean score with its interval.

    Attributes:
        mean: of the scores of all queries, the figure that tables show.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def interval(values: Any, pids: Any, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return a mean score and its bootstrap interval over identities.

    Test sets of as many identities are drawn with replacement, each identity with all of its queries. The ends are
    quantiles of the means of these test sets, corrected for bias and skewness (BCa: Efron, "Better Bootstrap Confidence
    Intervals", JASA 1987) and for the number of identities (the quantiles are those of Student's t, expanded by
    K / (K - 1): Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician 2015). Where all
    scores are 0, or all are 1, resampling says nothing; the open end is then the exact binomial bound for K identities
    (Clopper and Pearson, Biometrika 1934).

    Args:
        values: (Q,) one score per query: 0 or 1 for a hit at a rank, or the average precision, in [0, 1].
        pids: (Q,) identities of the queries, integers.
        level: share of test sets whose interval holds the true mean.
        resamples: number of drawn test sets.
        seed: of the draws.

    Returns:
        Mean, low and high end.

    Raises:
        InputError: shapes do not agree, a score is not finite, one identity only, or ``level`` or ``resamples`` out of range.

    Examples:
        Ten persons with four queries each; five persons are found by every query, five by none:

        >>> hits = [1] * 20 + [0] * 20
        >>> mean, low, high = interval(hits, [query // 4 for query in range(40)])
        >>> print(f"{mean:.2f} from {low:.2f} to {high:.2f}")
        0.50 from 0.10 to 0.90
    """
    check_options(level, resamples, seed)
    clusters = Clusters(pids)
    values = clusters.values(values)
    bound = ((1 - level) / 2) ** (1 / clusters.count)
    if (values == 1).all():
        return Interval(1.0, bound, 1.0)
    if (values == 0).all():
        return Interval(0.0, 0.0, 1 - bound)
    return bootstrap_interval(clusters, values, level, resamples, seed)


def bootstrap_interval(clusters: Clusters, values: np.ndarray, level: float, resamples: int, seed: int) -> Interval:
    """Return what :func:`interval` returns, for any (Q,) finite values: differences of scores, too."""
    sums = clusters.sums(values)
    mean = float(values.mean())
    if values.min() == values.max():
        return Interval(mean, mean, mean)
    low, high = _quantiles(
        clusters.resampled_means(sums, resamples, seed), mean, clusters.left_out_means(sums), clusters.count, level
    )
    return Interval(mean, low, high)


def check_options(level: float, resamples: int, seed: int = 0) -> None:
    """Raise InputError for a level that is no share of 1, too few resamples for its quantiles, or a negative seed."""
    if not 0 < level < 1:
        raise InputError(f"level is {level!r}, expected between 0 and 1, e.g. 0.95")
    if isinstance(resamples, bool) or not isinstance(resamples, (int, np.integer)) or resamples < 100:
        raise InputError(f"resamples is {resamples!r}, expected a whole number of at least 100; 10,000 is customary")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed is {seed!r}, expected a whole number of at least 0")


def _quantiles(means: np.ndarray, mean: float, left_out: np.ndarray, count: int, level: float) -> tuple[float, float]:
    """Return the BCa quantiles of bootstrap means at the expanded level."""
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / len(means)
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means)))
    deviations = left_out.mean() - left_out
    squares = (deviations**2).sum()
    acceleration = (deviations**3).sum() / (6 * squares**1.5) if squares > 0 else 0.0
    z = np.sqrt(count / (count - 1)) * stats.t.ppf((1 - level) / 2, count - 1)
    shifted = bias + np.array([z, -z])
    # Few identities with one outlier can turn the correction around; the plain quantile is then the safer one.
    stretch = 1 - acceleration * shifted
    corrected = np.where(stretch > 0, bias + shifted / np.where(stretch > 0, stretch, 1), shifted)
    low, high = np.quantile(means, stats.norm.cdf(corrected))
    return float(min(low, mean)), float(max(high, mean))
