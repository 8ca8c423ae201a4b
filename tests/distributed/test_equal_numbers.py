"""Two and three processes compute what one process computes: pieces.py has the pieces, table.py runs all of them once."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("table.py")
# Many steps in float64 multiply a rounding more often than one; float32 has 7 digits.
TOLERANCES = {"float32": 1e-5, "training": 1e-7, "": 1e-9}


def test_two_and_three_processes_have_the_numbers_of_one(tmp_path):
    table = tmp_path / "table.json"
    call = [sys.executable, "-W", "ignore", str(SCRIPT), "--json", str(table)]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    differences = {
        (piece, processes, tensor): difference for piece, worlds in json.loads(table.read_text(encoding="utf-8")).items()
        for processes, tensors in worlds.items() for tensor, difference in tensors.items()
    }
    assert {processes for _, processes, _ in differences} == {"2", "3"}
    assert {key: difference for key, difference in differences.items() if not difference <= tolerance(key[0])} == {}


def tolerance(piece):
    """Return how far a piece may be from one process."""
    return next(value for kind, value in TOLERANCES.items() if kind in piece)
