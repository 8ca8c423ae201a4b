"""A metric added by one file outside the package is in the results, the tables, the means and the zoo."""
from __future__ import annotations

import json

import numpy as np
import pytest
from commands import arguments
from extending import toy_metric
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.errors import InputError
from torchreid_nas.hub.entry import Figure
from torchreid_nas.metrics import SCORES, average_results, evaluate_market1501, evaluate_sysu_mm01, rank_features
from torchreid_nas.run.published import measured_figure
from torchreid_nas.run.results import average_rows


@pytest.fixture
def mrr():
    toy_metric.register()
    yield "mrr"
    del SCORES["mrr"]


def test_it_is_the_mean_over_the_valid_queries(mrr):
    distmat = [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]
    result = evaluate_market1501(distmat, [1, 2, 3], [1, 2, 1], [0, 1, 1], [0, 0, 1])
    # The first query skips the image of its own camera; the third has no identity in the gallery.
    assert result.num_valid_queries == 2 and result.scores["mrr"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    mean, deviation = average_results([result, result])
    assert mean.scores["mrr"] == result.scores["mrr"] and deviation["mrr"] == 0


def test_every_protocol_and_the_ranking_by_blocks_have_it(mrr):
    rng = np.random.default_rng(0)
    query, gallery = rng.random((20, 4), dtype=np.float32), rng.random((30, 4), dtype=np.float32)
    q_pids, g_pids = rng.integers(4, size=20), rng.integers(4, size=30)
    distmat = ((query[:, None] - gallery) ** 2).sum(axis=2)
    order = distmat.argsort(axis=1)
    first = (g_pids[order] == q_pids[:, None]).argmax(axis=1)
    expected = np.mean(1 / (first + 1))
    assert rank_features(query, gallery, q_pids, g_pids).scores["mrr"] == pytest.approx(expected)
    sysu = evaluate_sysu_mm01(distmat, q_pids, g_pids, np.full(20, 5), np.zeros(30, int))
    assert sysu.scores["mrr"] == pytest.approx(expected)


def test_a_run_reports_it_in_results_table_and_zoo(mrr, data_root, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(arguments(TINY, data_root, run, "--stages", "train,test", **{
        "model.architecture": "split", "train.max_epoch": 1, "train.num_batches": 1})) == 0
    output = capsys.readouterr().out
    rows = json.loads((run / "results.json").read_text())["results"]
    header = next(line for line in output.splitlines() if line.startswith("data set"))
    assert header.split()[-3:] == ["MRR", "queries", "trials"]
    for row in rows:
        # A hit at place 1 gives 1 to both, any other place gives 0 to Rank-1 and more than 0 to MRR.
        assert row["cmc"][0] <= row["mrr"] <= 1 and row["mrr_std"] == 0
        assert f"{100 * row['mrr']:.2f}" in output and f"MRR {row['mrr']:.1%}" in output
        assert measured_figure(row).percent("mrr") == f"{100 * row['mrr']:.2f}"
    assert average_rows([rows[0], rows[0]])["mrr"] == pytest.approx(rows[0]["mrr"])
    assert isinstance(measured_figure(rows[0]), Figure)


def test_a_name_is_taken_once(mrr):
    with pytest.raises(InputError, match='there is a metric "mrr" already'):
        toy_metric.register()
