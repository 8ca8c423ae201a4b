"""Faults of a search: an architecture that is no number ends it in one sentence, and nothing of it is kept."""
from __future__ import annotations

import json

import commands
import pytest
from commands import refused
from tiny import TINY, TINY_CDNET


@pytest.mark.parametrize(("config", "warmup"), [(TINY, 0), (TINY, 1), (TINY_CDNET, 0)])
def test_logits_that_are_no_numbers_end_the_search_and_are_named(data_root, tmp_path, capsys, config, warmup):
    run = tmp_path / "run"
    changes = {"search.method": "gradient", "search.arch_lr": 1e38, "search.max_epoch": 3, "search.warmup_epochs": warmup}
    error = refused(capsys, *commands.arguments({**config, **changes}, data_root, run, "--stages", "search"))
    assert "the logits of the architecture are not finite" in error and "lower search.arch_lr" in error
    history = run / "search" / "history.jsonl"
    rows = history.read_text().splitlines() if history.exists() else []
    assert [json.loads(row)["epoch"] for row in rows] == list(range(1, warmup + 1))
    assert "NaN" not in "".join(rows) and not (run / "architecture.json").exists()
