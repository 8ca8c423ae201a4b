"""The record and the table of a study: means over seeds, protocols kept apart, what the authors published."""
import json

import pytest

from torchreid_nas.config import config_to_yaml
from torchreid_nas.errors import InputError
from torchreid_nas.files import write_json, write_text
from torchreid_nas.study.definition import read_study
from torchreid_nas.study.figure import draw_study
from torchreid_nas.study.grid import expand
from torchreid_nas.study.record import StudyFolder, record_study
from torchreid_nas.study.table import study_table

STUDY = """
title: Two rows
config: demo
set: {{model.architecture: share}}
rows: {{one & only: {{train.lr: 0.1}}, b: {{}}}}
table: {{size: true}}
{more}
published: {{source: a paper, protocol: their own, figures: {{one & only: {{regdb: {{mAP: 80.25}}}}}}}}
"""


def recorded(folder, scores, more="", protocols=("RegDB split_id 0",) * 2, failed=()):
    """Write the results of runs that were never made, and record them: ``scores`` per row and seed."""
    path = folder / "own.yaml"
    path.write_text(STUDY.format(more=more))
    study = read_study(path)
    members = expand(study, folder / "runs", [1, 2])
    runs = []
    for member in members:
        row = [row.name for row in study.rows].index(member.row)
        value = scores[row][member.seed - 1]
        entry = {
            "dataset": "regdb", "direction": "", "feature": "after BNNeck", "ranks": [1], "cmc": [value], "cmc_std": [0.0],
            "mAP": value / 2, "mAP_std": 0.0, "num_valid_queries": 9, "num_trials": 1, "protocol": protocols[row],
        }
        state = "failed" if (row, member.seed) in failed else "finished"
        write_json(member.folder.results, {"results": [entry], "data": {"synthetic": True}})
        write_text(member.folder.config, config_to_yaml(member.cfg))
        size = {"parameters": 1000 + row, "macs": 2e6 * (1 + row)}
        runs.append({"state": state, "error": "", "user_seconds": 30.0, "seconds": 31.0, **size})
    return study, members, runs, StudyFolder(folder / "runs")


def test_cells_are_means_and_deviations_of_a_sample_over_seeds(tmp_path):
    content = record_study(*recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)]))
    cell = content["cells"][0]
    assert cell["scores"]["rank1"] == {"values": [0.25, 0.75], "mean": 0.5, "std": pytest.approx(0.125**0.5)}
    assert cell["seeds"] == [1, 2] and content["cells"][1]["scores"]["rank1"]["std"] == 0.0
    assert json.loads((tmp_path / "runs" / "study.json").read_text()) == json.loads(json.dumps(content))


def test_the_table_names_the_authors_figures_as_theirs(tmp_path):
    table = study_table(record_study(*recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)])))
    assert table.headers == ["row", "seeds", "parameters", "multiply-adds", "regdb Rank-1", "regdb mAP", "authors' regdb mAP"]
    assert table.rows[0] == ["one & only", "2", "1,000", "2.0 M", "50.0 ± 35.4", "25.0 ± 17.7", "80.2"]
    notes = " ".join(table.notes)
    assert "images are generated" in notes and "their own figures (a paper; their own)" in notes
    assert "4 runs, 2.0 minutes of user-CPU time" in notes and "RegDB split_id 0, after BNNeck" in notes


def test_every_form_of_the_table_holds_the_same_cells(tmp_path):
    table = study_table(record_study(*recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)])))
    assert "| one & only |       2 |" in table.render("md")
    assert table.render("txt").startswith("Two rows\n\nrow ")
    latex = table.render("tex")
    assert r"one \& only & 2 & 1,000 & 2.0 M & 50.0 $\pm$ 35.4 &" in latex and r"\begin{tabular}{lrrrrrr}" in latex
    assert latex.splitlines()[0] == "% Two rows"
    lines = table.render("csv").splitlines()
    assert lines[0].startswith("row,column,data set,protocol,metric,mean,std,seeds,authors,low,high,difference,")
    assert "one & only,,regdb,RegDB split_id 0,mAP,25.0000,17.6777,2,80.25,,,,,," in lines


def test_a_failed_run_is_left_out_and_named(tmp_path):
    table = study_table(record_study(*recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)], failed={(0, 2)})))
    assert table.rows[0][:2] == ["one & only", "1"] and table.rows[0][4] == "25.0"
    assert "1 of 4 runs failed and are left out: one & only, seed 2." in table.notes


def test_one_column_never_holds_two_protocols(tmp_path):
    arguments = recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)], protocols=("step", "trapezoid"))
    with pytest.raises(InputError, match=r'"step" \(one & only\) and "trapezoid" \(b\)'):
        record_study(*arguments)
    kept = json.loads((tmp_path / "runs" / "study.json").read_text())
    assert kept["cells"] == [] and [run["state"] for run in kept["runs"]] == ["finished"] * 4


def test_protocols_of_one_test_stand_in_columns_of_their_own(tmp_path):
    study, members, runs, folder = recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)])
    for member in members:
        content = member.folder.read_results()
        (entry,) = content["results"]
        content["results"] = [{**entry, "protocol": name, "protocol_name": name} for name in ("images", "identities")]
        content["results"][1]["mAP"] = 0.125
        write_json(member.folder.results, content)
    table = study_table(record_study(study, members, runs, folder))
    shown = dict(zip(table.headers, table.rows[0]))
    assert shown["regdb (images) mAP"] == "25.0 ± 17.7" and shown["regdb (identities) mAP"] == "12.5 ± 0.0"


def test_parts_of_a_row_are_averaged_within_a_seed(tmp_path):
    content = record_study(*recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)], more="over: {data.split_id: [0, 1]}"))
    assert content["cells"][0]["scores"]["rank1"]["values"] == [0.25, 0.75]
    # A seed without one of its parts has no mean over them.
    study, members, runs, folder = recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)], more="over: {data.split_id: [0, 1]}")
    runs[0]["state"] = "failed"
    assert record_study(study, members, runs, folder)["cells"][0]["seeds"] == [2]


@pytest.mark.parametrize("figure", ["bars", "pareto", "curve"])
def test_every_kind_of_picture_is_drawn(tmp_path, figure):
    content = record_study(*recorded(tmp_path, [(0.25, 0.75), (0.5, 0.5)]))
    content["figure"] = figure
    if figure == "curve":
        for value, cell in enumerate(content["cells"]):
            cell["row"] = str(value)
    draw_study(content, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_record_of_a_study_is_named(tmp_path):
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(InputError, match="is no record of a study"):
        StudyFolder(tmp_path).read()
