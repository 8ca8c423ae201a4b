"""How much of the scores of a table is architecture, how much training seed, how much test identity."""
from __future__ import annotations

__all__ = ["Components", "Estimate"]

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from torchreid_nas.errors import InputError

Array = npt.NDArray[np.float64]
_GROUPS = 20


class Estimate(NamedTuple):
    """A value with its interval: components of variance in squared percent, a regret in percent."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Components:
    """Components of variance of a complete table, and what follows from them.

    A score of one identity in one training is a sum: mean + architecture + seed + identity + their pairs + rest, each drawn
    on its own. The components are estimated from the mean squares of the three-way layout (Searle, Casella, McCulloch,
    "Variance Components", 1992, chapter 4). A figure of a training is the mean over K identities, in which a component with
    identities counts 1/K.

    Attributes:
        of_identity: the components of the score of one identity by name: ``"architecture"``, ``"seed"``, ``"identity"``,
            ``"architecture × seed"``, ``"architecture × identity"``, ``"seed × identity"``, ``"rest"``.
        of_training: what the figures of trainings differ by: ``"architecture"``, ``"seed"`` (moves all architectures alike),
            ``"architecture × seed"`` (moves one of them), ``"identities"`` (what other test persons would change in the
            difference of two architectures).
        architectures, seeds, identities: the sizes of the table.
    """

    of_identity: Mapping[str, float]
    of_training: Mapping[str, Estimate]
    architectures: int
    seeds: int
    identities: int

    @classmethod
    def of(cls, scores: npt.ArrayLike, level: float = 0.95) -> Components:
        """Estimate the components.

        The intervals of architecture, seed and their pair are those of F with Satterthwaite's degrees of freedom (the book,
        3.6 and 4.6): the noise is known from all architectures, so that few seeds will do. The 2^5 architectures are taken
        for a sample. The interval of the identities comes from the jackknife over 20 groups of them.

        Args:
            scores: (A, S, K): of every architecture, seed and identity, in percent.
            level: of the intervals.

        Raises:
            InputError: a size is below 2, or there are fewer than 20 identities.

        Example:
            Two architectures that differ by 2, no noise but between identities:

            >>> scores = np.add.outer([[1.0, 1.0], [3.0, 3.0]], np.arange(40.0))
            >>> round(Components.of(scores).of_training["architecture"].value, 6)
            2.0
        """
        table = np.asarray(scores, float)
        if table.ndim != 3 or min(table.shape) < 2 or table.shape[2] < _GROUPS:
            raise InputError(
                f"the scores have the shape {table.shape}, expected (architectures, seeds, identities) with at least 2, 2 and "
                f"{_GROUPS}; train more seeds"
            )
        squares, free = _mean_squares(table)
        parts = _components(squares, table.shape)
        architectures, seeds, identities = table.shape

        def interval(axes: tuple[int, ...], minus: list[tuple[int, ...]], count: int) -> Estimate:
            """Return (square of ``axes`` - noise) / count. The noise sums the squares of ``minus`` and holds the rest once."""
            noise = sum(squares[each] for each in minus) - (squares[0, 1, 2] if len(minus) > 1 else 0.0)
            spread = sum(squares[each] ** 2 / free[each] for each in {*minus, (0, 1, 2)})
            degrees = max(noise, 1e-12) ** 2 / max(spread, 1e-24)
            ends = [squares[axes] / stats.f.ppf(q, free[axes], degrees) for q in ((1 + level) / 2, 0.5, (1 - level) / 2)]
            low, _, high = (max(0.0, float(end - noise) / count) for end in ends)
            return Estimate(max(0.0, (squares[axes] - noise) / count), low, high)

        groups = np.arange(identities) % _GROUPS
        left_out = [_identities(table[:, :, groups != group]) * (groups != group).mean() for group in range(_GROUPS)]
        half = float(stats.t.ppf((1 + level) / 2, _GROUPS - 1)) * _jackknife(left_out) ** 0.5
        people = _identities(table)
        found = {
            "architecture": interval((0,), [(0, 1), (0, 2)], seeds * identities),
            "seed": interval((1,), [(0, 1), (1, 2)], architectures * identities),
            "architecture × seed": interval((0, 1), [(0, 1, 2)], identities),
            "identities": Estimate(people, max(0.0, people - half), people + half),
        }
        return cls(parts, found, *table.shape)

    def reliability(self, seeds: int = 1) -> float:
        """Return the share of architecture in the variance between mean scores over ``seeds`` seeds: 1 is without noise."""
        architecture = self.of_training["architecture"].value
        return float(architecture / (architecture + self.error(seeds) ** 2 / 2))

    def error(self, seeds: int) -> float:
        """Return the standard error, in percent, of the difference of two architectures that ``seeds`` common seeds trained."""
        return math.sqrt(2 * (self.of_training["architecture × seed"].value + self.of_training["identities"].value) / seeds)


_Axes = tuple[int, ...]
_NAMES: dict[_Axes, str] = {
    (0,): "architecture", (1,): "seed", (2,): "identity", (0, 1): "architecture × seed", (0, 2): "architecture × identity",
    (1, 2): "seed × identity", (0, 1, 2): "rest",
}


def _mean_squares(table: Array) -> tuple[dict[_Axes, float], dict[_Axes, int]]:
    """Return the mean square of every effect of the three-way layout, and its degrees of freedom."""
    squares, free = {}, {}
    for axes in _NAMES:
        free[axes] = math.prod(table.shape[axis] - 1 for axis in axes)
        squares[axes] = float((_effect(table, axes) ** 2).sum() * _others(table.shape, axes) / free[axes])
    return squares, free


def _components(squares: Mapping[_Axes, float], sizes: tuple[int, ...]) -> dict[str, float]:
    """Return the components from the mean squares; a negative estimate is 0."""
    rest = squares[0, 1, 2]
    found = {}
    for axes, name in _NAMES.items():
        value = squares[axes]
        if len(axes) == 1:
            value += rest - sum(square for pair, square in squares.items() if len(pair) == 2 and axes[0] in pair)
        elif len(axes) == 2:
            value -= rest
        found[name] = max(0.0, value / _others(sizes, axes))
    return found


def _identities(table: Array) -> float:
    """Return the variance that the identities give the figure of a training, beside what they add to all."""
    parts = _components(_mean_squares(table)[0], table.shape)
    return (parts["architecture × identity"] + parts["rest"]) / int(table.shape[2])


def _others(sizes: tuple[int, ...], axes: _Axes) -> int:
    return math.prod(size for axis, size in enumerate(sizes) if axis not in axes)


def _effect(table: Array, axes: tuple[int, ...]) -> Array:
    """Return the effect of these axes: the means over the other axes, without the effects of fewer axes."""
    effect = np.zeros(tuple(size if axis in axes else 1 for axis, size in enumerate(table.shape)))
    for count in range(len(axes) + 1):
        for kept in itertools.combinations(axes, count):
            means = table.mean(axis=tuple(axis for axis in range(3) if axis not in kept), keepdims=True)
            effect = effect + (-1) ** (len(axes) - count) * means
    return effect


def _jackknife(left_out: list[float]) -> float:
    """Return the variance of an estimate from the estimates without each of n groups."""
    values = np.array(left_out)
    return float((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())
