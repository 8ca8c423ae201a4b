"""The table of results: its columns, its rounding, and results that are none."""
from __future__ import annotations

import json

import pytest

from torchreid_nas import report
from torchreid_nas.errors import InputError


def entry(**changes):
    return {
        "dataset": "regdb", "direction": "visible → infrared", "feature": "after BNNeck", "ranks": [1, 5, 10, 20],
        "cmc": [0.5, 0.75123, 0.9, 1.0], "cmc_std": [0.0123, 0.01, 0.005, 0.0], "mAP": 0.456789, "mAP_std": 0.02,
        "mINP": 0.3, "mINP_std": 0.03, "num_valid_queries": 2060, "num_trials": 1, **changes,
    }


def cells(table):
    """The columns of tabulate's "simple" format stand at least two spaces apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]


def test_the_table_of_one_trial():
    header, _, row = cells(report.results_table({"results": [entry()], "config": "demo"}))
    assert header == [
        "data set", "direction", "feature", "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP",
        "queries", "trials",
    ]
    assert row == [
        "regdb", "visible → infrared", "after BNNeck", "50.00", "75.12", "90.00", "100.00", "45.68", "30.00",
        "2,060", "1",
    ]


def test_the_table_of_several_trials_and_features():
    results = json.loads(json.dumps({"results": [entry(num_trials=10), entry(feature="before BNNeck")]}))
    _, _, mean, single = cells(report.results_table(results))
    assert mean[3:] == [
        "50.00 ± 1.23", "75.12 ± 1.00", "90.00 ± 0.50", "100.00 ± 0.00", "45.68 ± 2.00", "30.00 ± 3.00",
        "2,060", "10",
    ]
    assert single[2:4] == ["before BNNeck", "50.00"]


def test_ranks_that_an_entry_lacks_stay_empty():
    other = entry(dataset="sysu_mm01", ranks=[1, 15], cmc=[0.4, 0.8])
    header, _, first, second = cells(report.results_table({"results": [entry(), other]}))
    assert header[3:8] == ["Rank-1", "Rank-5", "Rank-10", "Rank-15", "Rank-20"]
    assert first[3:7] == ["50.00", "75.12", "90.00", "100.00"]
    assert second[3:6] == ["40.00", "80.00", "45.68"]


def test_the_trapezoid_has_a_column_where_an_entry_gives_it():
    given = entry(mAP_trapezoid=0.4432, mAP_trapezoid_std=0.021)
    header, _, row = cells(report.results_table({"results": [given]}))
    assert header[7:10] == ["mAP", "mAP (trapezoid)", "mINP"] and row[7:10] == ["45.68", "44.32", "30.00"]
    several = {**given, "num_trials": 10}
    table = report.results_table({"results": [entry(), several]})
    header, _, without, mean = cells(table)
    assert header[7:10] == ["mAP", "mAP (trapezoid)", "mINP"]
    assert without[7:9] == ["45.68", "30.00"] and mean[7:10] == ["45.68 ± 2.00", "44.32 ± 2.10", "30.00 ± 3.00"]


def test_results_that_are_no_table():
    with pytest.raises(InputError, match='no entry under "results"'):
        report.results_table({"results": []})
    broken = entry()
    del broken["cmc"]
    with pytest.raises(InputError, match="lacks 'cmc'.*test again"):
        report.results_table({"results": [broken]})


def test_data_of_one_modality_have_no_direction():
    header, _, row = cells(report.results_table({"results": [entry(direction="", dataset="market1501")]}))
    assert header[:3] == ["data set", "feature", "Rank-1"] and row[:3] == ["market1501", "after BNNeck", "50.00"]
    header, _, first, second = cells(report.results_table({"results": [entry(), entry(direction="")]}))
    assert header[1] == "direction" and first[1] == "visible → infrared" and second[1] == "after BNNeck"


def test_protocols_of_one_data_set_are_columns_side_by_side():
    paper, repository = (
        entry(dataset="llcm", protocol=said, protocol_name=name, mAP=value)
        for said, name, value in (("LLCM paper", "llcm", 0.658), ("LLCM repository", "llcm_repository", 0.555))
    )
    lines = cells(report.results_table({"results": [paper, repository]}))
    assert lines[0] == ["direction", "feature", "LLCM paper", "LLCM repository"]
    assert ["mAP", "65.80", "55.50"] in lines and lines[2] == ["visible → infrared", "after BNNeck", "Rank-1", "50.00", "50.00"]


def test_settings_under_two_names_of_one_data_set_share_their_rows():
    everywhere, indoor = (
        entry(dataset=dataset, protocol=f"SYSU-MM01 {search}-search", protocol_name=f"sysu_mm01_{search}_1shot_random")
        for dataset, search in (("sysu_mm01", "all"), ("sysu_mm01_indoor", "indoor"))
    )
    table = report.results_table({"results": [everywhere, indoor]})
    assert [line for line in cells(table) if line[:1] == ["mAP"]] == [["mAP", "45.68", "45.68"]]


def test_a_column_never_holds_figures_of_two_protocols():
    rows = [
        entry(protocol="RegDB split_id 0", protocol_name="regdb"),
        entry(dataset="market1501", direction="", protocol="market1501", protocol_name="market1501"),
        entry(dataset="dukemtmcreid", direction="", protocol="dukemtmcreid", protocol_name="market1501"),
    ]
    tables = report.results_table({"results": rows}).split("\n\n")
    assert len(tables) == 2 and tables[0].startswith("protocol: RegDB split_id 0\n")
    assert tables[1].startswith("protocol: market1501 and dukemtmcreid\n") and len(tables[1].splitlines()) == 5
