"""Batched augmentation: torchvision's and torchreid's results for the same parameters, and their distributions."""
from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from scipy import stats
from torchvision import transforms as T
from torchvision.transforms import functional as F

from torchreid_nas.data import build_cross_modality_transforms
from torchreid_nas.data.augmentation import BatchTransform, Erase, Flip, PadCrop, Translate
from torchreid_nas.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Erasing

HEIGHT, WIDTH, COUNT = 64, 32, 12
NORMALIZE = T.Compose([T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def batched(*names):
    return BatchTransform.of(build_cross_modality_transforms(HEIGHT, WIDTH, names)[0], HEIGHT, WIDTH)


def empty(channels_last):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.full((COUNT, 3, HEIGHT, WIDTH), torch.nan).to(memory_format=memory_format)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_recipe_is_torchvisions_to_the_bit(pixels, generator, channels_last):
    transform = batched("pad_crop", "random_flip", "random_erase")
    drawn = transform.draw(COUNT, HEIGHT, WIDTH, generator)
    expected = []
    for image, (top, left), (flip,), (erase, y, x, h, w) in zip(pixels.numpy().copy(), *(values.tolist() for values in drawn)):
        image = F.crop(F.pad(Image.fromarray(image), 10), top, left, HEIGHT, WIDTH)
        image = NORMALIZE(F.hflip(image) if flip else image)
        expected.append(image)
        if erase:
            image[:, y:y + h, x:x + w] = torch.tensor(IMAGENET_MEAN)[:, None, None]
    out = empty(channels_last)
    copy = pixels.clone()
    found = transform.apply(pixels, drawn, out)
    assert torch.equal(found, torch.stack(expected)) and found.data_ptr() == out.data_ptr()
    # What a GPU runs.
    assert torch.equal(transform.apply_to_batch(copy, drawn, empty(channels_last)), found)
    assert 0 < drawn[1].sum() < COUNT and 0 < drawn[2][:, 0].sum() < COUNT


@pytest.mark.parametrize("channels_last", [False, True])
def test_without_augmentation_it_is_the_test_transform(pixels, channels_last):
    for compose in build_cross_modality_transforms(HEIGHT, WIDTH, None):
        transform = BatchTransform.of(compose, HEIGHT, WIDTH)
        expected = torch.stack([compose(Image.fromarray(image)) for image in pixels.numpy()])
        assert torch.equal(transform.apply(pixels, [], empty(channels_last)), expected)
        assert torch.equal(transform.apply(pixels, []), expected)


def test_translation_is_torchreids_and_on_a_gpu_so_to_a_grey_level(pixels, generator):
    drawn = Translate().draw(COUNT, HEIGHT, WIDTH, generator)
    batch = Translate().apply_to_batch(pixels.clone(), drawn).numpy()
    for image, on_gpu, (chosen, top, left) in zip(pixels.numpy(), batch, drawn.tolist()):
        expected = Image.fromarray(image)
        if chosen:
            expected = expected.resize((36, 72), Image.Resampling.BILINEAR).crop((left, top, left + WIDTH, top + HEIGHT))
        expected = np.asarray(expected)
        assert np.array_equal(Translate().apply(image, chosen, top, left), expected)
        assert np.abs(on_gpu.astype(int) - expected).max() <= (1 if chosen else 0)
    assert 0 < drawn[:, 0].sum() < COUNT


@pytest.mark.parametrize("channels_last", [False, True])
def test_parts_of_a_batch_in_threads_are_the_batch(pixels, generator, channels_last):
    transform = batched("pad_crop", "random_crop", "random_flip", "random_erase")
    drawn = transform.draw(COUNT, HEIGHT, WIDTH, generator)
    expected, out = transform.apply(pixels.clone(), drawn), empty(channels_last)
    parts = [slice(start, start + 5) for start in range(0, COUNT, 5)]
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(transform.apply, pixels[part], [v[part] for v in drawn], out[part]) for part in parts]
        [job.result() for job in jobs]
    assert torch.equal(out, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_gives_the_cpus_numbers(pixels, generator, channels_last):
    transform = batched("pad_crop", "random_flip", "random_erase")
    drawn = transform.draw(COUNT, HEIGHT, WIDTH, generator)
    found = transform.apply(pixels.cuda(), drawn, empty(channels_last).cuda())
    assert torch.equal(found.cpu(), transform.apply(pixels, drawn))


def test_an_image_smaller_than_the_padding_may_be_moved_out_of_sight():
    image = np.random.default_rng(0).integers(1, 256, (15, 6, 3), dtype=np.uint8)
    crop = PadCrop(10)
    for drawn in [(0, 0), (9, 3), (9, 4), (9, 16), (9, 17), (20, 20), (10, 10)]:
        expected = np.asarray(F.crop(F.pad(Image.fromarray(image), 10), *drawn, 15, 6))
        assert np.array_equal(crop.apply(image, *drawn), expected)
        assert np.array_equal(crop.apply_to_batch(torch.from_numpy(image)[None], torch.tensor([drawn]))[0], expected)


def test_only_what_has_a_batched_form_is_taken():
    names = [["random_patch"], ["color_jitter"], ["random_flip", "color_jitter"], ["random_sized_rect_crop", "random_patch"]]
    for transforms in names:
        assert BatchTransform.of(build_cross_modality_transforms(HEIGHT, WIDTH, transforms)[0], HEIGHT, WIDTH) is None
    transform = batched("random_crop", "pad_crop", "random_flip", "random_erase")
    assert [type(step) for step in transform.steps] == [PadCrop, Translate, Flip]
    assert transform.erase == Erase(IMAGENET_MEAN, largest_ratio=1 / 0.3)
    compose = build_cross_modality_transforms(HEIGHT, WIDTH)[0]
    assert BatchTransform.of(compose, HEIGHT, WIDTH + 1) is None and BatchTransform.of(None, HEIGHT, WIDTH) is None
    assert transform.rectangle is None
    compose = build_cross_modality_transforms(HEIGHT, WIDTH, ["random_sized_rect_crop", "random_flip", "random_erase"])[0]
    cut = BatchTransform.of(compose, HEIGHT, WIDTH)
    assert cut.rectangle is compose.transforms[0] and [type(step) for step in cut.steps] == [Flip] and cut.erase
    assert BatchTransform.of(compose, HEIGHT, WIDTH + 1) is None
    compose = build_cross_modality_transforms(HEIGHT, WIDTH)[0]

    class Other(T.RandomHorizontalFlip):
        pass

    for place, piece in ((1, T.RandomCrop((HEIGHT, WIDTH), padding=10, fill=3)), (2, Other()), (3, T.PILToTensor())):
        pieces = list(compose.transforms)
        pieces[place] = piece
        assert BatchTransform.of(T.Compose(pieces), HEIGHT, WIDTH) is None


def test_crops_and_flips_are_uniform(generator):
    drawn = PadCrop(10).draw(8000, HEIGHT, WIDTH, generator)
    for column in drawn.T:
        assert column.min() == 0 and column.max() == 20
        assert stats.chisquare(np.bincount(column, minlength=21)).pvalue > 1e-3
    assert abs(np.corrcoef(drawn.T.numpy())[0, 1]) < 0.05
    assert stats.binomtest(int(Flip().draw(8000, HEIGHT, WIDTH, generator).sum()), 8000, 0.5).pvalue > 1e-3


def test_translations_are_distributed_as_torchreids(generator):
    # On a 64 x 32 image the room is 8 and 4; the outermost places come half as often.
    drawn = Translate().draw(20000, HEIGHT, WIDTH, generator)
    assert stats.binomtest(int(drawn[:, 0].sum()), 20000, 0.5).pvalue > 1e-3
    for column, room in ((drawn[:, 1], 8), (drawn[:, 2], 4)):
        expected = np.full(room + 1, 1 / room)
        expected[[0, -1]] /= 2
        assert stats.chisquare(np.bincount(column, minlength=room + 1), expected * len(column)).pvalue > 1e-3


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (24, 96)])
def test_rectangles_are_distributed_as_torchreids(size, generator):
    height, width = size
    random.seed(0)
    plain = torchreid.data.transforms.RandomErasing(mean=[1, 1, 1])
    theirs = []
    for _ in range(4000):
        erased = plain(torch.zeros(3, height, width))[0].nonzero()
        if len(erased):
            (top, left), (bottom, right) = erased.min(0).values.tolist(), erased.max(0).values.tolist()
            theirs.append([top, left, bottom - top + 1, right - left + 1])
    drawn = Erase((0.0, 0.0, 0.0)).draw(4000, height, width, generator)
    ours = drawn[drawn[:, 0] == 1, 1:].numpy()
    assert abs(len(ours) - len(theirs)) < 5 * np.sqrt(4000 / 2)
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], np.array(theirs)[:, column]).pvalue > 1e-3
    assert stats.ks_2samp(ours[:, 2] * ours[:, 3], np.prod(np.array(theirs)[:, 2:], axis=1)).pvalue > 1e-3


def test_the_eraser_takes_the_settings_of_the_plain_one():
    plain = torchreid.data.transforms.RandomErasing(probability=0.3, sl=0.1, sh=0.2, r1=0.5, mean=[1.0, 2.0, 3.0])
    compose = T.Compose([T.Resize((8, 4)), T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD), plain])
    assert BatchTransform.of(compose, 8, 4).erase == Erase((1.0, 2.0, 3.0), 0.3, 0.1, 0.2, 0.5)


def test_the_erasers_bounds_come_along(generator):
    erasing = Erasing(1.0, (0.02, 0.2), (0.3, 3.0))
    compose, _ = build_cross_modality_transforms(256, 128, ["random_erase"], erasing=erasing)
    erase = BatchTransform.of(compose, 256, 128).erase
    assert erase == Erase(IMAGENET_MEAN, 1.0, 0.02, 0.2, 0.3, 3.0)
    _, _, _, height, width = erase.draw(2000, 256, 128, generator).double().unbind(1)
    assert (height * width).min() / (256 * 128) > 0.019 and (height * width).max() / (256 * 128) < 0.201
    assert 0.29 < (height / width).min() < 0.32 and 2.9 < (height / width).max() < 3.1


def test_an_image_that_no_rectangle_fits_is_left_alone(generator):
    assert not Erase((0.0, 0.0, 0.0), 1.0, 0.9, 1.0, 0.9).draw(50, 1, 40, generator)[:, 0].any()


def test_mean_and_deviation_of_every_pixel_are_the_plain_pipelines(generator):
    count, height, width = 3000, 24, 12
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    compose = build_cross_modality_transforms(height, width, ["pad_crop", "random_flip", "random_erase"])[0]
    random.seed(0), torch.manual_seed(0)
    plain = torch.stack([compose(Image.fromarray(image)) for _ in range(count)])
    transform = BatchTransform.of(compose, height, width)
    batch = torch.from_numpy(image).expand(count, -1, -1, -1).contiguous()
    ours = transform.apply(batch, transform.draw(count, height, width, generator))
    error = ((plain.var(0) + ours.var(0)) / count).sqrt()
    assert ((plain.mean(0) - ours.mean(0)).abs() < 5 * error).all()
    torch.testing.assert_close(ours.std(0), plain.std(0), atol=0.15, rtol=0)
