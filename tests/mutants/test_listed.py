"""The list of mutants fits the package; ``make mutants`` runs the mutants themselves."""
from __future__ import annotations

from pathlib import Path

import pytest
from mutants.listed import MUTANTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.old.strip()[:40]}")
def test_the_text_that_a_mutant_changes_occurs_exactly_once(mutant):
    source = (ROOT / "torchreid_nas" / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1 and mutant.new != mutant.old
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert all((ROOT / "tests" / name).is_file() for name in mutant.tests.split())


def test_no_mutant_is_listed_twice():
    assert len({mutant[:3] for mutant in MUTANTS}) == len(MUTANTS) >= 30
