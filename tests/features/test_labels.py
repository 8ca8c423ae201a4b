"""What paths tell of identity and camera."""
from pathlib import Path

import pytest

from torchreid_nas.features import Label, read_label


@pytest.mark.parametrize("path, label", [
    ("bounding_box_test/0002_c1s1_000451_03.jpg", Label("2", 0)),
    ("bounding_box_test/0002_c6s3_000451_00.jpg.jpg", Label("2", 5)),
    ("query/0001_c2_f0046182.jpg", Label("1", 1)),
    ("test/0007/0007_003_14_0113afternoon_0404_2.jpg", Label("7", 13)),
    ("RegDB/Thermal/12/female_front_v_00123_12.bmp", Label("12", -1)),
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


def test_folders_with_numbers_are_identities_whatever_the_source():
    path = Path("RegDB/Thermal/007/a.bmp")
    assert {read_label(path, root).identity for root in (None, Path("RegDB"), path.parent)} == {"7"}
