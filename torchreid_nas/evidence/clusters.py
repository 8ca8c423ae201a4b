"""Queries grouped by identity: the unit in which a test set was drawn."""
from __future__ import annotations

__all__ = ["Clusters"]

from collections.abc import Iterator
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError

_BLOCK_BYTES = 32 * 2**20


class Clusters:
    """Queries of a test set by identity.

    The queries of one identity show one person in one set of clothes, so their scores rise and fall together. A test set
    of 96 identities with 40 queries each therefore holds far less than 3,840 independent scores. Everything in this
    package resamples identities and keeps the queries of an identity together.

    Args:
        pids: (Q,) identities of the queries, integers.

    Attributes:
        count: number of identities, K.
        sizes: (K,) int64, queries per identity.

    Raises:
        InputError: ``pids`` are no integers, or show one identity only.

    Examples:
        >>> clusters = Clusters([7, 7, 3])
        >>> clusters.sums([1.0, 0.0, 0.5])
        array([0.5, 1. ])
    """

    def __init__(self, pids: Any) -> None:
        pids = np.asarray(pids)
        if pids.ndim != 1 or pids.dtype.kind not in "iu":
            raise InputError(
                f"pids have shape {pids.shape} and dtype {pids.dtype}, expected one integer identity per query (Q,)"
            )
        found, self._of_query, self.sizes = np.unique(pids, return_inverse=True, return_counts=True)
        self.count = len(found)
        if self.count < 2:
            identities = "identity" if self.count else "identities"
            raise InputError(
                f"the scores are of {self.count} {identities}, expected at least 2; with one identity nothing tells how much "
                "figures vary between persons"
            )

    def values(self, values: Any, name: str = "values") -> np.ndarray:
        """Return scores as a (Q,) float64 array.

        Args:
            values: one score per query: 0 or 1 for a hit, or a number such as the average precision.
            name: the argument's name, for the error.

        Raises:
            InputError: the number of scores is not that of the queries, or a score is not finite.
        """
        array = np.asarray(values, dtype=np.float64)
        if array.shape != self._of_query.shape:
            raise InputError(f"{name} have shape {array.shape}, expected {self._of_query.shape}: one score per identity in pids")
        if not np.isfinite(array).all():
            query = int(np.flatnonzero(~np.isfinite(array))[0])
            raise InputError(f"{name}[{query}] is {array[query]}, expected finite scores; leave out queries that have none")
        return array

    def sums(self, values: Any, name: str = "values") -> np.ndarray:
        """Return the (K,) sums of scores by identity, in the order of the identities; arguments as :meth:`values`."""
        return np.bincount(self._of_query, weights=self.values(values, name), minlength=self.count)

    def resampled_means(self, sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
        """Return the mean score of test sets of K identities drawn with replacement.

        Args:
            sums: (K,) sums of scores by identity.
            resamples: number of test sets, R.
            seed: of the draws; the same seed draws the same identities for every ``sums``.

        Returns:
            (R,) float64.
        """
        generator = np.random.default_rng(seed)
        means = [
            sums[drawn].sum(axis=1) / self.sizes[drawn].sum(axis=1)
            for drawn in (generator.integers(0, self.count, size=(rows, self.count)) for rows in self._rows(resamples))
        ]
        return np.concatenate(means)

    def flipped_means(self, sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
        """Return the mean score when the sign of every identity's scores is drawn at random.

        Args:
            sums: (K,) sums of differences by identity.
            resamples: number of draws, R.
            seed: of the draws.

        Returns:
            (R,) float64; all 2^K means once where that is no more than ``resamples``.
        """
        total = self.sizes.sum()
        if self.count < 60 and 2**self.count <= resamples:
            signs = (np.arange(2**self.count)[:, None] >> np.arange(self.count) & 1) * 2.0 - 1.0
            return signs @ sums / total
        generator = np.random.default_rng(seed)
        means = [
            (generator.integers(0, 2, size=(rows, self.count), dtype=np.int8) * 2.0 - 1.0) @ sums / total
            for rows in self._rows(resamples)
        ]
        return np.concatenate(means)

    def left_out_means(self, sums: np.ndarray) -> np.ndarray:
        """Return the (K,) mean scores of the test set without each identity in turn (the jackknife)."""
        return (sums.sum() - sums) / (self.sizes.sum() - self.sizes)

    def variance_of_mean(self, sums: np.ndarray) -> float:
        """Return the variance of the mean score over test sets of K identities, by linearisation of the ratio.

        The scores' mean is a ratio of two sums over identities. Its variance is K / (K - 1) times the sum of the squared
        residuals of the identities' sums, over the squared number of queries (Cochran, "Sampling Techniques", 1977, 6.9).
        """
        total = self.sizes.sum()
        residuals = sums - self.sizes * (sums.sum() / total)
        return float(self.count / (self.count - 1) * (residuals**2).sum() / total**2)

    def _rows(self, resamples: int) -> Iterator[int]:
        """Part ``resamples`` into blocks of bounded memory; the parts depend on ``resamples`` and K alone."""
        block = max(1, _BLOCK_BYTES // (8 * self.count))
        for start in range(0, resamples, block):
            yield min(block, resamples - start)
