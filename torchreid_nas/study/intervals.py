"""How sure the figures of a study are, and which rows differ: from the scores of every query, with the seeds as replicates."""
from __future__ import annotations

__all__ = ["LEVEL", "add_intervals"]

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.pairs import holm
from torchreid_nas.evidence.runs import Method, check_same_test, read_run
from torchreid_nas.evidence.sides import Comparison, Estimate, Side, compare_sides, compare_splits, estimate, estimate_splits

LEVEL = 0.95
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Replicates:
    """The runs behind a cell of the table.

    Attributes:
        method: the runs, seed by seed.
        key: target and feature of their tests.
        seeds: values of ``train.seed``.
    """

    method: Method
    key: tuple[str, str]
    seeds: tuple[int, ...]

    @property
    def replicated(self) -> bool:
        """Whether a difference from another row is one of methods and not of two networks."""
        return len(self.seeds) > 1 or len(self.method.splits) > 1

    def side(self, score: str) -> Side:
        """Return the scores per seed; the runs of one seed, such as random architectures, are averaged as in the table."""
        own = self.method.side(*self.key, score)
        _, trials, queries = own.scores.shape
        return Side(own.name, own.scores.reshape(len(self.seeds), -1, trials, queries).mean(axis=1), own.pids, self.seeds)

    def estimate(self, score: str) -> Estimate:
        """Return the figure with its interval."""
        if len(self.method.splits) > 1:
            return estimate_splits(self.method.split_scores(*self.key, score), self.method.persons(*self.key), LEVEL)
        return estimate(self.side(score), LEVEL)

    def compare(self, other: _Replicates, score: str, family: int) -> Comparison:
        """Return how far these runs differ from those of another row.

        Raises:
            InputError: the rows were not tested alike.
        """
        splits = self.method.splits
        if splits != other.method.splits:
            raise InputError(f'the rows "{self.method.name}" and "{other.method.name}" were not trained on the same splits')
        for split in splits:
            mine, theirs = (next(run for run in row.method.runs if run.split == split) for row in (self, other))
            check_same_test(mine, mine.tests[self.key], theirs, theirs.tests[other.key])
        if len(splits) == 1:
            return compare_sides(self.side(score), other.side(score), LEVEL, family=family)
        scores = [row.method.split_scores(*row.key, score) for row in (self, other)]
        return compare_splits(
            self.method.name, other.method.name, scores[0], scores[1], self.method.persons(*self.key), LEVEL, family,
        )


def add_intervals(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of ``study.json`` with an interval beside every figure, and with the differences of the rows.

    The metrics that the table shows get ``low`` and ``high`` beside mean and deviation: the interval of
    :func:`torchreid_nas.evidence.sides.estimate`, which holds for other persons and other seeds. Each row is compared with the
    first row of the study (:func:`torchreid_nas.evidence.sides.compare_sides`); the p-values of one column of the table are
    corrected together (Holm). A cell whose runs keep no scores of their queries has no interval, and a warning says why.

    Args:
        content: of ``study.json``.
        folder: of the study.

    Returns:
        A copy with ``level`` and ``differences``: row, column, data set, metric, difference from the first row as a fraction,
        low and high end, corrected p-value, and the smallest difference that would mostly show.
    """
    known: dict[tuple[str, str, str, str], _Replicates] = {}
    cells = []
    read = cache(read_run)
    for cell in content["cells"]:
        scores = dict(cell["scores"])
        try:
            own = _replicates(cell, content["runs"], folder, read)
            for name in (name for name in content["shown"]["scores"] if name in scores):
                found = own.estimate(name)
                scores[name] = {**scores[name], "low": found.low, "high": found.high}
                known[cell["row"], cell["column"], cell["dataset"], name] = own
        except InputError as error:
            logger.warning(f'no interval for the row "{cell["row"]}" on {cell["dataset"]}: {error}')
        cells.append({**cell, "scores": scores})
    return {**content, "cells": cells, "level": LEVEL, "differences": _differences(content, known)}


def _replicates(cell: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], folder: Path, read: Any) -> _Replicates:
    own = [
        read(folder / run["folder"]) for seed in cell["seeds"] for run in runs
        if run["state"] == "finished" and (run["row"], run["column"], run["seed"]) == (cell["row"], cell["column"], seed)
    ]
    keys = [key for key, test in own[0].tests.items() if (test.dataset, test.feature) == (cell["target"], cell["feature"])]
    if len(keys) > 1:
        keys = [key for key in keys if own[0].tests[key].protocol == cell["protocol"]]
    if not keys:
        raise InputError("its queries differ from trial to trial, so that nothing is known of single queries")
    return _Replicates(Method(cell["row"], tuple(own)), keys[0], tuple(cell["seeds"]))


def _differences(content: Mapping[str, Any], known: Mapping[tuple[str, str, str, str], _Replicates]) -> list[dict[str, Any]]:
    first, *rows = content["rows"]
    found = []
    for column, dataset, score in dict.fromkeys((column, dataset, score) for _, column, dataset, score in known):
        control = known.get((first, column, dataset, score))
        others = [known[row, column, dataset, score] for row in rows if (row, column, dataset, score) in known]
        if control is None or not others or not all(row.replicated for row in (control, *others)):
            continue
        try:
            compared = [other.compare(control, score, len(others)) for other in others]
        except InputError as error:
            logger.warning(f'no differences from the row "{first}" on {dataset}: {error}')
            continue
        corrected = holm([one.p_value for one in compared])
        found += [
            {
                "row": one.a, "column": column, "dataset": dataset, "score": score, "difference": one.difference,
                "low": one.low, "high": one.high, "p_value": p_value, "smallest": one.smallest,
            }
            for one, p_value in zip(compared, corrected)
        ]
    return found
