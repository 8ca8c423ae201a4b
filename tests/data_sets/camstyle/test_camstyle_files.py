from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchreid_nas.data.camstyle import CameraStyleDataset, CamstyleNames, FileStyler, Style, camstyle_folder, camstyle_name
from torchreid_nas.data.dataset import CrossModalityDataset, read_pixels
from torchreid_nas.errors import InputError

LAYOUTS = {
    "Market-1501": (
        "bounding_box_train/0002_c1s1_000451_03.jpg", 0, 4, False,
        "bounding_box_train_camstyle/0002_c1s1_000451_03_fake_1to5.jpg",
    ),
    "DukeMTMC-reID": (
        "bounding_box_train/0001_c8_f0046182.jpg", 7, 0, False,
        "bounding_box_train_camstyle/0001_c8_f0046182_fake_8to1.jpg",
    ),
    "MSMT17": (
        "train/0000/0000_000_15_0303morning_0015_0.jpg", 14, 0, True,
        "bounding_box_train_camstyle/0000_000_15_0303morning_0015_0_fake_1.jpg",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_file_of_each_layout_is_found(tmp_path, layout):
    name, camid, new_camid, msmt17, expected = LAYOUTS[layout]
    item = (str(tmp_path / name), 0, camid, 0)
    assert camstyle_folder(item[0]) / camstyle_name(item[0], camid, new_camid, msmt17) == tmp_path / expected
    (tmp_path / expected).parent.mkdir()
    Image.new("RGB", (8, 16), (200, 40, 80)).save(tmp_path / expected)

    # The other camera's image has no file, which is counted.
    other = (str(Path(item[0]).with_name("9999_other.jpg")), 1, new_camid, 0)
    styler = FileStyler([item, other], [CamstyleNames(msmt17)])
    assert styler.camids == tuple(sorted((camid, new_camid)))
    assert (styler.num_files, styler.num_missing) == (2, 1)
    pixels = np.zeros((16, 8, 3), np.uint8)
    assert styler.source(item, new_camid) == str(tmp_path / expected) and styler(pixels, item, new_camid) is pixels
    assert styler.source(item, camid) == item[0]
    assert styler.source(other, camid) == other[0]


def test_each_image_gets_its_own_file_of_the_camera(market, release):
    paths = release(market)
    styler = FileStyler(market)
    assert (styler.num_files, styler.num_missing) == (24, 0) == (len(paths), 0)
    assert styler.summary() == f'24 of 24 camera-style images of 3 cameras found in "{paths[0].parent}"'
    for styled_by in (styler, pickle.loads(pickle.dumps(styler))):
        for position, item in enumerate(market):
            for camid in {0, 1, 2} - {item[2]}:
                # JPEG moves a plain colour by a grey level or two.
                styled = styled_by(read_pixels(styled_by.source(item, camid)), item, camid)
                assert styled[8, 4].tolist() == pytest.approx((8 * position, 40 * camid, 200), abs=3)


def test_the_names_of_msmt17_leave_out_the_own_camera(market, release):
    paths = release(market, msmt17=True)
    assert all(re.search(r"_fake_[123]\.jpg$", path.name) for path in paths)
    assert FileStyler(market, [CamstyleNames(msmt17=True)]).num_missing == 0
    with pytest.raises(InputError, match="none of the 24 camera-style images.*_fake_1to2.jpg"):
        FileStyler(market)


def test_missing_ones_are_counted_and_replaced_by_the_real_image(market, release):
    paths = release(market)
    gone = {paths[0], paths[5], paths[6]}
    for path in gone:
        path.unlink()
    styler = FileStyler(market)
    assert (styler.num_files, styler.num_missing) == (24, 3)
    assert styler.summary().startswith("21 of 24 ") and "the 3 missing are replaced by real ones" in styler.summary()
    for item in market:
        for camid in {0, 1, 2} - {item[2]}:
            path = camstyle_folder(item[0]) / camstyle_name(item[0], item[2], camid)
            assert styler.source(item, camid) == (item[0] if path in gone else str(path))


@pytest.mark.parametrize("empty", [False, True])
def test_when_all_are_missing_the_way_out_is_named(market, empty):
    folder = camstyle_folder(market[0][0])
    if empty:
        folder.mkdir()
    with pytest.raises(InputError) as caught:
        FileStyler(market)
    message = str(caught.value)
    assert f'"{folder}"' in message and ("does not exist" in message) != empty and "24 camera-style images" in message
    for part in (
        '"0000_c1s1_000000_01_fake_1to2.jpg"', "github.com/zhunzhong07/CamStyle", "github.com/zhunzhong07/ECN",
        "torchreid-nas camstyle", "ecn.camstyle to fourier, statistics or none",
    ):
        assert part in message


def test_of_several_data_sets_each_has_its_own_numbers_and_names(market, release, tmp_path):
    name = "msmt17/train/{0:04d}/{0:04d}_000_{1:02d}_0303morning_0015_0.jpg"
    other = [(str(tmp_path / name.format(pid, camid + 1)), pid, camid, 0) for _, pid, camid, _ in market]
    paths = {*map(str, release(market)), *map(str, release(other, msmt17=True))}
    # As data sets are added up: the second one's cameras and number come after the first one's.
    items = [*market, *((path, pid + 4, camid + 5, 1) for path, pid, camid, _ in other)]
    styler = FileStyler(items, [CamstyleNames(), CamstyleNames(msmt17=True, first_camid=5)])
    assert styler.camids == (0, 1, 2, 5, 6, 7) and (styler.num_files, styler.num_missing) == (48, 0)
    dataset = CameraStyleDataset(CrossModalityDataset(items, items, items, verbose=False), styler)
    torch.manual_seed(0)
    for index, item in enumerate(items):
        assert {dataset.draw(index).camid for _ in range(40)} == ({0, 1, 2} if item[3] == 0 else {5, 6, 7})
    found = [styler.source(item, camid) for item in items for camid in styler.camids_of(item) if camid != item[2]]
    assert set(found) == paths and len(found) == 48
    assert styler.source(items[-1], 5).endswith("0003_000_03_0303morning_0015_0_fake_1.jpg")

    for path in paths:
        if "msmt17" in path:
            Path(path).unlink()
    with pytest.raises(InputError, match="msmt17.*none of the 24 camera-style images"):
        FileStyler(items, [CamstyleNames(), CamstyleNames(msmt17=True, first_camid=5)])
    with pytest.raises(InputError, match="of 2 data sets, but there are names for 1"):
        FileStyler(items)


def test_a_broken_file_is_named(market, release):
    path = release(market)[0]
    path.write_bytes(path.read_bytes()[:100])
    dataset = CameraStyleDataset(CrossModalityDataset(market, market, market, verbose=False), FileStyler(market))
    with pytest.raises(InputError, match=f"{path.name}.*truncated or no image"):
        dataset.pixels(0, Style(1))


def test_released_styles_of_msmt17_are_told_from_those_of_torchreids(market):
    """The authors' copy has names like those of Market-1501; whoever has put their images there is not told to do so again."""
    train = Path(market[0][0]).parents[1] / "train"
    items = [(str(train / f"{pid:04d}" / f"{pid:04d}_000_{camid + 1:02d}_0303morning_0015_0.jpg"), pid, camid, 0)
             for _, pid, camid, _ in market]
    folder = camstyle_folder(items[0][0])
    folder.mkdir()
    (folder / "0000_c1_0001_fake_2.jpg").touch()
    with pytest.raises(InputError) as caught:
        FileStyler(items, [CamstyleNames(msmt17=True)])
    message = str(caught.value)
    assert "holds other files, but none of the 24 camera-style images" in message and "put there" not in message
    for part in ("authors' own copy", "torchreid's MSMT17", "so make images with torchreid-nas camstyle", "fourier"):
        assert part in message


def test_a_folder_that_is_a_file_is_refused(market):
    camstyle_folder(market[0][0]).write_text("not a folder")
    with pytest.raises(InputError, match="cannot be listed"):
        FileStyler(market)


def test_images_whose_styles_would_share_a_file_are_refused():
    # SYSU-MM01 numbers the images of each identity in each camera from 0001.
    items = [(f"SYSU-MM01/cam{camera}/{pid:04d}/0001.jpg", pid, camera - 1, 0) for pid in (1, 2) for camera in (1, 2)]
    with pytest.raises(InputError, match='2 training images are named "0001".*share a file'):
        FileStyler(items)


def test_names_without_the_own_camera_forbid_two_cameras_one_stem():
    items = [(f"train/{camid:04d}/picture.jpg", 0, camid, 0) for camid in (0, 1)]
    with pytest.raises(InputError, match='2 training images are named "picture"'):
        FileStyler(items, [CamstyleNames(msmt17=True)])
    with pytest.raises(InputError, match="none of the 2 camera-style images"):
        FileStyler(items)
