"""The two networks of StarGAN: the paper's sizes at the paper's setting, and any size that is asked for."""
from __future__ import annotations

import pytest
import torch

from torchreid_nas.camstyle.networks import Discriminator, Generator, label_planes
from torchreid_nas.camstyle.settings import StarGANSettings


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_label_planes_are_ones_in_the_plane_of_the_camera_only():
    planes = label_planes(torch.tensor([2, 0]), 3, 4, 5)
    assert planes.shape == (2, 3, 4, 5) and planes.dtype == torch.float32
    for n, camera in enumerate((2, 0)):
        for plane in range(3):
            assert (planes[n, plane] == float(plane == camera)).all()


@pytest.mark.parametrize("height, width", [(32, 16), (16, 32), (40, 20), (8, 8), (64, 64)])
def test_networks_take_every_size_divisible_by_4(height, width):
    layers = StarGANSettings(height=height, width=width).discriminator_layers
    generator, discriminator = Generator(3, 4, 1), Discriminator(3, height, width, 4, layers)
    images = torch.rand(2, 3, height, width) * 2 - 1
    fakes = generator(images, torch.tensor([0, 2]))
    assert fakes.shape == images.shape and fakes.abs().max() <= 1
    patches, logits = discriminator(fakes)
    assert patches.shape == (2, 1, height >> layers, width >> layers) and logits.shape == (2, 3)


def test_the_paper_s_networks_have_the_sizes_that_its_tables_add_up_to():
    with torch.device("meta"):
        generator, discriminator = Generator(5), Discriminator(5, 128, 128)
        images, cameras = torch.rand(16, 3, 128, 128), torch.zeros(16, dtype=torch.int64)
    norm = lambda channels: 2 * channels
    down = (3 + 5) * 64 * 49 + norm(64) + 64 * 128 * 16 + norm(128) + 128 * 256 * 16 + norm(256)
    residual = 6 * 2 * (256 * 256 * 9 + norm(256))
    up = 256 * 128 * 16 + norm(128) + 128 * 64 * 16 + norm(64) + 64 * 3 * 49
    assert parameters(generator) == down + residual + up == 8_430_528
    widths = [3, 64, 128, 256, 512, 1024, 2048]
    convolutions = sum(inputs * outputs * 16 + outputs for inputs, outputs in zip(widths, widths[1:]))
    assert parameters(discriminator) == convolutions + 2048 * 9 + 2048 * 2 * 2 * 5 == 44_762_048
    patches, logits = discriminator(generator(images, cameras))
    assert patches.shape == (16, 1, 2, 2) and logits.shape == (16, 5)


def test_on_a_2_to_1_box_the_camera_head_covers_the_whole_map():
    with torch.device("meta"):
        discriminator = Discriminator(6, 256, 128)
        patches, logits = discriminator(torch.rand(1, 3, 256, 128))
    assert patches.shape == (1, 1, 4, 2) and logits.shape == (1, 6)
    assert discriminator.cameras.weight.shape == (6, 2048, 4, 2)


def test_the_generator_depends_on_the_camera_and_not_on_other_images():
    torch.manual_seed(0)
    generator = Generator(3, 4, 1)
    images = torch.rand(1, 3, 16, 16).expand(3, -1, -1, -1)
    fakes = generator(images, torch.tensor([0, 1, 2]))
    assert not torch.equal(fakes[0], fakes[1]) and not torch.equal(fakes[1], fakes[2])
    torch.testing.assert_close(generator(images[:1], torch.tensor([1])), fakes[1:2])


def test_the_discriminator_scores_each_image_alone():
    torch.manual_seed(0)
    discriminator = Discriminator(2, 16, 16, 4, 3)
    images = torch.rand(3, 3, 16, 16)
    patches, logits = discriminator(images)
    alone = [discriminator(image[None]) for image in images]
    torch.testing.assert_close(torch.cat([a[0] for a in alone]), patches)
    torch.testing.assert_close(torch.cat([a[1] for a in alone]), logits)
