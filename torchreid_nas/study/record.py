"""What a study found: the content of ``study.json``, from the folders of its runs."""
from __future__ import annotations

__all__ = ["MISSING", "StudyFolder", "record_study"]

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torchreid_nas
from torchreid_nas.errors import InputError
from torchreid_nas.files import read_json, write_json
from torchreid_nas.metrics.scores import row_scores
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.guards import is_finished
from torchreid_nas.run.results import average_rows
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.study.definition import Study
from torchreid_nas.study.grid import Member

FINISHED, FAILED, MISSING = "finished", "failed", "missing"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study: a folder per row, column and seed, and what is said of all of them.

    Args:
        path: the folder; it need not exist.

    Example:
        >>> StudyFolder(Path("runs/terms")).table("md").as_posix()
        'runs/terms/table.md'
    """

    path: Path

    @property
    def record(self) -> Path:
        """What was run and found."""
        return self.path / "study.json"

    @property
    def figure(self) -> Path:
        """The picture."""
        return self.path / "figures" / "study.png"

    def table(self, suffix: str) -> Path:
        """Return the table as ``txt``, ``md``, ``tex`` or ``csv``."""
        return self.path / f"table.{suffix}"

    def read(self) -> dict[str, Any]:
        """Return the content of ``study.json``, empty where there is none.

        Raises:
            InputError: the file is no record of a study.
        """
        if not self.record.exists():
            return {}
        content = read_json(self.record)
        if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
            raise InputError(f'"{self.record}" is no record of a study; remove the file, the runs beside it are taken over')
        return content


def record_study(
    study: Study, members: Sequence[Member], runs: Sequence[Mapping[str, Any]], folder: StudyFolder,
) -> dict[str, Any]:
    """Write ``study.json`` and return its content.

    Args:
        study: what is run.
        members: its runs.
        runs: what is known of each of them, in the same order: ``state``, ``error``, ``user_seconds``, ``seconds`` and, where
            they are shown, ``parameters`` and ``macs``.
        folder: of the study.

    Raises:
        InputError: a results file is damaged, the folder cannot be written, or one column of the table would hold two protocols;
            in this last case the file is written, without that column.
    """
    places = [member.folder.path.relative_to(folder.path).as_posix() for member in members]
    described = [
        {
            "row": member.row, "column": member.column, "part": member.part, "seed": member.seed, "folder": place, **run,
            "took": {stage: places[maker] for stage, maker in member.takes.items()},
        }
        for member, place, run in zip(members, places, runs)
    ]
    cells = list(_cells(study, members, runs))
    mixed = _mixed(cells)
    content = {
        "study": study.name, "title": study.title, "paper": study.paper, "note": study.note, "sweep": study.sweep,
        "figure": study.figure, "version": torchreid_nas.__version__, "seeds": list(dict.fromkeys(m.seed for m in members)),
        "rows": [row.name for row in study.rows], "columns": [column.name for column in study.columns],
        "shown": asdict(study.shown), "published": asdict(study.published) if study.published else None,
        "runs": described, "cells": [cell for cell in cells if (cell["column"], cell["dataset"]) not in mixed],
    }
    write_json(folder.record, content)
    for (column, dataset), protocols in mixed.items():
        where = f'column "{column}", {dataset}' if column else dataset
        raise InputError(
            f'the study "{study.name}" tests the rows of one column ({where}) under two protocols: '
            + " and ".join(f'"{protocol}" ({row})' for protocol, row in protocols.items())
            + "; set the protocol for all rows, or put them in two columns; study.json holds the other columns"
        )
    return content


def _cells(study: Study, members: Sequence[Member], runs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what every row reached in every column and target: one value per seed, their mean and deviation."""
    finished = [(member, run) for member, run in zip(members, runs) if run["state"] == FINISHED]
    for row in study.rows:
        parts = len(row.over[1]) if row.over else 1
        for column in study.columns:
            own = [(member, run) for member, run in finished if (member.row, member.column) == (row.name, column.name)]
            seeds: dict[int, list[tuple[Member, Mapping[str, Any]]]] = {}
            for member, run in own:
                seeds.setdefault(member.seed, []).append((member, run))
            # The mean over a part of the splits is another figure.
            seeds = {seed: found for seed, found in seeds.items() if len(found) == parts}
            tests: dict[str, list[dict[str, Any]]] = {}
            for found in seeds.values():
                results = [_chosen(study, member.folder) for member, _ in found]
                for dataset in results[0]:
                    tests.setdefault(dataset, []).append(_averaged([result[dataset] for result in results]))
            for dataset, values in tests.items():
                yield {
                    "row": row.name, "column": column.name, "dataset": dataset, "target": values[0]["target"],
                    "feature": values[0]["feature"],
                    "direction": values[0]["direction"], "protocol": values[0]["protocol"],
                    "generated": values[0]["generated"], "seeds": list(seeds),
                    "scores": _scores([row_scores(value) for value in values]),
                    **{key: own[0][1][key] for key in ("parameters", "macs") if key in own[0][1]},
                }


def _chosen(study: Study, folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the entry of each target that the table shows, with a word on whether the images are generated.

    Of a target that one test scored under several protocols each is a target of its own: they stand in columns of their own.
    """
    results = folder.read_results()
    generated = bool(results.get("data", {}).get("synthetic"))
    chosen: dict[str, dict[str, Any]] = {}
    protocols: dict[str, set[str]] = {}
    for entry in results["results"]:
        protocols.setdefault(entry["dataset"], set()).add(entry.get("protocol_name", ""))
    for entry in results["results"]:
        shown, dataset = study.shown, entry["dataset"]
        if shown.feature in ("", entry["feature"]) and (not shown.datasets or dataset in shown.datasets):
            label = f"{dataset} ({entry['protocol_name']})" if len(protocols[dataset]) > 1 else dataset
            chosen[label] = {**entry, "dataset": label, "target": dataset, "generated": generated}
    return chosen


def _averaged(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(entries) == 1:
        return entries[0]
    protocols = {entry["protocol"] for entry in entries}
    mean = average_rows(entries)
    # Random architectures are tested under one protocol; the splits of RegDB each have their own.
    return {**mean, "protocol": protocols.pop()} if len(protocols) == 1 else mean


def _scores(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Return per metric the values of the seeds, their mean, and the deviation of a sample (n - 1), None for one seed."""
    scores = {}
    for name in values[0]:
        own = [value[name] for value in values]
        mean = math.fsum(own) / len(own)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in own) / (len(own) - 1)) if len(own) > 1 else None
        scores[name] = {"values": own, "mean": mean, "std": std}
    return scores


def _mixed(cells: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, str]]:
    """Return the columns of the table whose rows were tested under several protocols: the first row of each protocol."""
    protocols: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        protocols.setdefault((cell["column"], cell["dataset"]), {}).setdefault(cell["protocol"], cell["row"])
    return {place: found for place, found in protocols.items() if len(found) > 1}


def state_of(member: Member) -> str:
    """Return whether a run is finished with this very config."""
    return FINISHED if is_finished(RunSetup.of(member.cfg), member.stages) else MISSING
