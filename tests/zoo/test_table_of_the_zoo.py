"""MODEL_ZOO.md: generated, counted, and plain about whose figures it holds."""
from __future__ import annotations

from pathlib import Path

import pytest

import torchreid_nas
from torchreid_nas import zoo
from torchreid_nas.zoo.table import zoo_markdown

REPOSITORY = Path(torchreid_nas.__file__).resolve().parent.parent


def own_entries():
    """The package's entries, whatever the environment adds."""
    return [entry for entry in zoo.list_entries() if Path(entry.origin).is_relative_to(REPOSITORY / "torchreid_nas")]


@pytest.fixture(scope="module")
def text():
    return zoo_markdown(own_entries())


def row(text, name, table=0):
    """The cells of the row of an entry in the first, second or third table of its section."""
    lines = [line for line in text.splitlines() if line.startswith(f"| `{name}` ")]
    return [cell.strip() for cell in lines[table].strip("|").split("|")]


def test_the_committed_file_is_the_generated_one(text):
    assert (REPOSITORY / "MODEL_ZOO.md").read_text(encoding="utf-8") == text, (
        "write it anew with: torchreid-nas zoo table > MODEL_ZOO.md"
    )


def test_parameters_and_multiply_adds_are_those_that_are_known(text):
    """The authors' own counts of both networks, and torchreid's of OSNet."""
    assert row(text, "cdnet_market1501_pretrained")[6:8] == ["1,796,600", "955.1 M"]
    assert row(text, "cnet_market1501_scratch")[6:8] == ["1,436,240", "821.4 M"]
    assert row(text, "osnet_x1_0")[6:8] == ["2,169,508", "978.9 M"]
    none, every = (int(part.replace(",", "")) for part in row(text, "cmnas_sysu")[6].split(" to "))
    assert every - none == 53_120


def test_it_says_that_no_figure_is_this_projects(text):
    assert "**None was measured by this project**" in text and "measured:" not in text
    assert "published: authors' log log_inference_cdnet_top2_market1501_pretrained.txt" in text
    assert row(text, "cdnet_dukemtmcreid_pretrained2", 1)[-1] == "no figure known"


def test_every_entry_has_its_checksum_or_a_word_that_there_is_none(text):
    for entry in own_entries():
        cell = row(text, entry.name, -1)[-1]
        assert cell == (" ".join(entry.checksum) if entry.checksum else "none published: sha256 of the first download")


def test_measured_figures_are_marked_as_this_projects(add_entry):
    figure = {"dataset": "market1501", "rank1": 50.25, "mAP": 20.5, "source": "run x"}
    add_entry(measured=[figure], published=[{**figure, "rank1": 60.5, "source": "their paper"}])
    text = zoo_markdown([zoo.find_entry("test_entry")])
    assert "only those marked *measured* were measured by this project" in text
    assert "measured: run x" in text and "published: their paper" in text and "50.25" in text and "60.50" in text
