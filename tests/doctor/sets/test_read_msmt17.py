"""The doctor's reader of MSMT17, on generated files: both versions' folders, the four lists, and what contradicts them."""
from __future__ import annotations

import pytest
from msmt17 import CAMERAS, PERSONS, write_msmt17

from torchreid_nas.doctor import quick_checks, read_data


@pytest.fixture
def folder(tmp_path):
    return write_msmt17(tmp_path)


def found(folder):
    """Kind -> sentence of what reading finds."""
    return {finding.name: finding.sentence for finding in read_data(folder).found}


def test_training_and_test_count_their_persons_apart(folder):
    data = read_data(folder)
    assert data.found == [] and data.name == "MSMT17"
    assert len(data.part("train")) == len(data.part("query", "gallery")) == PERSONS * CAMERAS
    assert {record.person for record in data.part("train")} == {f"train {pid}" for pid in range(PERSONS)}
    assert {record.camera for record in data.records} == set(range(CAMERAS))
    assert {finding.name for finding in quick_checks(data)} == {"incomplete"}


def test_the_second_version_has_other_folders(folder):
    before = [(record.person, record.camera, record.part) for record in read_data(folder).records]
    for old, new in (("train", "mask_train_v2"), ("test", "mask_test_v2")):
        (folder / old).rename(folder / new)
    assert [(record.person, record.camera, record.part) for record in read_data(folder).records] == before


def test_it_is_read_by_its_name(folder):
    assert read_data("msmt17", folder.parents[1]).records == read_data(folder).records


def test_a_listed_image_that_is_gone_is_named(folder):
    gone = folder / "test" / (folder / "list_query.txt").read_text().split()[0]
    gone.unlink()
    finding, = read_data(folder).found
    assert finding.name == "listed_missing" and finding.files == (str(gone),)


def test_an_image_that_no_list_names_is_named(folder):
    index = folder / "list_gallery.txt"
    first, *others = index.read_text().splitlines(keepends=True)
    index.write_text("".join(others))
    assert first.split()[0] in found(folder)["not_listed"]


def test_a_label_that_contradicts_the_name_of_an_image_is_an_error(folder):
    index = folder / "list_train.txt"
    first, *others = index.read_text().splitlines(keepends=True)
    index.write_text("".join([f"{first.split()[0]} 3\n", *others]))
    said = found(folder)["list_disagrees"]
    assert said == "The train lists and the names of their images disagree on 1 label: label 3 stands for 2 persons."


def test_a_name_without_a_camera_is_a_bad_line(folder):
    index = folder / "list_val.txt"
    index.write_text(f"{index.read_text()}0000/portrait.jpg 0\n")
    assert "0000/portrait.jpg" in found(folder)["bad_line"]


def test_a_missing_list_is_an_error_and_the_others_are_read(folder):
    (folder / "list_query.txt").unlink()
    said = found(folder)
    assert "list_query.txt cannot be read" in said["list_disagrees"] and "not_listed" in said
    assert read_data(folder).part("gallery")
