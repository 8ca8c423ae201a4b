"""What a table says of architectures that were not trained: a Gaussian process over stages and slots (ours)."""
from __future__ import annotations

__all__ = ["SplitPredictor"]

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
_FOLDS = 10


class Quality(NamedTuple):
    """How well architectures are predicted that the predictor did not see (10 folds; the kernel is chosen in each anew).

    Attributes:
        error: root mean squared error in percent.
        spread: standard deviation of the scores: the error of a predictor that knows nothing.
        kendall: rank correlation of predictions and scores.
        architectures: number of architectures.
    """

    error: float
    spread: float
    kendall: float
    architectures: int


class _Kernel(NamedTuple):
    """Weights of the parts of the covariance of two architectures, and the noise of a score of one seed.

    Attributes:
        slots: of a term per slot.
        shape: of a smooth function of the shares of the stages that are split.
        length: distance in shares at which this function forgets.
        noise: variance of a training beside the variance of the scores.
    """

    slots: float
    shape: float
    length: float
    noise: float

    def matrix(self, one: Array, other: Array, stages: Sequence[tuple[int, int]]) -> Array:
        shares = [np.stack([bits[:, start:stop].mean(axis=1) for start, stop in stages], axis=1) for bits in (one, other)]
        distance = ((shares[0][:, None] - shares[1][None]) ** 2).sum(axis=2)
        linear = (shares[0] - 0.5) @ (shares[1] - 0.5).T
        slots = (one - 0.5) @ (other - 0.5).T / one.shape[1]
        smooth = np.exp(-distance / (2 * self.length**2))
        return np.asarray(1.0 + linear + self.slots * slots + self.shape * smooth, np.float64)


_KERNELS = [_Kernel(*values) for values in itertools.product((0.0, 0.3, 1.0, 3.0), (0.0, 1.0, 4.0), (0.5, 1.0), (0.03, 0.1, 0.3))]


class SplitPredictor:
    """Predicts the score of an architecture from those of others.

    The prior has a line per stage, a smooth function of the five shares of split slots and a line per slot. Their weights
    are chosen by the leave-one-out error (in closed form: Rasmussen and Williams, "Gaussian Processes for Machine
    Learning", 2006, 5.4.2).

    Args:
        bits: (A, slots) 0 or 1.
        scores: (A,) mean over seeds, in percent.
        seeds: (A,) number of seeds of each.
        stages: first slot and last + 1 of every stage.
        additive: a sum over slots and stages alone, without the smooth function.

    Attributes:
        quality: see :class:`Quality`; None where there are fewer than 20 architectures.

    Example:
        >>> bits = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
        >>> predictor = SplitPredictor(bits[:7], bits[:7].sum(axis=1), np.full(7, 5), [(0, 1), (1, 3)])
        >>> bool(abs(predictor.predict(bits[7:])[0][0] - 3) < 0.3)
        True
    """

    def __init__(
        self, bits: npt.ArrayLike, scores: npt.ArrayLike, seeds: npt.ArrayLike, stages: Sequence[tuple[int, int]],
        additive: bool = False,
    ) -> None:
        self._kernels = [kernel for kernel in _KERNELS if not (additive and kernel.shape)]
        self._bits, self._seeds, self._stages = np.asarray(bits, float), np.asarray(seeds, float), list(stages)
        values = np.asarray(scores, float)
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        self._values = (values - self._mean) / self._scale
        self._everything = np.arange(len(values))
        self._kernel = self._choose(self._everything)
        self.quality = self._quality() if len(values) >= 2 * _FOLDS else None

    def predict(self, bits: npt.ArrayLike) -> tuple[Array, Array]:
        """Return the scores of architectures (N, slots) in percent, and the standard deviations of their errors, (N,) each."""
        mean, deviation = self._predict(self._kernel, self._everything, np.asarray(bits, float))
        return self._mean + self._scale * mean, self._scale * deviation

    def _predict(self, kernel: _Kernel, known: npt.NDArray[np.int64], bits: Array) -> tuple[Array, Array]:
        inverse = self._inverse(kernel, known)
        across = kernel.matrix(bits, self._bits[known], self._stages)
        own = np.array([kernel.matrix(row[None], row[None], self._stages)[0, 0] for row in bits])
        variance = own - np.einsum("ij,jk,ik->i", across, inverse, across)
        return across @ inverse @ self._values[known], np.sqrt(np.maximum(variance, 0.0).astype(np.float64))

    def _inverse(self, kernel: _Kernel, known: npt.NDArray[np.int64]) -> Array:
        matrix = kernel.matrix(self._bits[known], self._bits[known], self._stages)
        return np.asarray(np.linalg.inv(matrix + np.diag(kernel.noise / self._seeds[known] + 1e-6)), np.float64)

    def _choose(self, known: npt.NDArray[np.int64]) -> _Kernel:
        """Return the kernel with the smallest leave-one-out error on the known architectures."""
        def error(kernel: _Kernel) -> float:
            inverse = self._inverse(kernel, known)
            return float(((inverse @ self._values[known] / np.diag(inverse)) ** 2).mean())

        return min(self._kernels, key=error)

    def _quality(self) -> Quality:
        count = len(self._values)
        fold = np.random.default_rng(0).permutation(count) % _FOLDS
        predicted = np.empty(count)
        for number in range(_FOLDS):
            known = np.flatnonzero(fold != number)
            predicted[fold == number] = self._predict(self._choose(known), known, self._bits[fold == number])[0]
        errors: Array = self._scale * (predicted - self._values)
        return Quality(
            float(np.sqrt((errors**2).mean())), self._scale, float(stats.kendalltau(predicted, self._values).statistic), count,
        )
