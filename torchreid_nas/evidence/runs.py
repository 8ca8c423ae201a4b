"""Tested runs as methods under comparison: runs that differ in the seed alone are one method."""
from __future__ import annotations

__all__ = ["EvaluatedRun", "Method", "check_same_test", "group_runs", "read_run", "read_runs"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from torchreid_nas.config import flatten
from torchreid_nas.data import dataset_facts
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.certificate import read_certificate
from torchreid_nas.evidence.sides import Side
from torchreid_nas.evidence.store import StoredTest, load_scores
from torchreid_nas.files import file_digest
from torchreid_nas.metrics.scores import row_scores
from torchreid_nas.run.folder import RunFolder

# Two runs that differ in nothing but these keys are two trainings of one method, on one split or on two.
_NOT_THE_METHOD = (
    "train.seed", "data.split_id", "data.root", "data.save_dir", "data.cache_dir", "data.cache", "data.workers", "device",
    "logger", "report.enabled", "test.batch_size", "test.compile", "test.keep_features", "test.matrix_gib", "test.protocol",
    "test.ranks", "test.trapezoid_map", "test.visrank", "test.visrank_topk",
)
_LISTS = ("query", "gallery", "galleries")
_FURTHER = ": "  # between the name of a target and a protocol beside the first one


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """What a run's folder says of its test.

    Attributes:
        path: the folder, as the user names it.
        config: values by key.
        tests: scores by target and feature. A target that was tested under further protocols is named with each of them.
        generated: whether the images are generated.
        lists: per target and protocol the digests of lists of images and of gallery draws, as the certificate holds them.
        weights: SHA-256 of the weights that were tested.
    """

    path: str
    config: Mapping[str, Any]
    tests: Mapping[tuple[str, str], StoredTest]
    generated: bool
    lists: Mapping[tuple[str, str], Mapping[str, Any]]
    weights: str

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return int(self.config["train.seed"])

    @property
    def split(self) -> int:
        """The split of the data sets; 0 where no target has several."""
        targets = {name.partition(_FURTHER)[0] for name, _ in self.tests}
        return int(self.config["data.split_id"]) if any(map(_has_splits, targets)) else 0

    @property
    def method(self) -> tuple[tuple[str, str], ...]:
        """What the run has in common with other trainings of its method."""
        return tuple((key, repr(value)) for key, value in sorted(self.config.items()) if key not in _NOT_THE_METHOD)


@dataclasses.dataclass(frozen=True)
class Method:
    """Runs that differ in the seed alone.

    Attributes:
        name: the values of the keys by which it differs from the other methods; the folder where it is one run.
        runs: in the order of their splits and seeds.
    """

    name: str
    runs: tuple[EvaluatedRun, ...]

    @property
    def splits(self) -> tuple[int, ...]:
        """The splits that the method was trained and tested on."""
        return tuple(dict.fromkeys(run.split for run in self.runs))

    def split_scores(self, dataset: str, feature: str, score: str) -> list[np.ndarray]:
        """Return per split the scores of its queries that count, means over its seeds and gallery trials.

        Raises:
            InputError: a score is not finite.
        """
        found = []
        for split in self.splits:
            own = Method(self.name, tuple(run for run in self.runs if run.split == split))
            found.append(own.side(dataset, feature, score).scores.mean(axis=(0, 1)))
        return found

    def persons(self, dataset: str, feature: str) -> list[np.ndarray]:
        """Return per split a number for the person of every query that counts, the same in all splits.

        Splits number their identities anew. Two identities of two splits are one person where they share a query image.
        """
        person_of: dict[str, int] = {}
        found = []
        for split in self.splits:
            test = _find(next(run for run in self.runs if run.split == split), dataset, feature)
            numbers = np.empty(len(test.pids), dtype=np.int64)
            for pid in np.unique(test.pids):
                places = np.flatnonzero(test.pids == pid)
                paths = [test.paths[int(place)] for place in places]
                known = next((person_of[path] for path in paths if path in person_of), len(person_of))
                numbers[places] = known
                person_of.update(dict.fromkeys(paths, known))
            found.append(numbers[test.valid])
        return found

    def side(self, dataset: str, feature: str, score: str) -> Side:
        """Return the scores of all runs on the queries that count.

        Raises:
            InputError: the runs were not tested on the same queries, or a score is not finite.
        """
        tests = [_find(run, dataset, feature) for run in self.runs]
        for run, test in zip(self.runs[1:], tests[1:]):
            check_same_test(self.runs[0], tests[0], run, test)
        scores = np.stack([test.scores(score) for test in tests])
        if not np.isfinite(scores).all():
            raise InputError(
                f'"{self.runs[0].path}" has scores of {score} that are not finite; test the run again (--stages test)'
            )
        return Side(self.name, scores, tests[0].pids[tests[0].valid], tuple(run.seed for run in self.runs))


def read_run(path: str | Path) -> EvaluatedRun:
    """Return what a run's folder says of its test.

    Raises:
        InputError: the folder is no run, the run is not tested, or its scores are not those that its figures follow from.
    """
    folder = RunFolder(Path(path).expanduser())
    if not folder.results.is_file():
        raise InputError(
            f'"{path}" holds no {folder.results.name}; name the folder of a run whose test stage is finished'
        )
    results = folder.read_results()
    if "results" not in results or not folder.config.is_file():
        raise InputError(
            f'"{path}" is no run of one training; name the folders of its runs, for example one of split_0, split_1, …'
        )
    config = _read_config(folder)
    stored = {(test.dataset, test.feature, test.protocol): test for test in load_scores(folder.scores)}
    try:
        wrong = [
            f"{key[0]}, {key[1]}"
            for key, row in (((row["dataset"], row["feature"], row["protocol"]), row) for row in results["results"])
            if key not in stored or any(stored[key].mean(name) != value for name, value in row_scores(row).items())
        ]
        generated = bool(results["data"]["synthetic"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'"{folder.results}" is not what a test writes ({type(error).__name__}); test the run again (--stages test)'
        ) from error
    if wrong:
        raise InputError(
            f'"{folder.scores}" and "{folder.results}" are not of one test: the figures of {wrong[0]}, do not follow from the '
            "scores; test the run again (--stages test)"
        )
    certificate = read_certificate(folder.certificate)
    if certificate["files"]["scores"]["sha256"] != file_digest(folder.scores, "sha256"):
        raise InputError(
            f'"{folder.certificate}" is not of the test that wrote "{folder.scores}"; test the run again (--stages test)'
        )
    tests: dict[tuple[str, str], StoredTest] = {}
    for test in (test for test in stored.values() if not test.drawn_queries):
        further = (test.dataset, test.feature) in tests
        tests[f"{test.dataset}{_FURTHER}{test.protocol}" if further else test.dataset, test.feature] = test
    if not tests:
        raise InputError(
            f'"{path}" was tested under {next(iter(stored.values())).protocol} alone, whose queries differ from trial to trial, '
            "so that nothing can be paired by query; test it under another test.protocol too"
        )
    lists = {
        (test["dataset"], test["setting"]): {part: test[part] for part in _LISTS} for test in certificate["tests"]
    }
    return EvaluatedRun(str(path), config, tests, generated, lists, certificate["files"]["weights"]["sha256"])


def _read_config(folder: RunFolder) -> dict[str, Any]:
    """Return the values of a run's config by key."""
    try:
        config = dict(flatten(yaml.safe_load(folder.config.read_text(encoding="utf-8"))))
        int(config["train.seed"]), int(config["data.split_id"])
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f'"{folder.config}" is not the config of a run ({type(error).__name__}); restore the file, or test the run again'
        ) from error
    return config


def read_runs(path: str | Path) -> list[EvaluatedRun]:
    """Return the runs of a folder: its own, or those of a series over the splits of a data set.

    Raises:
        InputError: as :func:`read_run`.
    """
    folder = RunFolder(Path(path).expanduser())
    trials = folder.trials()
    return [read_run(trial.path) for trial in trials] if trials else [read_run(path)]


def group_runs(runs: Sequence[EvaluatedRun]) -> list[Method]:
    """Return the methods of runs, in the order of their first runs.

    Raises:
        InputError: two runs are one training: the same method and seed, or the same weights.
    """
    groups: dict[tuple[tuple[str, str], ...], list[EvaluatedRun]] = {}
    for run in runs:
        group = groups.setdefault(run.method, [])
        twin = next((other for other in group if (other.seed, other.split) == (run.seed, run.split)), None)
        if twin is not None:
            raise InputError(
                f'"{twin.path}" and "{run.path}" are one method with one seed ({run.seed}); compare runs that differ in a key '
                "of the config, in train.seed or in data.split_id"
            )
        same = next((other for other in group if other.weights == run.weights), None)
        if same is not None:
            raise InputError(
                f'"{same.path}" and "{run.path}" have two seeds and were tested with the same weights, so that they are one '
                "training; compare one of them"
            )
        group.append(run)
    differing = _differing_keys(groups)
    methods = []
    for group in groups.values():
        name = ", ".join(f"{key} {_shown(group[0].config.get(key))}" for key in differing) or group[0].path
        methods.append(Method(name, tuple(sorted(group, key=lambda run: (run.split, run.seed)))))
    return methods


def check_same_test(a: EvaluatedRun, test_a: StoredTest, b: EvaluatedRun, test_b: StoredTest) -> None:
    """Raise InputError where two runs were not tested in one way on the same queries, with both named."""
    if test_a.protocol != test_b.protocol:
        raise InputError(
            f'"{a.path}" was tested under "{test_a.protocol}" and "{b.path}" under "{test_b.protocol}"; figures compare only '
            "under one protocol: test both under the same"
        )
    lists = [run.lists.get((test_a.dataset, test_a.protocol)) for run in (a, b)]
    if lists[0] != lists[1]:
        digests = [str((found or {}).get("gallery", "unknown"))[:12] for found in lists]
        if lists[0] and lists[1] and lists[0]["query"] != lists[1]["query"]:
            digests = [found["query"][:12] for found in lists if found]
        raise InputError(
            f'"{a.path}" and "{b.path}" were tested on other lists of images of {test_a.dataset}, or on other gallery draws '
            f"(digests {digests[0]} and {digests[1]}); test both on one copy of the data"
        )
    same = (
        list(test_a.paths) == list(test_b.paths) and np.array_equal(test_a.pids, test_b.pids)
        and np.array_equal(test_a.camids, test_b.camids) and len(test_a.trials) == len(test_b.trials)
        and all(
            np.array_equal(one.positives, other.positives) and one.gallery == other.gallery
            for one, other in zip(test_a.trials, test_b.trials)
        )
    )
    if not same:
        raise InputError(
            f'"{a.path}" and "{b.path}" were not tested with the same queries and galleries of {test_a.dataset}; test both on '
            "one split"
        )


def _has_splits(dataset: str) -> bool:
    """Return whether a data set has several fixed splits; True where it is not registered here, so that nothing is known."""
    try:
        return dataset_facts(dataset).num_splits > 1
    except InputError:
        return True


def _shown(value: Any) -> str:
    """Return a value of the config as names of methods show it."""
    return '""' if value == "" else str(value)


def _find(run: EvaluatedRun, dataset: str, feature: str) -> StoredTest:
    test = run.tests.get((dataset, feature))
    if test is None:
        known = ", ".join(f"{name} ({feature})" for name, feature in run.tests)
        raise InputError(f'"{run.path}" was not tested on {dataset} ({feature}), but on {known}; compare runs of one test')
    return test


def _differing_keys(groups: Mapping[Any, Sequence[EvaluatedRun]]) -> list[str]:
    """Return keys whose values tell all methods apart; the one that tells most apart comes first."""
    firsts = [group[0].config for group in groups.values()]
    keys = list(dict.fromkeys(key for config in firsts for key in config if key not in _NOT_THE_METHOD))
    chosen: list[str] = []

    def told_apart(key: str) -> int:
        return len({tuple(repr(config.get(own)) for own in (*chosen, key)) for config in firsts})

    while keys and (told := max(map(told_apart, keys))) > (told_apart(chosen[-1]) if chosen else 1):
        chosen.append(next(key for key in keys if told_apart(key) == told))
    return chosen
