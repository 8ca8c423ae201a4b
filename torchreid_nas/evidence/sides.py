"""A method under test: its scores over several seeds and gallery trials, and how two methods differ."""
from __future__ import annotations

__all__ = ["Comparison", "Estimate", "Side", "compare_sides", "compare_splits", "estimate", "estimate_splits"]

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.clusters import Clusters
from torchreid_nas.evidence.intervals import check_options, interval
from torchreid_nas.evidence.pairs import paired_test


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """The scores of one method.

    Args:
        name: how texts call the method.
        scores: (S, T, Q) float64: S trainings with seeds of their own, T gallery trials, Q queries; the same Q queries
            in every trial.
        pids: (Q,) identities of the queries, integers.
        seeds: S seeds, in the order of ``scores``.

    Raises:
        InputError: the shapes do not agree.
    """

    name: str
    scores: np.ndarray
    pids: np.ndarray
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.scores.shape[0] != len(self.seeds) or self.scores.shape[2] != len(self.pids):
            raise InputError(
                f"scores have shape {self.scores.shape}, expected (seeds, trials, queries) with {len(self.seeds)} seeds and "
                f"{len(self.pids)} queries"
            )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its interval, and where its variance comes from.

    Attributes:
        mean: over queries, trials and seeds.
        low, high: ends of the interval.
        shares: share of the variance by identity, trial and seed, or by identity and split; only levels that vary.
    """

    mean: float
    low: float
    high: float
    shares: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How a method differs from another on the same queries.

    Attributes:
        a, b: names of the methods.
        difference: mean of a less mean of b.
        low, high: ends of the interval.
        p_value: two-sided.
        smallest: difference that this test set and these seeds would show with a probability of 80 %.
        replicated: whether both methods have several seeds, so that the difference is one of methods and not of two networks.
        wins, losses, ties: identities (over several splits: splits) that a, b and neither serves better.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    smallest: float
    replicated: bool
    wins: int
    losses: int
    ties: int


def estimate(side: Side, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Return the figure of one method with its interval.

    One training on one gallery varies by its test persons alone: :func:`torchreid_nas.evidence.interval`. Several
    trainings or gallery draws add a variance each; the interval is then Student's t with Satterthwaite's degrees of
    freedom (Biometrics Bulletin 1946). Test persons are crossed with draws and trainings: a training that serves some
    persons better moves the variance between persons and that between trainings. The sum is therefore less the variance
    of these interactions (two-way analysis of variance), but never below its largest part.

    Raises:
        InputError: as :func:`torchreid_nas.evidence.interval`.

    Examples:
        >>> scores = np.array([[[0.8, 0.6, 0.4, 0.2]], [[0.9, 0.7, 0.5, 0.3]], [[0.7, 0.5, 0.3, 0.1]]])
        >>> found = estimate(Side("ours", scores, np.array([0, 0, 1, 1]), (1, 2, 3)))
        >>> round(found.mean, 3), {level: round(share, 2) for level, share in found.shares.items()}
        (0.5, {'identity': 0.92, 'seed': 0.08})
    """
    check_options(level, resamples, seed)
    clusters = Clusters(side.pids)
    parts = _variances(clusters, side.scores)
    total = _total(parts)
    shares = _shares(parts)
    # Without any variance the bound for scores that are all 0 or all 1 is the better answer.
    if set(parts) == {"identity"} or total == 0:
        return Estimate(*interval(side.scores.mean(axis=(0, 1)), side.pids, level, resamples, seed), shares)
    mean = float(side.scores.mean())
    half = _quantile(parts, 0.5 + level / 2) * total**0.5
    return Estimate(mean, *_fractions(mean - half, mean + half), shares)


def compare_sides(
    a: Side, b: Side, level: float = 0.95, resamples: int = 10_000, seed: int = 0, family: int = 1,
) -> Comparison:
    """Return how two methods differ on the same queries.

    With one training on a side the test is :func:`torchreid_nas.evidence.paired_test` of the mean over gallery draws: it
    speaks of two networks, not of two methods. With several trainings on both sides, the trainings are the replicates:
    they are paired where both sides have the same seeds, otherwise the two groups of seeds vary on their own (Welch);
    gallery draws are paired. Interval and test are then those of :func:`estimate`.

    Args:
        a: one method.
        b: the other.
        level: of the interval.
        resamples: drawn test sets and exchanges.
        seed: of the draws.
        family: number of comparisons that are corrected together; it makes ``smallest`` larger.

    Raises:
        InputError: the queries of the sides differ, or as :func:`torchreid_nas.evidence.interval`.
    """
    check_options(level, resamples, seed)
    if not np.array_equal(a.pids, b.pids) or a.scores.shape[1] != b.scores.shape[1]:
        raise InputError(
            f'"{a.name}" and "{b.name}" were not tested on the same queries and gallery trials; test both on one test set'
        )
    clusters = Clusters(a.pids)
    by_query = a.scores.mean(axis=(0, 1)) - b.scores.mean(axis=(0, 1))
    by_identity = clusters.sums(by_query)
    parts = _difference_variances(clusters, a, b)
    total = _total(parts)
    replicated = min(len(a.seeds), len(b.seeds)) > 1
    test = paired_test(by_query, np.zeros_like(by_query), a.pids, level, resamples, seed)
    difference, low, high, p_value = test
    if set(parts) != {"identity"}:
        half = _quantile(parts, 0.5 + level / 2) * total**0.5
        low, high = difference - half, difference + half
    if replicated:
        p_value = _p_value(difference, parts)
    small = 1e-12
    return Comparison(
        a.name, b.name, difference, low, high, p_value, _smallest(parts, level, family), replicated,
        wins=int((by_identity > small).sum()), losses=int((by_identity < -small).sum()),
        ties=int((abs(by_identity) <= small).sum()),
    )


def estimate_splits(
    scores: Sequence[np.ndarray], persons: Sequence[np.ndarray], level: float = 0.95,
) -> Estimate:
    """Return the figure of one method over several splits of a data set, each trained and tested on its own.

    The figure is the mean of the splits' figures. Splits of one data set show the same persons again: half of RegDB's test
    persons of one split are test persons of the next. The splits alone would therefore promise too narrow an interval. The
    persons add a variance, each with the queries of all splits that test on it, and the splits with their trainings add
    theirs; the interval is Student's t as that of :func:`estimate`.

    Args:
        scores: per split (Q,) scores of the queries; two splits or more.
        persons: per split (Q,) integers: the same person has the same number in all splits.
        level: of the interval.

    Raises:
        InputError: as :func:`torchreid_nas.evidence.interval`.

    Examples:
        >>> persons = [np.array([0, 0, 1, 1]), np.array([1, 1, 2, 2])]
        >>> scores = [np.array([0.9, 0.7, 0.5, 0.3]), np.array([0.4, 0.4, 0.9, 0.7])]
        >>> found = estimate_splits(scores, persons)
        >>> round(found.mean, 3), {level: round(share, 2) for level, share in found.shares.items()}
        (0.6, {'identity': 1.0, 'split': 0.0})
    """
    mean, parts = _split_variances(scores, persons)
    total = _total(parts)
    shares = _shares(parts)
    if total == 0:
        return Estimate(*interval(np.concatenate(scores), np.concatenate(persons), level), shares)
    half = _quantile(parts, 0.5 + level / 2) * total**0.5
    return Estimate(mean, *_fractions(mean - half, mean + half), shares)


def compare_splits(
    a: str, b: str, scores_a: Sequence[np.ndarray], scores_b: Sequence[np.ndarray], persons: Sequence[np.ndarray],
    level: float = 0.95, family: int = 1,
) -> Comparison:
    """Return how two methods differ over several splits that both were trained and tested on, paired by query.

    Args:
        a: name of one method.
        b: name of the other.
        scores_a: per split (Q,) scores of a; two splits or more.
        scores_b: per split (Q,) scores of b on the same queries.
        persons: per split (Q,) integers: the same person has the same number in all splits.
        level: of the interval.
        family: as for :func:`compare_sides`.

    Raises:
        InputError: as :func:`torchreid_nas.evidence.interval`.

    Examples:
        >>> persons = [np.arange(6), np.arange(3, 9)]
        >>> ours = [np.array([0.8, 0.9, 0.7, 0.8, 0.9, 0.8]), np.array([0.9, 0.8, 0.8, 0.7, 0.9, 0.9])]
        >>> found = compare_splits("ours", "theirs", ours, [ours[0] - 0.1, ours[1] - 0.12], persons)
        >>> print(f"{found.difference:.2f} from {found.low:.2f} to {found.high:.2f}, better on {found.wins} splits")
        0.11 from 0.00 to 0.22, better on 2 splits
    """
    by_query = [one - other for one, other in zip(scores_a, scores_b)]
    difference, parts = _split_variances(by_query, persons)
    half = _quantile(parts, 0.5 + level / 2) * _total(parts)**0.5
    means = np.array([values.mean() for values in by_query])
    return Comparison(
        a, b, difference, difference - half, difference + half, _p_value(difference, parts), _smallest(parts, level, family),
        True, wins=int((means > 0).sum()), losses=int((means < 0).sum()), ties=int((means == 0).sum()),
    )


def _split_variances(
    scores: Sequence[np.ndarray], persons: Sequence[np.ndarray],
) -> tuple[float, dict[str, tuple[float, int]]]:
    """Return the mean of the splits' means, and its variance by level with the degrees of freedom of each."""
    means = np.array([values.mean() for values in scores])
    clusters = Clusters(np.concatenate(persons))
    parts = {
        "identity": (clusters.variance_of_mean(clusters.sums(np.concatenate(scores))), clusters.count - 1),
        "split": (float(means.var(ddof=1)) / len(means), len(means) - 1),
    }
    return float(means.mean()), parts


def _variances(clusters: Clusters, scores: np.ndarray) -> dict[str, tuple[float, int]]:
    """Return the variance of the mean of (S, T, Q) scores by level, and each one's degrees of freedom.

    The variances of the interactions with identities are negative: both levels that they belong to hold them.
    """
    parts = {"identity": (clusters.variance_of_mean(clusters.sums(scores.mean(axis=(0, 1)))), clusters.count - 1)}
    for name, by_level in (("trial", scores.mean(axis=0)), ("seed", scores.mean(axis=1))):
        if (count := len(by_level)) > 1:
            parts[name] = (float(by_level.mean(axis=1).var(ddof=1)) / count, count - 1)
            parts[f"identity × {name}"] = (-_interaction(clusters, by_level), (clusters.count - 1) * (count - 1))
    return parts


def _interaction(clusters: Clusters, by_level: np.ndarray) -> float:
    """Return the variance that the interaction of identities with the L rows of (L, Q) scores adds to the mean.

    With as many queries per identity it is MS / (L·K): the mean square of what the sum of both effects leaves, over L rows
    and K identities (Scheffé, "The Analysis of Variance", 1959, 4.1).
    """
    count, queries = by_level.shape
    residuals = np.stack([clusters.sums(row) - clusters.sizes * row.mean() for row in by_level])
    left = ((residuals - residuals.mean(axis=0))**2).sum() / (count * (count - 1))
    return float(clusters.count / (clusters.count - 1) * left / queries**2)


def _total(parts: dict[str, tuple[float, int]]) -> float:
    """Return the variance of all levels together, at least the largest of them."""
    variances = [variance for variance, _ in parts.values()]
    return max(sum(variances), *variances)


def _shares(parts: dict[str, tuple[float, int]]) -> dict[str, float]:
    """Return the share of each level in the sum of the levels; interactions belong to the levels."""
    levels = {name: variance for name, (variance, _) in parts.items() if "×" not in name}
    total = sum(levels.values())
    return {name: variance / total if total > 0 else 0.0 for name, variance in levels.items()}


def _difference_variances(clusters: Clusters, a: Side, b: Side) -> dict[str, tuple[float, int]]:
    """Return the same of the difference of two sides, paired wherever both sides share what varies."""
    if a.seeds == b.seeds:
        return _variances(clusters, a.scores - b.scores)
    parts = _variances(clusters, a.scores.mean(axis=0, keepdims=True) - b.scores.mean(axis=0, keepdims=True))
    for side in (a, b):
        own = _variances(clusters, side.scores)
        label = f"of {side.name}" if a.name != b.name else f"{side is a}"
        parts.update({f"{name} {label}": own[name] for name in ("seed", "identity × seed") if name in own})
    return parts


def _freedom(parts: dict[str, tuple[float, int]]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of variances."""
    total = _total(parts)
    if total == 0:
        return float(min(freedom for _, freedom in parts.values()))
    return float(total**2 / sum(variance**2 / freedom for variance, freedom in parts.values()))


def _quantile(parts: dict[str, tuple[float, int]], probability: float) -> float:
    return float(stats.t.ppf(probability, _freedom(parts)))


def _smallest(parts: dict[str, tuple[float, int]], level: float, family: int) -> float:
    """Return the difference that shows with a probability of 80 % at the level that Holm's strictest step asks for."""
    total = _total(parts)
    return float((_quantile(parts, 1 - (1 - level) / (2 * family)) + _quantile(parts, 0.8)) * total**0.5)


def _fractions(low: float, high: float) -> tuple[float, float]:
    """Return the ends of the interval of a figure: a figure lies between 0 and 1."""
    return max(low, 0.0), min(high, 1.0)


def _p_value(difference: float, parts: dict[str, tuple[float, int]]) -> float:
    total = _total(parts)
    if total == 0:
        # All differences are alike: of n of them, two of the 2^n exchanges of signs give one as large.
        return 1.0 if difference == 0 else 0.5 ** _freedom(parts)
    return float(2 * stats.t.sf(abs(difference) / total**0.5, _freedom(parts)))
