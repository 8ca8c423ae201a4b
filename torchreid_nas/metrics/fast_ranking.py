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


def evaluate_rank(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 50,
    use_metric_cuhk03: bool = False, use_cython: bool = True, *, original: Callable | None = None,
) -> tuple[np.ndarray, float]:
    """Rank as ``torchreid.metrics.evaluate_rank`` does, by :func:`~torchreid_nas.metrics.evaluate_market1501`.

    Without ties both agree to rounding. Ties keep the order of the gallery
    here, and depend on NumPy's unstable sort there. Where torchreid fails or is
    wrong, this is right: a gallery below ``max_rank`` whose rows differ in what
    they skip makes its CMC ragged.

    Args:
        distmat: (Q, G) distances, NumPy or torch.
        q_pids, g_pids, q_camids, g_camids: integer labels, (Q,) and (G,).
        max_rank: length of the CMC, at most G entries of which are returned, as by torchreid.
        use_metric_cuhk03: CUHK03's random single-gallery-shot metric; left to ``original``.
        use_cython: read by ``original`` only.
        original: torchreid's own function; by default the one that ``torchreid.metrics`` had before it was replaced.

    Returns:
        (min(max_rank, G),) float32 CMC and mAP.

    Raises:
        InputError: see :func:`~torchreid_nas.metrics.rank_queries`.
    """
    if use_metric_cuhk03:
        original = original or getattr(torchreid.metrics.evaluate_rank, "original", torchreid.metrics.evaluate_rank)
        return original(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03, use_cython)
    labels = (np.asarray(part) for part in (q_pids, g_pids, q_camids, g_camids))
    # What is no matrix, or an empty one, is refused there.
    size = next(iter(np.shape(distmat)[1:]), 0) or max_rank
    result = evaluate_market1501(distmat, *labels, max_rank=min(max_rank, size))
    return result.cmc.astype(np.float32), result.mAP


class use_fast_ranking:
    """Have all of torchreid rank by :func:`evaluate_rank`, until told otherwise.

    In force at once; a ``with`` block ends it, and so does :meth:`undo`::

        torchreid_nas.metrics.use_fast_ranking()          # for the rest of the process
        with torchreid_nas.metrics.use_fast_ranking():    # for one test
            engine.run(test_only=True)

    Every module of torchreid that holds the function by name gets the new one,
    in either of torchreid's layouts; names that scripts imported for themselves
    stay as they are. Blocks may be nested, and end in the reverse order.
    """

    def __init__(self) -> None:
        before = torchreid.metrics.evaluate_rank
        original = getattr(before, "original", before)
        fast = functools.wraps(evaluate_rank)(functools.partial(evaluate_rank, original=original))
        fast.original = original
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
