"""The page of several runs and of a series."""
from __future__ import annotations

import re
import shutil

import pytest
from commands import refused

from torchreid_nas.cli import main
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.page import write


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    for module in ("several.figure_svg", "quality.figure_svg", "course.figure_svg"):
        monkeypatch.setattr(f"torchreid_nas.run.page.{module}", lambda figure, label: "<svg></svg>")


@pytest.fixture
def pair(finished, tmp_path):
    """Two runs that differ in one key of the config."""
    folders = [shutil.copytree(finished, tmp_path / "series" / name) for name in ("near", "wide")]
    config = folders[1] / "config.yaml"
    config.write_text(re.sub(r"margin: [\d.]+", "margin: 0.7", config.read_text()))
    return folders


def test_runs_side_by_side_have_paired_differences(pair, tmp_path, capsys):
    out = tmp_path / "both.html"
    assert main(["report", *map(str, pair), "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert f"page:    {out}" in capsys.readouterr().out
    assert re.findall(r'<section id="(\w+)">', page) == ["runs", "differences", "keys", "training"]
    assert "loss.triplet.margin 0.4 and loss.triplet.margin 0.7 are alike: their mAP is the same for every identity." in page
    assert page.index("are alike") < page.index("<nav") and "not all is shown" not in page
    assert re.search(r"<th scope=\"col\">loss.triplet.margin</th>.*<td>near</td><td>0.4</td>.*<td>wide</td><td>0.7</td>", page)


def test_runs_that_do_not_compare_stand_side_by_side_with_the_reason(pair, tmp_path):
    (pair[1] / "results.json").unlink()
    out = tmp_path / "both.html"
    assert main(["report", *map(str, pair), "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "The run is not finished" in page and "wide&quot; holds no results.json" in page
    shutil.copy(pair[0] / "results.json", pair[1])
    for name in ("config.yaml", "certificate.json"):
        shutil.copy(pair[0] / name, pair[1])
    assert main(["report", *map(str, pair), "--out", str(out)]) == 0
    assert "No differences are shown: " in out.read_text(encoding="utf-8")


def test_a_series_has_its_table_and_its_runs(pair):
    base = RunFolder(pair[0].parent)
    shutil.copy(pair[0] / "results.json", base.results)
    write.write_page(base)
    page = base.page.read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', page) == ["figures", "runs", "differences", "keys", "training"]
    assert "Series series" in page and "cannot be read" not in page


def test_a_folder_without_a_run_is_refused_among_several(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is no folder of a run" in refused(capsys, "report", pair[0], tmp_path / "empty")
    assert not (tmp_path / "report.html").exists()
