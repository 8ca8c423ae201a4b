"""docs/studies.md: its list of studies and its measured tables are those of the files."""
from pathlib import Path

from torchreid_nas.files import read_json
from torchreid_nas.study.definition import read_study, shipped_studies
from torchreid_nas.study.table import study_table

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "studies.md").read_text(encoding="utf-8")


def test_the_page_lists_every_shipped_study_with_its_title():
    listed = dict(line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `"))
    assert listed == {f"`{name}`": read_study(name).title for name in shipped_studies()}


def test_the_measured_tables_are_those_of_their_records():
    records = sorted((DOCS / "studies").glob("*.json"))
    assert records
    for record in records:
        assert study_table(read_json(record)).render("md") in PAGE, (
            f"put the table of {record.name} into docs/studies.md again: study_table(...).render('md')"
        )
