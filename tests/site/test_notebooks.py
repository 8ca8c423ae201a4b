"""The notebooks of docs/notebooks run from the first cell to the last, in a tiny form, and are stored without outputs."""
from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest
from tiny import TINY
from tools.site.notebook_pages import notebook_code, notebook_page

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))
_RE_ID = {
    **{key: value for key, value in TINY.items() if key not in ("train.max_epoch", "search.max_epoch", "search.warmup_epochs")},
    "synthetic.identities": 16, "synthetic.images": 4, "synthetic.height": 48, "synthetic.width": 24, "train.num_batches": 1,
    "train.max_epoch": 1, "search.max_epoch": 1, "search.warmup_epochs": 0, "search.paths": 4,
}
TINY_SETTINGS = {
    "match-people": _RE_ID,
    "search": {**_RE_ID, "search.method": "paths"},
    "adapt": {
        "synthetic.identities": 12, "synthetic.images": 2, "train.batch_size": 8, "train.num_batches": 1, "train.max_epoch": 3,
        "ecn.target_epoch": 1, "ecn.neighbour_epoch": 2, "train.stepsize": [2], "model.width": 0.125,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names = {"__name__": "__main__"}
    for number, cell in enumerate(notebook_code(path)):
        exec(compile(cell, f"{path.name}, cell {number}", "exec"), names)
        if number == 0:
            # The first code cell holds the sizes, as its tag says.
            names["settings"].update(TINY_SETTINGS[path.stem])
    assert list(tmp_path.glob("notebooks/*/*"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_names_its_sizes_first(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert code[0]["metadata"] == {"tags": ["parameters"]}


def test_a_page_of_a_notebook_shows_text_code_and_outputs(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [
            {"output_type": "execute_result", "data": {"text/plain": ["2"]}}, {"output_type": "stream", "text": ["a\n"]},
            {"output_type": "display_data", "data": {"image/png": "QUJD\n"}},
        ]},
    ]
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert notebook_page(path) == (
        "# Title\ntext\n\n```python\n1 + 1\n```\n\n```text\n2\n```\n\n```text\na\n```\n\n"
        "![Output of the cell above](data:image/png;base64,QUJD)\n"
    )
