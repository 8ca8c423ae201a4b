"""``torchreid-nas compare``: what tested runs show of their methods, and what they do not."""
from __future__ import annotations

__all__ = ["Compared", "QueryChange", "Table", "compare_runs"]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.evidence.intervals import check_options
from torchreid_nas.evidence.pairs import holm
from torchreid_nas.evidence.runs import EvaluatedRun, Method, check_same_test, group_runs
from torchreid_nas.evidence.sides import Comparison, Estimate, compare_sides, compare_splits, estimate, estimate_splits
from torchreid_nas.evidence.store import StoredTest
from torchreid_nas.metrics.scores import SCORES, find_score

_MOST_CHANGED = 6


@dataclasses.dataclass(frozen=True)
class QueryChange:
    """A query whose average precision differs most between two methods.

    Attributes:
        path: of the query image, below the root of the data.
        pid: identity.
        a, b: average precision under either method, a mean over trials and seeds.
    """

    path: str
    pid: int
    a: float
    b: float


@dataclasses.dataclass(frozen=True)
class Table:
    """What is known of one target, feature and metric.

    Attributes:
        dataset, feature, protocol: what was tested, and how.
        score: name of the metric.
        estimates: by method.
        comparisons: pairs of methods, the p-values corrected for their number.
        changes: by pair, the queries that changed most, the largest gains of the first method first.
        identities: by pair, the identities that changed most, with the difference of their mean average precision.
    """

    dataset: str
    feature: str
    protocol: str
    score: str
    estimates: dict[str, Estimate]
    comparisons: list[Comparison]
    changes: dict[tuple[str, str], list[QueryChange]]
    identities: dict[tuple[str, str], list[tuple[int, float]]]


@dataclasses.dataclass(frozen=True)
class Compared:
    """All tables of a comparison.

    Attributes:
        methods: what was compared.
        tables: per target and metric.
        level: of the intervals.
        generated: whether the images are generated, so that nothing follows for a real data set.
    """

    methods: Sequence[Method]
    tables: Sequence[Table]
    level: float
    generated: bool

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        tables = []
        for table in self.tables:
            content = dataclasses.asdict(table)
            content["changes"] = [{"a": a, "b": b, "queries": [dataclasses.asdict(q) for q in queries]}
                                  for (a, b), queries in table.changes.items()]
            content["identities"] = [{"a": a, "b": b, "identities": found} for (a, b), found in table.identities.items()]
            tables.append(content)
        methods = [
            {"name": method.name, "runs": [run.path for run in method.runs], "seeds": [run.seed for run in method.runs]}
            for method in self.methods
        ]
        return {"level": self.level, "generated_images": self.generated, "methods": methods, "tables": tables}


def compare_runs(
    runs: Sequence[EvaluatedRun], scores: Sequence[str] = (), dataset: str = "", feature: str = "",
    control: str = "", level: float = 0.95, resamples: int = 10_000, seed: int = 0,
) -> Compared:
    """Return intervals of all methods of the runs, and the differences of pairs of methods.

    Args:
        runs: tested runs; those that differ in the seed alone are one method.
        scores: names of metrics, see :data:`torchreid_nas.metrics.SCORES`; default Rank-1 and mAP, of a classification top-1.
        dataset: one target; default all targets of the first run.
        feature: one feature; default the last feature of each target, the one that counts.
        control: folder of a run of the method to compare all others with; default all pairs.
        level: of the intervals.
        resamples: drawn test sets and exchanges.
        seed: of the draws.

    Raises:
        InputError: the runs do not compare, or an argument names nothing.
    """
    check_options(level, resamples, seed)
    for name in scores:
        if not find_score(name).rank and name not in SCORES:
            raise InputError(f'there is no metric "{name}", expected one of {", ".join(SCORES)}{nearest(name, SCORES)}')
    methods = group_runs(runs)
    pairs = _pairs(methods, control)
    scores = scores or (("rank1", "mAP") if all(map(_is_ranking, runs[0].tests.values())) else ("top1",))
    tables: list[Table] = []
    for target, which in _targets(runs[0], dataset, feature):
        for run in runs:
            _check_known(run, runs[0], target, which, scores)
        if any(len(method.splits) > 1 for method in methods):
            tables += [_over_splits(methods, pairs, target, which, name, level) for name in scores]
            continue
        for run in runs[1:]:
            check_same_test(runs[0], runs[0].tests[target, which], run, run.tests[target, which])
        tables += [_on_one_split(methods, pairs, target, which, name, (level, resamples, seed)) for name in scores]
    return Compared(methods, tables, level, any(run.generated for run in runs))


def _is_ranking(test: StoredTest) -> bool:
    """Return whether a test ranked a gallery; a classification has classes in its place and no average precision."""
    return "mAP" in test.trials[0].values


def _targets(run: EvaluatedRun, dataset: str, feature: str) -> list[tuple[str, str]]:
    """Return targets and features to compare on: of each target the last feature, unless others are asked for."""
    last = dict(run.tests.keys())
    if dataset and dataset not in last:
        raise InputError(f'"{run.path}" was not tested on "{dataset}", but on {", ".join(last)}{nearest(dataset, last)}')
    chosen = [dataset] if dataset else list(last)
    if feature:
        known = [which for target, which in run.tests if target in chosen]
        if feature not in known:
            raise InputError(
                f'"{run.path}" has no feature "{feature}", but {", ".join(dict.fromkeys(known))}{nearest(feature, known)}'
            )
        return [(target, feature) for target in chosen if (target, feature) in run.tests]
    return [(target, last[target]) for target in chosen]


def _pairs(methods: Sequence[Method], control: str) -> list[tuple[Method, Method]]:
    if not control:
        return [(a, b) for place, a in enumerate(methods) for b in methods[place + 1:]]
    named = Path(control)
    owner = next((m for m in methods if any(named in (Path(run.path), Path(run.path).parent) for run in m.runs)), None)
    if owner is None:
        raise InputError(f'--control names "{control}", which is none of the runs; name one of them')
    return [(method, owner) for method in methods if method is not owner]


def _check_known(run: EvaluatedRun, first: EvaluatedRun, target: str, feature: str, scores: Sequence[str]) -> None:
    """Raise InputError where a run was not tested on a target, or lacks the scores of a metric."""
    if (target, feature) not in run.tests:
        raise InputError(
            f'"{first.path}" was tested on {target} ({feature}) and "{run.path}" was not; test both on it, or name another by '
            "--dataset and --feature"
        )
    for name in scores:
        if not find_score(name).rank and name not in run.tests[target, feature].trials[0].values:
            key, known = SCORES[name].key, ", ".join(run.tests[target, feature].trials[0].values)
            way_out = f"test it again with {key} True" if key else f"expected {known}"
            raise InputError(f'"{run.path}" has no scores of {name}; {way_out}')


def _on_one_split(
    methods: Sequence[Method], pairs: Sequence[tuple[Method, Method]], target: str, feature: str, name: str,
    options: tuple[float, int, int],
) -> Table:
    """Return the table of a metric where all runs were tested on the same queries."""
    run = methods[0].runs[0]
    sides = {method.name: method.side(target, feature, name) for method in methods}
    estimates = {key: estimate(side, *options) for key, side in sides.items()}
    between = {}
    if _is_ranking(run.tests[target, feature]):
        precision = {method.name: method.side(target, feature, "mAP").scores.mean(axis=(0, 1)) for method in methods}
        between = {(a.name, b.name): (precision[a.name], precision[b.name]) for a, b in pairs}
    return Table(
        target, feature, run.tests[target, feature].protocol, name, estimates,
        _corrected([compare_sides(sides[a.name], sides[b.name], *options, family=len(pairs)) for a, b in pairs]),
        {pair: _changes(run, target, feature, *both) for pair, both in between.items()},
        {pair: _identities(run, target, feature, both[0] - both[1]) for pair, both in between.items()},
    )


def _over_splits(
    methods: Sequence[Method], pairs: Sequence[tuple[Method, Method]], target: str, feature: str, name: str, level: float,
) -> Table:
    """Return the table of a metric where every method was trained and tested on several splits."""
    first = methods[0]
    for method in methods[1:]:
        if method.splits != first.splits:
            raise InputError(
                f'"{first.runs[0].path}" and its like are of the splits {", ".join(map(str, first.splits))}, '
                f'"{method.runs[0].path}" and its like of {", ".join(map(str, method.splits))}; compare the same splits'
            )
    for split in first.splits:
        runs = [run for method in methods for run in method.runs if run.split == split]
        for run in runs[1:]:
            check_same_test(runs[0], runs[0].tests[target, feature], run, run.tests[target, feature])
    scores = {method.name: method.split_scores(target, feature, name) for method in methods}
    persons = first.persons(target, feature)
    found = [compare_splits(a.name, b.name, scores[a.name], scores[b.name], persons, level, len(pairs)) for a, b in pairs]
    return Table(
        target, feature, f"{len(first.splits)} splits, each trained and tested on its own", name,
        {key: estimate_splits(values, persons, level) for key, values in scores.items()}, _corrected(found), {}, {},
    )


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    p_values = holm([comparison.p_value for comparison in found])
    return [dataclasses.replace(comparison, p_value=p_value) for comparison, p_value in zip(found, p_values)]


def _changes(run: EvaluatedRun, target: str, feature: str, a: np.ndarray, b: np.ndarray) -> list[QueryChange]:
    test = run.tests[target, feature]
    queries = np.flatnonzero(test.valid)
    order = np.argsort(b - a, kind="stable")
    chosen = [*order[:_MOST_CHANGED], *order[-_MOST_CHANGED:]] if len(order) > 2 * _MOST_CHANGED else list(order)
    return [
        QueryChange(test.paths[queries[place]], int(test.pids[queries[place]]), float(a[place]), float(b[place]))
        for place in chosen if a[place] != b[place]
    ]


def _identities(run: EvaluatedRun, target: str, feature: str, difference: np.ndarray) -> list[tuple[int, float]]:
    test = run.tests[target, feature]
    pids = test.pids[test.valid]
    means = [(int(pid), float(difference[pids == pid].mean())) for pid in np.unique(pids)]
    ordered = sorted((found for found in means if found[1]), key=lambda found: -found[1])
    return [*ordered[:_MOST_CHANGED], *ordered[-_MOST_CHANGED:]] if len(ordered) > 2 * _MOST_CHANGED else ordered
