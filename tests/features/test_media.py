"""Which files are opened as images and videos, and what is said of the others."""
import os
import shutil
import socket

import cv2
import numpy as np
import pytest
from PIL import Image

from torchreid_nas.errors import InputError, InputWarning
from torchreid_nas.features import FeatureExtractor
from torchreid_nas.features.images import Source
from torchreid_nas.features.media import image_suffixes, kind_of

PERSON = Image.new("RGB", (8, 16), (9, 99, 199))


@pytest.mark.parametrize("name", [
    "a.jfif", "a.jpe", "a.gif", "a.tga", "a.pcx", "a.jp2", "a.JPG", "a.ico", "a.dib", "no_suffix", "a.dat",
])
def test_images_of_every_suffix_and_of_none_are_read(name, tmp_path):
    formats = {"a.jfif": "JPEG", "a.jpe": "JPEG", "a.jp2": "JPEG2000", "a.JPG": "JPEG", "no_suffix": "PNG", "a.dat": "JPEG"}
    PERSON.save(tmp_path / name, format=formats.get(name))
    picture, = Source(tmp_path)
    assert picture.image.size == (8, 16)
    np.testing.assert_allclose(picture.image.getpixel((4, 8)), (9, 99, 199), atol=12)


@pytest.mark.parametrize("name", ["a.mjpg", "clip", "a.AVI"])
def test_videos_are_known_by_suffix_or_content(name, video, tmp_path):
    (tmp_path / "folder").mkdir()
    shutil.copy(video, tmp_path / "folder" / name)
    assert len(list(Source(tmp_path / "folder", 3))) == 3


def test_a_format_that_opencv_alone_knows_is_read(tmp_path):
    cv2.imwrite(str(tmp_path / "a.pam"), np.full((3, 2, 3), (199, 99, 9), np.uint8))  # OpenCV's order is BGR
    picture, = Source(tmp_path)
    assert picture.image.size == (2, 3) and picture.image.getpixel((0, 0)) == (9, 99, 199)
    cv2.imwrite(str(tmp_path / "a.hdr"), np.ones((4, 4, 3), np.float32))
    picture, = Source(tmp_path / "a.hdr")
    assert picture.image is None and "float32, expected 8 bits" in picture.problem


def test_formats_that_start_another_program_are_none(tmp_path):
    assert not {".eps", ".ps", ".pdf", ".wmf"} & set(image_suffixes())
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert kind_of(tmp_path / "a.eps") == ""


def test_what_a_folder_holds_and_is_not_read_is_counted_and_named(trained, tmp_path):
    PERSON.save(tmp_path / "a.png")
    for name in ("notes.txt", "labels.csv", ".hidden"):
        (tmp_path / name).write_text("no image")
    with pytest.warns(InputWarning, match="2 files are neither images nor videos and were left out: .*labels.csv, .*notes.txt"):
        assert len(FeatureExtractor(trained, "visible", "cpu").extract(tmp_path)) == 1


def test_pictures_wider_than_high_are_warned_of_once(trained, tmp_path):
    for number in range(3):
        PERSON.rotate(90, expand=True).save(tmp_path / f"{number}.png")
    PERSON.save(tmp_path / "4.png")
    with pytest.warns(InputWarning) as caught:
        FeatureExtractor(trained, "visible", "cpu").extract(tmp_path)
    message, = [str(warning.message) for warning in caught]
    assert "3 images are wider than high, the first: " in message and "0.png" in message and "--boxes FILE" in message


@pytest.mark.parametrize("suffix", ["png", "mp4", "dat"])
@pytest.mark.parametrize("kind", ["a named pipe", "a socket"])
def test_what_is_no_regular_file_is_named_and_never_opened(kind, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    if kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        os.mkfifo(path)
    picture, = Source([path])
    assert picture.image is None and str(path) in picture.problem and kind in picture.problem
    PERSON.save(tmp_path / "a.png")
    source = Source(tmp_path)
    assert [p.name for p in source if p.image is not None] == [str(tmp_path / "a.png")]
    assert str(path) in [*source.left_out, *(p.name for p in source if p.image is None)] and len(source) <= 2


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    (tmp_path / "source" / "x.png").mkdir(parents=True)
    PERSON.save(tmp_path / "source" / "x.png" / "a.png")
    picture, = Source(tmp_path / "source")
    assert picture.label.identity == "x.png"


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    PERSON.save(tmp_path / "a.png")
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match='folder ".*secret" cannot be read .Permission denied.'):
        Source(tmp_path)
