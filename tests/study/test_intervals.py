"""Intervals of a study: those of the evidence package on the runs' own queries, with the seeds as replicates."""
import numpy as np
import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.pairs import holm
from torchreid_nas.evidence.runs import EvaluatedRun
from torchreid_nas.evidence.sides import Side, compare_sides, estimate
from torchreid_nas.evidence.store import StoredTest
from torchreid_nas.metrics.query_scores import QueryScores
from torchreid_nas.study import intervals
from torchreid_nas.study.table import study_table

PIDS = np.repeat(np.arange(10), 3)
SEEDS = (1, 2, 3)


def precision(row, seed, part=0):
    """Return an average precision for each of the 30 queries: row b beats row a for every person."""
    generator = np.random.default_rng(100 * seed + part)
    return np.clip({"a": 0.3, "b": 0.6, "c": 0.3}[row] + 0.02 * generator.standard_normal(30), 0, 1)


def a_run(row, seed, part=0, queries=30):
    """Return a run as its folder tells of it."""
    values = {"mAP": precision(row, seed, part)[:queries]}
    scores = QueryScores(np.zeros(queries, np.int32), np.ones(queries, np.int32), 9, values)
    test = StoredTest("regdb", "after BNNeck", "RegDB", [scores], [""] * queries, PIDS[:queries], PIDS[:queries])
    config = {"train.seed": seed, "data.split_id": 0}
    return EvaluatedRun(f"{row}/{seed}/{part}", config, {("regdb", "after BNNeck"): test}, True, {}, f"{row}{seed}{part}")


def content(rows, parts=1):
    """Return the record of a study of these rows and three seeds, with as many runs for each seed."""
    runs = [
        {"row": row, "column": "", "seed": seed, "part": part, "state": "finished", "folder": f"{row}/{seed}/{part}",
         "user_seconds": 1.0}
        for seed in SEEDS for row in rows for part in range(parts)
    ]
    cells = []
    for row in rows:
        values = [float(np.mean([precision(row, seed, part).mean() for part in range(parts)])) for seed in SEEDS]
        cells.append({
            "row": row, "column": "", "dataset": "regdb", "target": "regdb", "feature": "after BNNeck", "protocol": "RegDB",
            "generated": True, "seeds": list(SEEDS),
            "scores": {"mAP": {"values": values, "mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))}},
        })
    return {
        "title": "Rows", "sweep": "", "rows": list(rows), "columns": [""], "shown": {"scores": ["mAP"], "size": False},
        "published": None, "note": "", "runs": runs, "cells": cells,
    }


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Let folders hold the runs that their paths name."""
    def read(folder):
        row, seed, part = folder.relative_to(tmp_path).parts
        return a_run(row, int(seed), int(part))

    monkeypatch.setattr(intervals, "read_run", read)
    return tmp_path


def side(row, parts=1):
    scores = [np.mean([precision(row, seed, part) for part in range(parts)], axis=0) for seed in SEEDS]
    return Side(row, np.stack(scores)[:, None], PIDS, SEEDS)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_cell_has_the_interval_of_its_runs_with_seeds_as_replicates(folders, parts):
    cells = intervals.add_intervals(content("ab", parts), folders)["cells"]
    for cell in cells:
        expected, own = estimate(side(cell["row"], parts)), cell["scores"]["mAP"]
        assert own["mean"] == pytest.approx(expected.mean, abs=1e-12)
        assert (own["low"], own["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_rows_differ_from_the_first_as_compare_says_corrected_for_all(folders):
    found = intervals.add_intervals(content("abc"), folders)["differences"]
    assert [one["row"] for one in found] == ["b", "c"]
    expected = [compare_sides(side(row), side("a"), family=2) for row in "bc"]
    assert [one["p_value"] for one in found] == holm([one.p_value for one in expected])
    for one, other in zip(found, expected):
        assert (one["difference"], one["low"], one["high"], one["smallest"]) == (
            other.difference, other.low, other.high, other.smallest,
        )


def test_the_table_says_which_rows_are_told_apart_and_which_are_not(folders):
    table = study_table(intervals.add_intervals(content("abc"), folders))
    shown = table.render("md")
    low, high = estimate(side("b")).low, estimate(side("b")).high
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in table.rows[1][2]
    assert "Differences from the row a, in points:" in shown and "Told apart from a: b (regdb mAP)." in shown
    assert "No row can be told apart from a." in study_table(intervals.add_intervals(content("ac"), folders)).render("txt")
    assert table.render("tex").count(r"\begin{tabular}") == 2
    head, _, row, _ = (line.split(",") for line in table.render("csv").splitlines())
    assert float(dict(zip(head, row))["difference"]) == pytest.approx(100 * (precision_mean("b") - precision_mean("a")), abs=1e-3)


def precision_mean(row):
    return np.mean([precision(row, seed) for seed in SEEDS])


def test_a_run_without_scores_costs_its_cell_the_interval_and_no_more(folders, monkeypatch, caplog):
    read = intervals.read_run

    def missing(folder):
        if "a" in folder.relative_to(folders).parts:
            raise InputError("no scores.npz; test the run again")
        return read(folder)

    monkeypatch.setattr(intervals, "read_run", missing)
    found = intervals.add_intervals(content("ab"), folders)
    assert ["low" in cell["scores"]["mAP"] for cell in found["cells"]] == [False, True] and found["differences"] == []
    assert 'no interval for the row "a" on regdb: no scores.npz; test the run again' in caplog.text
    assert study_table(found).below is None


def test_rows_of_other_queries_are_not_compared(folders, monkeypatch, caplog):
    monkeypatch.setattr(intervals, "read_run", lambda folder: a_run(
        (row := folder.relative_to(folders).parts[0]), int(folder.parts[-2]), queries=30 if row == "a" else 27,
    ))
    found = intervals.add_intervals(content("ab"), folders)
    assert found["differences"] == [] and "were not tested with the same queries" in caplog.text
