"""Defects planted in generated data: the doctor names each, and clean data have no error."""
from __future__ import annotations

import re

import pytest
from scripts import benchmark_script

from torchreid_nas.doctor.kinds import KINDS, Severity


@pytest.fixture(scope="module")
def plants():
    with benchmark_script("doctor") as module:
        yield module


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("clean")


# Some of each check; benchmarks/doctor.py plants every kind twenty times.
@pytest.mark.slow
@pytest.mark.parametrize("kind", [
    "incomplete", "shared_person", "leaked_image", "near_leak", "two_labels", "truncated", "deep", "list_disagrees",
    "listed_missing", "colour_in_infrared", "swapped_modalities", "turned", "dark_or_bright", "one_camera",
])
def test_a_planted_defect_is_named_with_its_files(kind, plants, store):
    found, _ = plants.planted(kind, 0, store)
    assert found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regdb", "sysu_mm01", "llcm", "market1501", "dukemtmcreid"])
def test_clean_generated_data_have_no_error(name, plants, store):
    from torchreid_nas.doctor.examine import examine
    from torchreid_nas.doctor.reading import read_data

    data = read_data(plants.generated(name, 0, store))
    report = examine(data, workers=1, progress=False)
    assert report.severity != Severity.ERROR
    assert report.parts and report.cameras and sum(row["images"] for row in report.cameras) == len(data.records)


@pytest.mark.slow
def test_many_defects_in_one_set_do_not_hide_each_other(plants):
    kinds = ("leaked_image", "near_leak", "two_labels", "duplicate", "truncated", "dark_or_bright", "no_match", "one_camera")
    report, named = plants.together(0, kinds)
    assert named == dict.fromkeys(kinds, True)
    said = {finding.name: finding.sentence for finding in report.findings}
    assert re.fullmatch(r"2 images are copies of an image of another person, pixel for pixel: \d+ with \d+\.", said["two_labels"])


def test_every_planted_kind_is_a_row_of_the_table(plants):
    assert set(plants.PLANTS) <= set(KINDS)
