"""The difference of two methods on the same queries."""
from __future__ import annotations

__all__ = ["PairedTest", "holm", "paired_test"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from torchreid_nas.evidence.clusters import Clusters
from torchreid_nas.evidence.intervals import bootstrap_interval, check_options


class PairedTest(NamedTuple):
    """A difference of two mean scores with its interval and test.

    Attributes:
        difference: mean of a less mean of b.
        low: lower end of the interval.
        high: upper end of the interval.
        p_value: probability of a difference at least as large, either way, if a and b were alike.
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_test(
    a: Any, b: Any, pids: Any, level: float = 0.95, resamples: int = 10_000, seed: int = 0,
) -> PairedTest:
    """Return how far two methods differ on the same queries, and whether that can be told.

    The interval is that of :func:`torchreid_nas.evidence.interval`, of the differences. The test exchanges a and b for whole
    identities at random: if the methods were alike, the sign of an identity's difference would be that of a coin. All
    2^K exchanges are counted once where they are no more than ``resamples``.

    The test speaks of these two trained networks and of other persons. It says nothing of another training of the same
    method: that takes several seeds.

    Args:
        a: (Q,) scores of one method, one per query, in [0, 1].
        b: (Q,) scores of the other method on the same queries.
        pids: (Q,) identities of the queries, integers.
        level: of the interval.
        resamples: number of drawn test sets, and of drawn exchanges.
        seed: of the draws.

    Returns:
        Difference a - b, low and high end, p-value (two-sided).

    Raises:
        InputError: as :func:`torchreid_nas.evidence.interval`.

    Examples:
        >>> pids = [person for person in range(12) for _ in range(3)]
        >>> a = [0.9, 0.8, 1.0] * 12
        >>> b = [0.7, 0.8, 0.9] * 12
        >>> test = paired_test(a, b, pids)
        >>> print(f"{test.difference:.2f}, p = {test.p_value:.4f}")
        0.10, p = 0.0005
    """
    check_options(level, resamples, seed)
    clusters = Clusters(pids)
    differences = clusters.values(a, "a") - clusters.values(b, "b")
    mean, low, high = bootstrap_interval(clusters, differences, level, resamples, seed)
    flipped = np.abs(clusters.flipped_means(clusters.sums(differences), resamples, seed))
    # Exchanges that give the difference itself must count, whatever the rounding of their sums.
    as_large = np.count_nonzero(flipped >= abs(mean) * (1 - 1e-12) - 1e-15)
    exact = len(flipped) == 2**min(clusters.count, 60)
    p_value = as_large / len(flipped) if exact else (as_large + 1) / (len(flipped) + 1)
    return PairedTest(mean, low, high, float(p_value))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of comparisons (Holm, Scandinavian Journal of Statistics 1979).

    Args:
        p_values: of the comparisons of one table.

    Returns:
        Corrected p-values in the same order: below 0.05 they hold together with a probability of at least 0.95.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
