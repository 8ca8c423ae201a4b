"""This package's ranking for engines and scripts of torchreid that call ``torchreid.metrics.evaluate_rank``."""
from __future__ import annotations

__all__ = ["evaluate_rank", "use_fast_ranking"]

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import torchreid

from torchreid_nas.metrics.protocols import evaluate_market1501

_Ranker = Callable[..., tuple[np.ndarray, float]]


def evaluate_rank(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 50,
    use_metric_cuhk03: bool = False, use_cython: bool = True, *, original: _Ranker | None = None,
) -> tuple[np.ndarray, float]:
    """Rank as ``torchreid.metrics.evaluate_rank`` does, by :func:`~torchreid_nas.metrics.evaluate_market1501`.

    Without ties both agree to rounding. Ties keep the order of the gallery
    here, and depend on NumPy's unstable sort there. Where torchreid fails or is
    wrong, this is right: a gallery below ``max_rank`` whose rows differ in what
    they skip makes its CMC ragged.

    Args:
        distmat: (Q, G) distances, NumPy or torch.
        q_pids: (Q,) integer identities of the queries.
        g_pids: (G,) integer identities of the gallery.
        q_camids: (Q,) integer cameras of the queries.
        g_camids: (G,) integer cameras of the gallery.
        max_rank: length of the CMC, at most G entries of which are returned, as by torchreid.
        use_metric_cuhk03: CUHK03's random single-gallery-shot metric; left to ``original``.
        use_cython: read by ``original`` only.
        original: torchreid's own function; by default the one that ``torchreid.metrics`` had before it was replaced.

    Returns:
        (min(max_rank, G),) float32 CMC and mAP.

    Raises:
        InputError: see :func:`~torchreid_nas.metrics.rank_queries`.

    Example:
        >>> cmc, mean_average_precision = evaluate_rank([[0.1, 0.2]], [1], [2, 1], [0], [1, 1])
        >>> cmc.tolist(), mean_average_precision
        ([0.0, 1.0], 0.5)
    """
    if use_metric_cuhk03:
        before: _Ranker = getattr(torchreid.metrics.evaluate_rank, "original", torchreid.metrics.evaluate_rank)
        return (original or before)(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03, use_cython)
    q_pids, g_pids, q_camids, g_camids = (np.asarray(part) for part in (q_pids, g_pids, q_camids, g_camids))
    # The protocol refuses what is no matrix, and an empty one.
    size = next(iter(np.shape(distmat)[1:]), 0) or max_rank
    result = evaluate_market1501(distmat, q_pids, g_pids, q_camids, g_camids, min(max_rank, size))
    return result.cmc.astype(np.float32), result.mAP


class use_fast_ranking:
    """Have all of torchreid rank by :func:`evaluate_rank`, until told otherwise.

    In force at once; a ``with`` block ends it, and so does :meth:`undo`::

        torchreid_nas.metrics.use_fast_ranking()          # for the rest of the process
        with torchreid_nas.metrics.use_fast_ranking():    # for one test
            engine.run(test_only=True)

    Example:
        >>> import torchreid
        >>> with use_fast_ranking():
        ...     torchreid.metrics.evaluate_rank.__module__
        'torchreid_nas.metrics.fast_ranking'

    Every module of torchreid that holds the function by name gets the new one,
    in either of torchreid's layouts; names that scripts imported for themselves
    stay as they are. Blocks may be nested, and end in the reverse order.
    """

    def __init__(self) -> None:
        before = torchreid.metrics.evaluate_rank
        original = getattr(before, "original", before)
        fast = functools.wraps(evaluate_rank)(functools.partial(evaluate_rank, original=original))
        # Where the next block, and evaluate_rank itself, look for torchreid's own function.
        setattr(fast, "original", original)  # noqa: B010  mypy knows no attributes of functions
        self._replaced = [
            (module, name, value)
            for module in _modules_of_torchreid() for name, value in list(vars(module).items()) if value is before
        ]
        for module, name, _ in self._replaced:
            setattr(module, name, fast)

    def undo(self) -> None:
        """Put back what was there before; a second time it does nothing."""
        while self._replaced:
            setattr(*self._replaced.pop())

    def __enter__(self) -> use_fast_ranking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None,
    ) -> None:
        self.undo()


def _modules_of_torchreid() -> list[Any]:
    return [module for name, module in list(sys.modules.items()) if name == "torchreid" or name.startswith("torchreid.")]
