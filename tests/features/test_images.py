"""Sources of images: files, folders, videos, arrays."""
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchreid_nas.errors import InputError
from torchreid_nas.features.images import Source, read_named


def save(path, value=100, size=(8, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)
    return path


def names(source, root):
    return [str(Path(picture.name).relative_to(root)) for picture in source]


def test_a_folder_is_searched_with_its_sub_folders_in_order_of_paths(tmp_path):
    for name in ("b/2.png", "b/10.jpg", "a.BMP", "c.jpeg"):
        save(tmp_path / name)
    save(tmp_path / "b" / ".hidden.jpg")
    save(tmp_path / ".thumbs" / "x.jpg")
    (tmp_path / "readme.txt").write_text("no image")
    source = Source(tmp_path)
    assert names(source, tmp_path) == ["a.BMP", "b/10.jpg", "b/2.png", "c.jpeg"] and len(source) == 4


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    save(tmp_path / "real" / "a.png")
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "source" / "sub" / "up").symlink_to(tmp_path / "source")
    save(tmp_path / "source" / "sub" / "b.png")
    assert names(Source(tmp_path / "source"), tmp_path / "source") == ["link/a.png", "sub/b.png"]


def test_a_source_is_read_again_each_time(tmp_path):
    save(tmp_path / "a.png")
    source = Source(tmp_path)
    assert [p.name for p in source] == [p.name for p in source] != []


def test_paths_arrays_and_images_together_keep_their_order(tmp_path):
    path = save(tmp_path / "a.png", 7)
    array = np.zeros((4, 5, 3), np.uint8)
    array[..., 2] = 9
    pictures = list(Source([array, path, Image.new("L", (3, 3), 5), str(tmp_path)]))
    assert [picture.name for picture in pictures] == ["image 0", str(path), "image 2", str(path)]
    assert [picture.image.getpixel((0, 0)) for picture in pictures] == [(0, 0, 9), (7, 0, 0), (5, 5, 5), (7, 0, 0)]


def test_a_grey_image_of_a_file_becomes_rgb(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    picture, = Source(tmp_path / "grey.png")
    assert picture.image.mode == "RGB" and picture.image.getpixel((1, 1)) == (77, 77, 77)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_stands_upright_as_its_orientation_says(suffix, tmp_path):
    upright = Image.new("RGB", (8, 16), (0, 0, 255))
    upright.paste((255, 0, 0), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    path = tmp_path / f"telephone.{suffix}"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95, subsampling=0)
    picture, = Source(path)
    for image in (picture.image, read_named([str(path)])[str(path)]):
        np.testing.assert_allclose(np.asarray(image), np.asarray(upright), atol=20)


def test_a_damaged_orientation_costs_no_image(tmp_path):
    Image.new("RGB", (8, 16), 7).save(tmp_path / "a.jpg", exif=b"Exif\0\0damaged")
    picture, = Source(tmp_path)
    assert picture.image.size == (8, 16)


def test_a_folder_below_the_source_names_the_identity(tmp_path):
    save(tmp_path / "alice" / "x.png")
    save(tmp_path / "x.png")
    assert [picture.label.identity for picture in Source(tmp_path)] == ["alice", ""]


# -- videos ---------------------------------------------------------------------


@pytest.mark.parametrize("stride, numbers", [(1, range(7)), (3, (0, 3, 6)), (100, (0,))])
def test_frames_of_a_video_with_a_stride(stride, numbers, video):
    source = Source(video, stride)
    pictures = list(source)
    assert [picture.name for picture in pictures] == [f"{video}#{number}" for number in numbers]
    assert len(source) == len(pictures)
    for number, picture in zip(numbers, pictures):
        left, right = picture.image.getpixel((8, 24)), picture.image.getpixel((56, 24))
        np.testing.assert_allclose(left, (255, 0, 0), atol=6)  # red, not blue: RGB order
        np.testing.assert_allclose(right, (30 * number,) * 3, atol=6)


def test_a_folder_may_hold_images_and_videos(video, tmp_path):
    save(tmp_path / "a.png")
    assert len(list(Source(tmp_path))) == 8


def test_frames_are_found_again_by_their_names(video, tmp_path):
    path = save(tmp_path / "a#3.png", 50)
    wanted = [f"{video}#5", f"{video}#2", str(path), str(tmp_path / "gone.png")]
    images = read_named(wanted)
    assert set(images) == set(wanted[:3])
    frames = {picture.name: picture.image for picture in Source(video)}
    for name in wanted[:2]:
        np.testing.assert_array_equal(np.asarray(images[name]), np.asarray(frames[name]))
    assert images[str(path)].getpixel((0, 0)) == (50, 0, 0)


def test_a_video_without_frames_is_a_picture_that_cannot_be_read(video, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    picture, = Source(empty)
    assert picture.image is None and "empty.mp4" in picture.problem and "no frame" in picture.problem


# -- bad input ------------------------------------------------------------------


def test_an_unreadable_image_is_a_picture_without_image(visible, tmp_path):
    good = next(visible.rglob("*.bmp"))
    shutil.copy(good, tmp_path / "a.bmp")
    (tmp_path / "b.bmp").write_bytes(good.read_bytes()[:100])
    (tmp_path / "c.jpg").write_bytes(b"<html>not found</html>")
    first, second, third = Source(tmp_path)
    assert first.image is not None and second.image is None and third.image is None
    assert "b.bmp" in second.problem and "c.jpg" in third.problem


@pytest.mark.parametrize("source, words", [
    ([], "list of them is empty"),
    ("nowhere.jpg", '"nowhere.jpg" does not exist'),
    (5, "a int is no image"),
    ([object()], "a object is no image"),
    (np.zeros((4, 4), np.uint8), r"\(4, 4\).*\(height, width, 3\) uint8"),
    (np.zeros((4, 4, 3)), "float64.*uint8"),
    (np.zeros((3, 4, 4, 3), np.uint8), "as a list"),
    (Image.new("I;16", (4, 4), 9000), "the image 0 has grey values of 16 bits"),
])
def test_what_is_no_source(source, words):
    with pytest.raises(InputError, match=words):
        Source(source)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no image and no video .*notes.txt"):
        Source(tmp_path)


@pytest.mark.parametrize("stride", [0, -1, 1.5, True])
def test_a_stride_below_one(stride, video):
    with pytest.raises(InputError, match="stride"):
        Source(video, stride)
