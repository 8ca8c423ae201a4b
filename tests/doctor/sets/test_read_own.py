"""The doctor's reader of own images: layouts, tables, what is not known, and what does not fit."""
from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from torchreid_nas.doctor import quick_checks, read_data
from torchreid_nas.errors import InputError


def pictures(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), (number, 90, 30)).save(path)
    return folder


def test_persons_and_cameras_come_from_the_folders(tmp_path):
    data = read_data(pictures(tmp_path, "anna/cam1/1.png", "anna/cam2/1.png", "bob/cam2/2.png"))
    assert {(record.person, data.camera_name(record.camera)) for record in data.records} == {
        ("anna", "cam1"), ("anna", "cam2"), ("bob", "cam2"),
    }
    assert {record.part for record in data.records} == {"train"} and data.protocol.skips_own_camera


def test_what_nobody_knows_is_said_and_not_checked(tmp_path):
    data = read_data(f"folder:{pictures(tmp_path, 'anna/1.png', 'bob/2.png')}")
    said = " ".join(data.remarks)
    assert "which camera took an image" in said and "which images are for training" in said
    assert not data.protocol.skips_own_camera


def test_images_that_a_layout_does_not_match_are_named(tmp_path):
    data = read_data(pictures(tmp_path, "anna/c1_1.png", "bob/c2_1.png", "bob/readme.png"), layout="{pid}/{camid}_{frame}")
    finding, = data.found
    assert finding.name == "bad_name" and finding.files == (str(tmp_path / "bob/readme.png"),)
    assert len(data.records) == 2


def test_a_table_with_roles_is_checked_across_its_parts(tmp_path):
    pictures(tmp_path, "1.png", "2.png", "3.png", "4.png")
    table = tmp_path / "people.csv"
    table.write_text(
        "path,pid,camid,split,role\n1.png,anna,a,train,\n2.png,bob,a,test,query\n3.png,bob,b,test,gallery\n"
        "4.png,anna,b,test,gallery\n"
    )
    data = read_data(str(table))
    assert {record.path[-5:]: record.part for record in data.records} == {
        "1.png": "train", "2.png": "query", "3.png": "gallery", "4.png": "gallery",
    }
    assert [finding.sentence for finding in quick_checks(data)] == [
        "1 person of the training part is in the test part too: anna.",
    ]


@pytest.mark.parametrize("source, reason", [
    ("no/such/place", "is neither a folder, a CSV file nor the name of a data set"),
    ("markt1501", 'did you mean "market1501"?'),
    ("market1501", "name its parent by --root"),
])
def test_what_is_not_there_is_said_with_the_way_out(source, reason, tmp_path):
    with pytest.raises(InputError) as refusal:
        read_data(source, tmp_path)
    assert reason in str(refusal.value)


def test_a_folder_of_several_data_sets_asks_which(tmp_path):
    for folder, marks in (("RegDB", ("idx", "Visible")), ("SYSU-MM01", ("exp", "cam1"))):
        for mark in marks:
            (tmp_path / folder / mark).mkdir(parents=True)
    with pytest.raises(InputError, match="holds several data sets; name one of them: sysu_mm01, regdb"):
        read_data(tmp_path)


def test_a_data_set_without_an_image_is_refused(tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "cam1").mkdir()
    (tmp_path / "exp" / "train_id.txt").write_text("1")
    with pytest.raises(InputError, match="holds no image .it holds 1 other files.; unpack the data set again"):
        read_data(tmp_path)


def test_a_data_set_of_the_registry_is_read_by_its_own_reader(tmp_path, monkeypatch):
    import torchreid

    from torchreid_nas.host import IMAGE_DATASETS

    class Campus(torchreid.data.ImageDataset):
        def __init__(self, root="", **kwargs):
            files = [str(path) for path in sorted(Path(root).glob("*.png"))]
            super().__init__([(files[0], 0, 0)], [(files[1], 0, 0)], [(files[2], 0, 1)], **kwargs)

    monkeypatch.setitem(IMAGE_DATASETS, "doctor_campus", Campus)
    data = read_data("doctor_campus", pictures(tmp_path, "1.png", "2.png", "3.png"))
    assert [record.part for record in data.records] == ["train", "query", "gallery"]
    assert data.shown(data.records[0].path) == "1.png"
    # Training labels are counted anew: person 0 of the training need not be person 0 of the test.
    assert quick_checks(data) == []
