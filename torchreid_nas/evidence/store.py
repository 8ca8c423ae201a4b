"""The scores of every query of a test, beside the figures that follow from them: ``scores.npz``."""
from __future__ import annotations

__all__ = ["StoredTest", "load_scores", "save_scores"]

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.archive import read_arrays
from torchreid_nas.files import atomic_path
from torchreid_nas.metrics.query_scores import QueryScores
from torchreid_nas.metrics.scores import find_score

_FORMAT = 1
_MAX_RANK = 20  # length of the CMC of a test


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTest:
    """One target and feature of a test.

    Attributes:
        dataset: name of the target.
        feature: which feature was scored.
        protocol: what ``results.json`` says of how the target was tested.
        trials: scores per gallery trial.
        paths: Q names of the query images, relative to the root of the data.
        pids: (Q,) int64 identities of the queries.
        camids: (Q,) int64 cameras of the queries, 0-based.
        drawn_queries: whether every trial draws its queries anew, so that a query counts in some trials alone.
    """

    dataset: str
    feature: str
    protocol: str
    trials: Sequence[QueryScores]
    paths: Sequence[str]
    pids: npt.NDArray[np.int64]
    camids: npt.NDArray[np.int64]
    drawn_queries: bool = False

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(Q,) bool: whether a query counts in every trial."""
        return np.logical_and.reduce([trial.valid for trial in self.trials])

    def scores(self, name: str) -> npt.NDArray[np.float64]:
        """Return a metric, (T, V) float64, of the V queries that count in every trial."""
        return np.stack([trial.score(name)[self.valid] for trial in self.trials])

    def mean(self, name: str) -> float:
        """Return the figure: the mean over the trials of the mean over the queries that count in each.

        It is computed as ``results.json`` computes it and so equals the figure there to the last bit.
        """
        rank = find_score(name).rank
        if not rank:
            return float(np.array([trial.means()[name] for trial in self.trials]).mean())
        # Of a matrix NumPy adds up row after row, of one column in another order, which rounds otherwise.
        return float(np.stack([trial.cmc(max(rank, _MAX_RANK)) for trial in self.trials]).mean(axis=0)[rank - 1])


def save_scores(path: str | os.PathLike[str], tests: Sequence[StoredTest]) -> None:
    """Write the scores of a test.

    Ranks and counts are integers of the fewest bytes that hold them. A metric's values are written once each, with the
    place of every query's value among them: that loses no bit, and single-shot tests have few different values.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    rows = []
    for number, test in enumerate(tests):
        names = list(test.trials[0].values)
        queries = f"queries/{test.dataset}{'/drawn' if test.drawn_queries else ''}"
        rows.append({
            "dataset": test.dataset, "feature": test.feature, "protocol": test.protocol, "metrics": names,
            "galleries": [trial.gallery for trial in test.trials], "queries": queries, "drawn_queries": test.drawn_queries,
        })
        names_of_images = "\n".join(test.paths).encode("utf-8", "surrogateescape")
        arrays[f"{queries}/paths"] = np.frombuffer(names_of_images, np.uint8)
        arrays[f"{queries}/pids"], arrays[f"{queries}/camids"] = test.pids, test.camids
        arrays[f"{number}/first"] = _narrow(np.stack([trial.first for trial in test.trials]))
        arrays[f"{number}/positives"] = _narrow(np.stack([trial.positives for trial in test.trials]))
        for name in names:
            values = np.stack([trial.values[name] for trial in test.trials])
            distinct, places = np.unique(values, return_inverse=True)
            arrays[f"{number}/{name}/values"] = distinct
            arrays[f"{number}/{name}/places"] = _narrow(places.reshape(values.shape))
    arrays["index"] = np.frombuffer(json.dumps({"format": _FORMAT, "tests": rows}).encode(), np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle


def load_scores(path: str | os.PathLike[str]) -> list[StoredTest]:
    """Return what :func:`save_scores` wrote.

    Raises:
        InputError: there is no such file, as in runs of earlier versions, or it is damaged.
    """
    missing = "the scores of the queries are not known; test the run again with this version (--stages test)"
    with read_arrays(Path(path), missing) as arrays:
        index = json.loads(arrays["index"].tobytes())
        if index["format"] != _FORMAT:
            raise InputError(f'"{path}" has format {index["format"]}, expected {_FORMAT}; test the run again with this version')
        return [_stored(arrays, number, row) for number, row in enumerate(index["tests"])]


def _stored(arrays: Mapping[str, npt.NDArray[Any]], number: int, row: Mapping[str, Any]) -> StoredTest:
    first, positives = (arrays[f"{number}/{part}"].astype(np.int32) for part in ("first", "positives"))
    values = {name: arrays[f"{number}/{name}/values"][arrays[f"{number}/{name}/places"]] for name in row["metrics"]}
    pids, camids = (arrays[f"{row['queries']}/{part}"].astype(np.int64) for part in ("pids", "camids"))
    paths = arrays[f"{row['queries']}/paths"].tobytes().decode("utf-8", "surrogateescape").split("\n")
    shape = (len(row["galleries"]), len(paths))
    shapes = {first.shape, positives.shape, *(array.shape for array in values.values())}
    if shapes != {shape} or not len(pids) == len(camids) == shape[1]:
        raise ValueError("shapes")
    trials = [
        QueryScores(first[trial], positives[trial], int(gallery), {name: array[trial] for name, array in values.items()})
        for trial, gallery in enumerate(row["galleries"])
    ]
    return StoredTest(
        str(row["dataset"]), str(row["feature"]), str(row["protocol"]), trials, paths, pids, camids,
        bool(row.get("drawn_queries")),
    )


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return integers in the smallest type that holds them."""
    return values.astype(np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
