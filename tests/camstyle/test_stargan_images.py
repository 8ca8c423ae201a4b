"""What a StarGAN reads: labels of cameras, pixels, and an order that is a function of the seed."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from msmt17 import CAMERAS, PERSONS, write_msmt17
from PIL import Image

from torchreid_nas.camstyle.images import ImageStream, derived_generator, load_camera_images, to_pillow, to_tensor
from torchreid_nas.errors import InputError


def test_labels_count_the_cameras_that_are_there(camera_images):
    images = camera_images()
    assert images.camids == (0, 2, 3) and len(images) == 6
    assert [images.label(index) for index in range(6)] == [images[index][1] for index in range(6)]
    assert all(images.camids[images.label(i)] == images.items[i][2] for i in range(6))
    assert images.items == sorted(images.items)
    assert images[0][0].shape == (3, 32, 16) and images[0][0].abs().max() <= 1


def test_one_camera_is_not_enough(camera_images):
    with pytest.raises(InputError, match="images of 1 camera, expected at least 2"):
        camera_images(camids=(2,))


def test_of_msmt17_the_images_of_its_validation_list_are_there_too(tmp_path):
    folder = write_msmt17(tmp_path)
    images = load_camera_images("msmt17", tmp_path, 32, 16)
    assert len(images) == PERSONS * CAMERAS and images.camids == tuple(range(CAMERAS))
    assert [item[0] for item in images.items] == sorted(map(str, (folder / "train").rglob("*.jpg")))


def test_pixels_survive_the_way_there_and_back():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 4, 3)).astype(np.uint8))
    tensor = to_tensor(image, 8, 4)
    assert tensor.shape == (3, 8, 4) and tensor.dtype == torch.float32
    assert np.array_equal(np.asarray(to_pillow(tensor)), np.asarray(image))
    assert tensor[1, 2, 3].item() == pytest.approx(image.getpixel((3, 2))[1] / 127.5 - 1)
    assert to_tensor(image, 16, 12).shape == (3, 16, 12)
    assert np.asarray(to_pillow(torch.full((3, 2, 2), 1.5))).tolist() == [[[255] * 3] * 2] * 2


def test_the_stream_shows_each_image_once_per_round_and_mirrors_some(camera_images):
    images = camera_images(per_camera=8)
    stream, known = ImageStream(images, 3), [images[index][0] for index in range(24)]
    orders, mirrored = [], 0
    for epoch in range(3):
        order = []
        for place in range(24):
            image, label = stream[24 * epoch + place]
            both = image, image.flip(-1)
            (match,) = [i for i, real in enumerate(known) if any(torch.equal(real, seen) for seen in both)]
            mirrored += not torch.equal(image, known[match])
            assert label == images.label(match)
            order.append(match)
        assert sorted(order) == list(range(24))
        orders.append(tuple(order))
    assert len(set(orders)) == 3 and 20 < mirrored < 52


def test_the_stream_is_a_function_of_position_and_seed(camera_images):
    images = camera_images()
    one, other, third = ImageStream(images, 1), ImageStream(images, 1), ImageStream(images, 2)
    forwards = [one[position] for position in range(14)]
    for position in reversed(range(14)):
        image, label = other[position]
        assert torch.equal(image, forwards[position][0]) and label == forwards[position][1]
    assert any(not torch.equal(third[position][0], forwards[position][0]) for position in range(14))


def test_derived_generators_differ_by_every_part():
    seeds = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
    draws = {parts: torch.rand(4, generator=derived_generator(*parts)) for parts in seeds}
    assert torch.equal(draws[1, 0, 1], torch.rand(4, generator=derived_generator(1, 0, 1)))
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 4
