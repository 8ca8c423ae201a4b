"""What paths tell of identity and camera."""
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.features import FeatureSet, Label, read_label


@pytest.mark.parametrize("path, label", [
    ("bounding_box_test/0002_c1s1_000451_03.jpg", Label("2", 0)),
    ("bounding_box_test/0002_c6s3_000451_00.jpg.jpg", Label("2", 5)),
    ("query/0001_c2_f0046182.jpg", Label("1", 1)),
    ("test/0007/0007_003_14_0113afternoon_0404_2.jpg", Label("7", 13)),
    ("SYSU-MM01/cam3/0042/0001.jpg", Label("42", 2)),
    ("holiday/beach.jpg", Label("", -1)),
    ("holiday/1234.jpg", Label("", -1)),
])
def test_the_layouts_of_known_data_sets(path, label):
    assert read_label(Path(path)) == label


@pytest.mark.parametrize("name", ["-1_c1s1_000451_03.jpg", "0000_c1s1_000451_03.jpg"])
def test_junk_and_distractors_of_market1501_have_no_identity(name):
    assert read_label(Path("gallery") / name) == Label("", 0)


def test_identity_0_of_msmt17_is_a_person():
    assert read_label(Path("0000/0000_000_01_0303morning_0015_0.jpg")) == Label("0", 0)


def test_folders_with_names_are_identities_below_the_source_only():
    path = Path("photos/alice/a.jpg")
    assert read_label(path, Path("photos")).identity == "alice"
    assert read_label(path, Path("photos/alice")) == read_label(path) == Label()


@pytest.fixture
def image_in(tmp_path):
    """``image_in("parent/folder", *siblings)``: the path of an image there, with folders beside its own."""

    def make(folder, *siblings):
        path = tmp_path / folder
        for each in (path, *(path.parent / sibling for sibling in siblings)):
            each.mkdir(parents=True, exist_ok=True)
        return path / "a.bmp"

    return make


def test_folders_with_numbers_beside_others_are_identities(image_in):
    path = image_in("RegDB/Thermal/007", "8", "012")
    assert {read_label(path, root).identity for root in (None, path.parents[2], path.parent)} == {"7"}


@pytest.mark.parametrize("siblings", [(), ("20240502", "20240503"), ("holiday", "2024"), ("20240501123000",)])
def test_a_source_folder_that_is_a_date_is_no_identity(siblings, image_in):
    path = image_in("photos/20240501", *siblings)
    assert read_label(path, path.parent) == read_label(path) == Label()


def test_a_number_alone_is_no_identity_of_its_source_folder(image_in):
    path = image_in("photos/17", "holiday")
    assert read_label(path, path.parent) == Label() and read_label(path, path.parents[1]).identity == "17"


@given(st.lists(st.text("0123456789²٣c_s-.camx", min_size=1, max_size=40), min_size=1, max_size=4), st.booleans())
def test_every_name_has_a_label_that_a_file_of_features_can_hold(parts, below):
    label = read_label(Path(*parts), Path(parts[0]) if below else None)
    part = FeatureSet(torch.eye(1), ("a.jpg",), (label.identity,), np.array([label.camid], dtype=np.int64))
    assert part.pids.shape == (1,) and label.camid >= -1
