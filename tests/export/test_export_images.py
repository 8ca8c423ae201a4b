"""Images for checks and calibration."""
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from torchreid_nas.data.transforms import build_cross_modality_transforms
from torchreid_nas.errors import InputError
from torchreid_nas.export import ImagePool
from torchreid_nas.export.images import normalise, random_images


@pytest.fixture
def folder(tmp_path):
    """Six images of one grey each, 0, 10, …, 50, and a file of another kind."""
    root = tmp_path / "images"
    (root / "deeper").mkdir(parents=True)
    for number in range(6):
        place = root / "deeper" if number > 3 else root
        Image.fromarray(np.full((20, 10, 3), 10 * number, np.uint8)).save(place / f"z{number}.png")
    (root / "notes.txt").write_text("no image")
    return root


def greys(images):
    return sorted(round(255 * float(image.mean())) for image in images)


def test_a_folder_is_read_with_its_sub_folders(folder):
    pool = ImagePool(8, 4, folder)
    images = pool.take(100, None)
    assert images.shape == (6, 3, 8, 4) and greys(images) == [0, 10, 20, 30, 40, 50]
    assert pool.origin == f'"{folder}"' and pool.skipped == []


def test_fewer_are_spread_evenly_over_all(folder):
    assert greys(ImagePool(8, 4, folder).take(2, None)) == [30, 40]
    assert len(ImagePool(8, 4, folder).take(1, None, calibration=True)) == 1


def test_a_sub_folder_called_like_a_modality_is_taken_for_it(folder):
    (folder / "infrared").mkdir()
    shutil.copy(folder / "z2.png", folder / "infrared" / "a.png")
    pool = ImagePool(8, 4, folder)
    assert greys(pool.take(10, "infrared")) == [20]
    assert len(pool.take(10, "visible")) == 7


def test_unreadable_images_are_left_out_and_named_once(folder):
    (folder / "z1.png").write_bytes(b"broken")
    pool = ImagePool(8, 4, folder)
    for _ in range(2):
        assert greys(pool.take(10, None)) == [0, 20, 30, 40, 50]
    assert [path.name for path in pool.skipped] == ["z1.png"]


def test_normalised_they_are_what_the_test_transform_gives(folder):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    transform = build_cross_modality_transforms(8, 4, None, mean, std)[1]
    expected = transform(Image.open(folder / "z3.png").convert("RGB"))
    torch.testing.assert_close(normalise(ImagePool(8, 4, folder).take(6, None), mean, std)[5], expected)


def test_the_order_is_that_of_paths(folder):
    taken = ImagePool(8, 4, folder).take(6, None)
    assert [round(255 * float(image.mean())) for image in taken] == [40, 50, 0, 10, 20, 30]


def test_a_run_calibrates_on_its_training_and_compares_on_its_test_part(folder):
    class RunData:
        def train_paths(self, modality):
            return [folder / "z1.png"] if modality == "visible" else []

        def test_paths(self, modality):
            return [folder / "z2.png", folder / "z3.png"] if modality == "visible" else []

    pool = ImagePool(8, 4, run_data=RunData())
    assert greys(pool.take(5, "visible", calibration=True)) == [10]
    assert greys(pool.take(5, "visible")) == [20, 30]


def test_no_source_gives_none():
    pool = ImagePool(8, 4)
    assert pool.origin == "" and pool.take(3, None) is None


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match='folder of images ".*none" does not exist; check --images'):
        ImagePool(8, 4, tmp_path / "none")
    with pytest.raises(InputError, match="holds no image"):
        ImagePool(8, 4, tmp_path)
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="none of 1 images from .* can be read; the last one: .*a.png"):
        ImagePool(8, 4, tmp_path).take(3, None)


def test_random_images_are_the_same_for_the_same_seed():
    first, second = random_images(2, 8, 4), random_images(2, 8, 4)
    assert torch.equal(first, second) and first.shape == (2, 3, 8, 4)
    assert 0 <= first.min() < 0.2 and 0.8 < first.max() <= 1
    assert not torch.equal(first, random_images(2, 8, 4, seed=1))
