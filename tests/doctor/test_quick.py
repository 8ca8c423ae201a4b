"""The cheap checks: counts, persons on both sides, queries without a match."""
from __future__ import annotations

from pathlib import Path

import pytest

from torchreid_nas.data import CrossModalityDataset
from torchreid_nas.doctor import Data, Expected, Record, quick_checks, quick_line
from torchreid_nas.metrics.protocols import PROTOCOLS


def clean() -> list[Record]:
    """Three persons to train on, two to test on, in two cameras."""
    return [
        *(Record(f"train/{pid}_{cam}", pid, cam, part="train") for pid in "123" for cam in (0, 1)),
        *(Record(f"query/{pid}", pid, 0, part="query") for pid in "45"),
        *(Record(f"gallery/{pid}", pid, 1, part="gallery") for pid in "45"),
    ]


def names(records, **facts):
    return [finding.name for finding in quick_checks(Data("Campus", Path(), records, **facts))]


def test_clean_records_have_no_finding():
    assert names(clean()) == []
    assert quick_line(quick_checks(clean())) == "quick checks of the data: nothing found"


def test_a_person_in_training_and_test_is_an_error():
    found = quick_checks([*clean(), Record("train/x", "4", 0, part="train")])
    assert [finding.name for finding in found] == ["shared_person"]
    assert set(found[0].files) == {"train/x", "query/4", "gallery/4"}


def test_equal_labels_of_loaded_training_and_test_prove_nothing():
    campus = CrossModalityDataset([("a", 0, 0)], [("b", 0, 0)], [("c", 0, 1)], verbose=False)
    assert quick_checks(campus) == []


def test_an_equal_file_in_training_and_test_is_found_in_loaded_data():
    campus = CrossModalityDataset([("a", 0, 0)], [("a", 0, 0)], [("c", 0, 1)], verbose=False)
    assert [finding.name for finding in quick_checks(campus)] == ["shared_file"]


@pytest.mark.parametrize("protocol, camera, found", [
    ("market1501", 1, []), ("market1501", 0, ["no_match"]), ("regdb", 0, []),
])
def test_a_query_counts_as_the_protocol_says(protocol, camera, found):
    records = [*clean(), Record("query/6", "6", 0, part="query"), Record("gallery/6", "6", camera, part="gallery")]
    assert names(records, protocol=PROTOCOLS[protocol]) == found


def test_a_gallery_without_the_persons_of_the_queries_is_an_error():
    records = [record for record in clean() if record.part != "gallery"]
    assert names([*records, Record("gallery/9", "9", 1, part="gallery")]) == ["nothing_scored"]


def test_an_incomplete_copy_names_who_is_missing():
    rule = Expected("training identities", (4,), ("train",), "persons", listed=frozenset({"1", "2", "3", "28"}))
    finding, = quick_checks(Data("Campus", Path(), clean(), expected=(rule,), source="https://campus"))
    assert finding.sentence == "1 of 4 training identities are missing: 28."
    assert "https://campus" in finding.way_out


def test_more_than_a_complete_copy_is_a_warning():
    rule = Expected("training images", (5, 2), ("train",))
    assert names(clean(), expected=(rule,)) == ["surplus"]


def test_a_training_person_with_one_modality_is_named():
    words = ("visible", "infrared")
    records = [Record(f"{pid}_{word}", pid, camera, word, "train") for pid in "12" for camera, word in enumerate(words)]
    finding, = quick_checks([*records, Record("3", "3", 0, "visible", "train")])
    assert finding.name == "unpaired" and finding.files == ("3",)
