"""Persons cut out of whole scenes by a file of boxes."""
import numpy as np
import pytest
from PIL import Image

from torchreid_nas.errors import InputError
from torchreid_nas.features import FeatureExtractor, Label
from torchreid_nas.features.boxes import Box, read_boxes
from torchreid_nas.features.images import Source, read_named


@pytest.fixture
def scene(tmp_path):
    """An image of 40 x 20 whose red value is its column and whose green value is its row."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(40), np.arange(20)[:, None]
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@pytest.fixture
def boxes(tmp_path):
    """``boxes(text)``: the path of a file of that text."""

    def write(text):
        (tmp_path / "boxes.csv").write_text(text)
        return tmp_path / "boxes.csv"

    return write


def test_boxes_of_an_image_by_its_name(scene, boxes):
    file = boxes("file,left,top,width,height,id\nscene.png,3,4,5,10,7\nscene.png,-2,15,4,9,-1\n")
    pictures = list(Source(scene, boxes=file))
    assert [picture.name for picture in pictures] == [f"{scene}@3,4,5,10", f"{scene}@-2,15,4,9"]
    assert [picture.image.size for picture in pictures] == [(5, 10), (2, 5)]
    assert pictures[0].image.getpixel((0, 0)) == (3, 4, 0) and pictures[1].image.getpixel((0, 0)) == (0, 15, 0)
    assert [picture.label for picture in pictures] == [Label("7"), Label("")]
    assert len(Source(scene, boxes=file)) == 2
    for picture in pictures:
        np.testing.assert_array_equal(np.asarray(read_named([picture.name])[picture.name]), np.asarray(picture.image))


def test_corners_are_boxes_too_and_columns_stand_in_any_order(boxes):
    file = boxes("X2,Y2,frame,X1,Y1\n13.4,24.6,0,3.4,4.6\n")
    assert read_boxes(file).of_frame == {0: [Box(3, 5, 10, 20)]}


def test_frames_of_mot_count_from_one_and_of_csv_from_zero(boxes):
    assert read_boxes(boxes("1,-1,2,3,4,5,0.9,-1,-1,-1\n3,12,2,3,4,5,1\n")).of_frame == {
        0: [Box(2, 3, 4, 5, "")], 2: [Box(2, 3, 4, 5, "12")],
    }
    assert set(read_boxes(boxes("frame,left,top,width,height\n3,2,3,4,5\n")).of_frame) == {3}


def test_boxes_of_a_video_are_cut_out_of_their_frames(video, boxes):
    file = boxes("2,5,0,0,32,48\n2,6,32,0,32,48\n6,5,0,10,20,30\n")
    pictures = list(Source(video, boxes=file))
    assert [picture.name for picture in pictures] == [
        f"{video}#1@0,0,32,48", f"{video}#1@32,0,32,48", f"{video}#5@0,10,20,30",
    ]
    assert [picture.label.identity for picture in pictures] == ["5", "6", "5"]
    np.testing.assert_allclose(pictures[1].image.getpixel((16, 24)), (30, 30, 30), atol=6)
    found = read_named([picture.name for picture in pictures])
    assert all(found[picture.name].size == picture.image.size for picture in pictures)
    assert [picture.name for picture in Source(video, 5, file)] == [f"{video}#5@0,10,20,30"]


def test_frames_of_mot_may_be_a_folder_of_images(scene, boxes, tmp_path):
    (tmp_path / "img1").mkdir()
    for number in (1, 2, 3):
        Image.open(scene).save(tmp_path / "img1" / f"{number:06d}.png")
    pictures = list(Source(tmp_path / "img1", boxes=boxes("2,4,1,1,5,9\n9,4,1,1,5,9\n")))
    assert pictures[0].name == f"{tmp_path / 'img1' / '000002.png'}@1,1,5,9"
    assert pictures[1].image is None and 'has boxes of "frame 8", which the source does not have' in pictures[1].problem


def test_boxes_that_meet_no_image_are_named(scene, video, boxes):
    rows = "scene.png,,50,0,5,9\nother.png,,0,0,5,9\nclip.avi,99,0,0,5,9\nclip.avi,0,0,0,5,9\n"
    file = boxes("file,frame,left,top,width,height\n" + rows)
    problems = [picture.problem for picture in Source([scene, video], boxes=file) if picture.image is None]
    assert len(problems) == 3
    assert "lies outside of the image of 40 x 20" in problems[0] and "frame 99" in problems[1] and '"other.png"' in problems[2]


def test_features_of_boxes_warn_of_no_wide_scene(trained, scene, boxes, recwarn):
    extractor = FeatureExtractor(trained, "visible", "cpu")
    file = boxes("file,left,top,width,height,id\nscene.png,3,4,5,10,7\nscene.png,9,4,5,10,8\n")
    features = extractor.extract(scene, boxes=file)
    assert features.labels == ("7", "8") and len(set(features.files)) == 2 and not recwarn.list


@pytest.mark.parametrize("text, says", [
    ("", "is empty"),
    ("1,2,3\n", "line 1 has 3 values, expected frame, id, left"),
    ("0,1,2,3,4,5\n", "frames of the MOT challenge count from 1"),
    ("1,1,2,3,0,5\n", "a box of 0 x 5 pixels"),
    ("1,1,nan,3,4,5\n", 'line 1 holds "nan", expected a number'),
    ("1,1,2,3,4,1e400\n", 'holds "1e400"'),
    ("1,1,2,3,4," + "9" * 500 + "\n", "(500 characters)"),
    ("left,top,width\n1,2,3\n", 'has no column "height"'),
    ("left,top,width,height\n1,2,3,4\n", 'neither a column "file" nor "frame"'),
    ("frame,left,top,width,height\n1,2,3,4\n", "line 2 has 4 values, expected 5"),
    ("frame,left,top,width,height\n-1,2,3,4,5\n", "frames count from 0"),
])
def test_a_file_that_holds_no_boxes_is_one_sentence(text, says, boxes):
    with pytest.raises(InputError, match="boxes.csv") as error:
        read_boxes(boxes(text))
    assert says in str(error.value)


def test_bytes_and_folders_are_no_boxes(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\0,\0")
    with pytest.raises(InputError, match="no text of comma-separated values"):
        read_boxes(tmp_path / "b.csv")
    with pytest.raises(InputError, match="no regular file"):
        read_boxes(tmp_path)


def test_frames_of_several_files_must_name_them(scene, video, boxes):
    with pytest.raises(InputError, match="name frames and no files.*a column `file`"):
        Source([scene, video], boxes=boxes("1,1,2,3,4,5\n"))
