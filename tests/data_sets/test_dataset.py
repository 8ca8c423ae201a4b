from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from torch.utils.data import default_collate
from torchvision.transforms import ToTensor

from torchreid_nas.data import INFRARED, VISIBLE, CrossModalityDataset, RegDB, as_cross_modality, read_image
from torchreid_nas.errors import InputError


class Plain(torchreid.data.ImageDataset):
    """A torchreid data set as users write them."""

    def __init__(self, paths, **kwargs):
        items = [(str(path), pid, camid) for pid, (path, camid) in enumerate(zip(paths, (0, 3, 3)))]
        super().__init__(items, items, items, verbose=False, **kwargs)


@pytest.fixture
def paths(regdb):
    return sorted((regdb / "RegDB" / "Visible" / "1").iterdir())


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png"])
def test_read_image_refuses_what_is_broken(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    with pytest.raises(InputError, match=f"image{suffix}.*does not exist"):
        read_image(path)
    Image.effect_noise((64, 64), 60).convert("RGB").save(path)
    image = read_image(path)
    assert image.mode == "RGB" and image.size == (64, 64)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:20], b"", b"no image at all"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=f"image{suffix}.*truncated or no image"):
            read_image(path)


@pytest.mark.parametrize("number", [int, float, np.int64, np.float32, np.uint8, np.array(0).dtype.type])
def test_whole_numbers_of_any_type_are_identities_and_cameras(number):
    items = [("a.png", number(3), number(1)), ["b.png", number(4), number(2), number(0)]]
    dataset = CrossModalityDataset(items, items, items, infrared_camids={2}, verbose=False)
    assert dataset.train == dataset.query == [("a.png", 3, 1, 0), ("b.png", 4, 2, 0)]
    assert all(type(value) is int for item in dataset.gallery_pool for value in item[1:])
    assert dataset.modality_of(dataset.train[1][2]) == INFRARED


@pytest.mark.parametrize("item, message", [
    (("a.png", "7", 0), r"""identity of image 1 of the query part \("a.png"\) is '7', expected a whole number"""),
    (("a.png", 7, "c1"), "camera of image 1 of the query part .* is 'c1'"),
    (("a.png", 7.5, 0), "identity .* is 7.5"),
    (("a.png", float("nan"), 0), "identity .* is nan"),
    (("a.png", True, 0), "identity .* is True"),
    (("a.png", 7, None), "camera .* is None"),
    (("a.png", 7), r"image 1 of the query part is \('a.png', 7\), expected \(path, identity, camera\)"),
    ((7, 7, 7), r"image 1 of the query part is \(7, 7, 7\)"),
])
def test_an_image_with_other_labels_is_named(item, message):
    good = [("b.png", 0, 0)]
    with pytest.raises(InputError, match=message):
        CrossModalityDataset(good, [*good, item], good, verbose=False)


def test_gray_images_become_rgb(tmp_path):
    Image.new("L", (4, 6), 7).save(tmp_path / "gray.png")
    assert read_image(tmp_path / "gray.png").getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("name, dtype", [("deep.png", np.uint16), ("deep.tiff", np.int32), ("deep.tif", np.float32)])
def test_grey_values_beyond_8_bits_are_refused_and_not_clipped_to_white(tmp_path, name, dtype):
    """As radiometric thermal cameras store them."""
    Image.fromarray(np.full((6, 4), 9000, dtype)).save(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}.* has grey values of 16 bits or more .*expected 8 bits; save it again"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colours_of_16_bits_with_fewer_used_bits_are_refused(tmp_path, name, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (6, 4, 3), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / name), pixels)
    with pytest.raises(InputError, match=rf"{name}.* has 16 bits per colour, but no value of 16,384 or more .*save it again"):
        read_image(tmp_path / name)


def test_grey_with_alpha_of_16_bits_and_fewer_used_bits_is_refused(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">HH", 900, 65535) * 3 for _ in range(2))
    header = struct.pack(">IIBBBBB", 3, 2, 16, 4, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "la.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(InputError, match="la.png.* has 16 bits per colour"):
        read_image(tmp_path / "la.png")


def test_colours_that_use_all_16_bits_keep_their_upper_8(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (6, 4, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "full.png"), pixels)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "full.png")), (pixels >> 8)[:, :, ::-1])


def test_items_carry_modality_and_index_through_collate(regdb):
    dataset = RegDB(regdb, transform=ToTensor(), verbose=False)
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["index"] for item in items] == list(range(len(dataset.train)))
    assert [item["modality"] for item in items] == [camid for _, _, camid, _ in dataset.train]
    assert {item["modality"] for item in items} == {VISIBLE, INFRARED}
    batch = default_collate(items[-2:])
    assert set(batch) == {"img", "pid", "camid", "impath", "dsetid", "modality", "index"}
    assert batch["modality"].tolist() == [INFRARED] * 2 and batch["img"].shape == (2, 3, 16, 8)
    assert dataset[-1]["index"] == len(dataset) - 1
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_k_tfm_applies_the_transform_k_times(regdb):
    dataset = RegDB(regdb, transform=ToTensor(), k_tfm=2, verbose=False)
    for images in (dataset[0]["img"], (dataset + dataset)[0]["img"]):
        assert [image.shape for image in images] == [(3, 16, 8)] * 2


def test_sum_keeps_class_modality_and_index(regdb, paths):
    first, second = RegDB(regdb, verbose=False), RegDB(regdb, split_id=1, verbose=False)
    both = sum([first, second])
    assert isinstance(both, CrossModalityDataset)
    size = len(first.train)
    assert both.train[:size] == first.train
    assert both.train[size:] == [(path, pid + 4, camid + 2, 1) for path, pid, camid, _ in second.train]
    assert both.num_train_pids == 8 and both.num_train_cams == 4 and both.num_datasets == 2
    assert [both.modality_of(camid) for camid in range(4)] == [0, 1, 0, 1]
    assert both.query == first.query and both.gallery == first.gallery
    last = both[len(both) - 1]
    assert last["modality"] == INFRARED and last["index"] == 2 * size - 1

    three = sum([first, second, first])
    assert three.num_train_pids == 12 and three.num_datasets == 3
    assert [item[0] for item in three.train[2 * size:]] == [item[0] for item in first.train]
    assert all(three.modality_of(camid) == camid % 2 for _, _, camid, _ in three.train)


def test_sum_with_plain_data_sets_counts_them_as_visible(regdb, paths):
    ours, plain = RegDB(regdb, verbose=False), Plain(paths)
    right = ours + plain
    assert [item[1:] for item in right.train[-3:]] == [(4, 2, 1), (5, 5, 1), (6, 5, 1)]
    assert {right.modality_of(camid) for camid in (2, 5)} == {VISIBLE}

    left = as_cross_modality(plain) + ours
    assert isinstance(left, CrossModalityDataset) and left.query == plain.query
    # Camera 3 of the plain data set must not run into the shifted ones: the shift is by number, not by count.
    assert {item[2] for item in left.train} == {0, 3, 4, 5}
    assert [left.modality_of(camid) for camid in (0, 3, 4, 5)] == [0, 0, 0, 1]

    # An exact ImageDataset on the left lets the subclass on the right answer.
    exact = torchreid.data.ImageDataset(plain.train, plain.query, plain.gallery, verbose=False)
    assert (exact + ours).train == left.train and (exact + ours).infrared_camids == {5}
    with pytest.raises(InputError, match="list cannot join"):
        ours + [1]


def test_sum_shifts_beyond_infrared_cameras_that_have_no_image(paths):
    items = [(str(paths[0]), 0, 0)]
    first = CrossModalityDataset(items, items, items, infrared_camids={2, 5}, verbose=False)
    both = first + first
    assert both.train[1][2] == 6 and both.modality_of(6) == VISIBLE and both.infrared_camids == {2, 5, 8, 11}


def test_combineall_gives_all_test_images_new_labels(regdb):
    plain = RegDB(regdb, verbose=False)
    combined = RegDB(regdb, combineall=True, verbose=False)
    assert len(combined) == len(plain.train) + len(plain.query) + len(plain.gallery)
    assert {item[1] for item in combined.train} == set(range(8)) and combined.num_train_pids == 8


@pytest.mark.parametrize("part", ["train", "query", "gallery"])
def test_empty_parts_are_refused(part):
    parts = {name: [("image.jpg", 0, 0)] for name in ("train", "query", "gallery")}
    parts[part] = []
    with pytest.raises(InputError, match=f"no {part} images"):
        CrossModalityDataset(**parts, verbose=False)


@pytest.mark.parametrize("sources", ["regdb", ["regdb", "sysu_mm01"]])
def test_stock_data_manager_of_torchreid(regdb, make_sysu, sources, capsys):
    make_sysu(regdb)
    manager = torchreid.data.ImageDataManager(
        root=str(regdb), sources=sources, targets="regdb", height=16, width=8, batch_size_train=8, batch_size_test=8,
        workers=0, use_gpu=False, split_id=1,
    )
    trainset = manager.train_loader.dataset
    assert isinstance(trainset, CrossModalityDataset)
    assert manager.num_train_pids == (4 if sources == "regdb" else 9)
    batch = next(iter(manager.train_loader))
    modalities = [trainset.modality_of(trainset.train[index][2]) for index in batch["index"]]
    assert batch["modality"].tolist() == modalities and batch["modality"].dtype == torch.int64
    assert next(iter(manager.test_loader["regdb"]["gallery"]))["modality"].tolist() == [INFRARED] * 8
