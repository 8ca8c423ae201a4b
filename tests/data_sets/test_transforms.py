from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from scipy import stats
from torchvision.transforms import functional as F

from torchreid_nas.data import build_cross_modality_transforms
from torchreid_nas.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TRANSFORMS,
    Erasing,
    RandomErase,
    RandomSizedRectCrop,
)
from torchreid_nas.errors import InputError


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8))


def names(compose):
    return [type(step).__name__ for step in compose.transforms]


def test_the_default_is_the_recipe_in_order():
    train, test = build_cross_modality_transforms(64, 32)
    assert names(train) == ["Resize", "RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize", "RandomErase"]
    assert names(test) == ["Resize", "ToTensor", "Normalize"]
    erase = train.transforms[-1]
    assert (erase.probability, erase.sl, erase.sh) == (0.5, 0.02, 0.4) and list(erase.mean) == list(IMAGENET_MEAN)


def test_the_test_transform_is_resize_and_normalise(image, capsys):
    train, test = build_cross_modality_transforms(64, 32, None)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(test(image), expected)
    torch.testing.assert_close(train(image), expected)
    assert capsys.readouterr().out == ""
    assert build_cross_modality_transforms(20, 10)[1](image).shape == (3, 20, 10)


@pytest.mark.parametrize("name", ["random_flip", "random_crop", "random_patch", "color_jitter", "random_erase"])
def test_torchreids_names_are_torchreids_transforms(name):
    def settings(compose):
        own = [vars(step) for step in compose.transforms if type(step).__name__ not in ("Resize", "ToTensor", "Normalize")]
        # r2, the upper bound of the eraser, is one over r1 in torchreid.
        return [{key: value for key, value in each.items() if not key.startswith("_") and key != "r2"} for each in own]

    theirs, _ = torchreid.data.transforms.build_transforms(64, 32, name)
    assert settings(build_cross_modality_transforms(64, 32, name)[0]) == settings(theirs)


def test_pad_crop_shifts_by_up_to_ten_pixels(image):
    train, test = build_cross_modality_transforms(64, 32, "pad_crop", norm_mean=[0, 0, 0], norm_std=[1, 1, 1])
    padded = torch.nn.functional.pad(test(image), (10, 10, 10, 10))
    windows = {
        (top, left): padded[:, top:top + 64, left:left + 32] for top in range(21) for left in range(21)
    }
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        crop = train(image)
        seen |= {place for place, window in windows.items() if torch.equal(crop, window)}
    assert len(seen) > 30 and {top for top, _ in seen} <= set(range(21))
    assert max(top for top, _ in seen) > 15 and min(left for _, left in seen) < 5


def test_random_erase_fills_a_rectangle_with_the_mean_after_normalisation(image):
    train, test = build_cross_modality_transforms(64, 32, ["random_erase"])
    plain = test(image)
    random.seed(0)
    erased = 0
    for _ in range(200):
        changed = train(image) != plain
        if not changed.any():
            continue
        erased += 1
        rows, columns = changed[0].any(1).nonzero(), changed[0].any(0).nonzero()
        area = len(rows) * len(columns) / (64 * 32)
        assert 0.01 < area < 0.42
    assert 70 < erased < 130
    random.seed(0)
    sample = next(sample for sample in (train(image) for _ in range(100)) if (sample != plain).any())
    for channel, mean in enumerate(IMAGENET_MEAN):
        assert torch.unique(sample[channel][sample[channel] != plain[channel]]).tolist() == pytest.approx([mean])


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_images_are_resized_by_the_named_filter(image, name):
    train, test = build_cross_modality_transforms(32, 16, None, interpolation=name)
    small = image.resize((16, 32), Image.Resampling[name.upper()])
    expected = F.normalize(F.to_tensor(small), IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(test(image), expected) and torch.equal(train(image), expected)
    crop = RandomSizedRectCrop(32, 16, name)
    torch.manual_seed(0)
    found = crop(image)
    torch.manual_seed(0)
    top, left, height, width = crop.rectangle(*image.size)
    cut = image.crop((left, top, left + width, top + height)).resize((16, 32), Image.Resampling[name.upper()])
    assert np.array_equal(np.asarray(found), np.asarray(cut))


def test_an_unknown_filter_is_refused():
    with pytest.raises(InputError, match='data.interpolation is "lanczoss".*did you mean "lanczos"'):
        build_cross_modality_transforms(32, 16, interpolation="lanczoss")


def test_the_eraser_has_torchreids_draws_and_its_own_bounds():
    plain = torch.zeros(3, 64, 32)
    torchreids = torchreid.data.transforms.RandomErasing(mean=[1.0, 2.0, 3.0])
    ours = RandomErase(Erasing(), [1.0, 2.0, 3.0])
    for seed in range(50):
        random.seed(seed)
        expected = torchreids(plain.clone())
        random.seed(seed)
        assert torch.equal(ours(plain.clone()), expected)
    random.seed(0)
    eraser = RandomErase(Erasing(1.0, (0.02, 0.2), (0.3, 3.0)), [1.0, 2.0, 3.0])
    for _ in range(300):
        rows, columns = eraser(torch.zeros(3, 256, 128))[0].nonzero().T
        height, width = (int(part.max() - part.min()) + 1 for part in (rows, columns))
        assert 0.019 < height * width / (256 * 128) < 0.201 and 0.29 < height / width < 3.1


@pytest.mark.parametrize("changes, message", [
    ({"probability": 1.5}, "data.random_erase.probability is 1.5"), ({"area": (0.4, 0.2)}, "area is .*two rising values"),
    ({"area": (0.0, 0.2)}, "area"), ({"aspect": (3.0, 0.3)}, "aspect"), ({"aspect": (0.0, 0.3)}, "aspect"),
])
def test_an_eraser_out_of_range_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Erasing(**changes)


def test_all_names_build_and_run(image):
    train, _ = build_cross_modality_transforms(32, 16, list(TRANSFORMS))
    assert train(image).shape == (3, 32, 16)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ((64, 32, ["random_flop"]), '"random_flop".*did you mean "random_flip"'),
        ((0, 32), "0x32"),
        ((64, 32, None, [0.5], [0.5]), "norm_mean"),
        ((64, 32, None, [0.5] * 3, [0.5, 0, 0.5]), "positive deviations"),
    ],
)
def test_bad_arguments(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        build_cross_modality_transforms(*arguments)


def test_the_rectangle_takes_the_place_of_the_resize_before_other_crops():
    train, test = build_cross_modality_transforms(64, 32, ["random_erase", "random_flip", "random_sized_rect_crop"])
    assert names(train) == ["RandomSizedRectCrop", "RandomHorizontalFlip", "ToTensor", "Normalize", "RandomErase"]
    assert names(test) == ["Resize", "ToTensor", "Normalize"]
    both = names(build_cross_modality_transforms(64, 32, ["pad_crop", "random_sized_rect_crop"])[0])
    assert both[:2] == ["RandomSizedRectCrop", "RandomCrop"]


def test_the_rectangle_is_drawn_by_ecn_s_rule():
    torch.manual_seed(0)
    width, height = 400, 1000
    boxes = [RandomSizedRectCrop(8, 4).rectangle(width, height) for _ in range(2000)]
    whole = [box for box in boxes if box == (0, 0, height, width)]
    cut = [box for box in boxes if box not in whole]
    # Of this shape nearly three quarters of the draws fit, so ten of them hardly ever all fail.
    assert len(whole) <= 2
    shares = np.array([h * w / (height * width) for _, _, h, w in cut])
    ratios = np.array([h / w for _, _, h, w in cut])
    assert 0.638 < shares.min() < 0.65 and 0.97 < shares.max() < 1.002
    assert 1.99 < ratios.min() < 2.05 and 2.95 < ratios.max() < 3.01
    for top, left, h, w in cut:
        assert 0 <= top <= height - h and 0 <= left <= width - w
    # A rectangle lies anywhere: over the room that it has the place is uniform.
    places = np.array([(top / (height - h), left / (width - w)) for top, left, h, w in cut if h < 950 and w < 380])
    assert places.mean(0) == pytest.approx([0.5, 0.5], abs=0.03) and places.std(0) == pytest.approx(12**-0.5, abs=0.03)


def test_where_every_rectangle_fits_share_and_ratio_are_uniform():
    # A draw fits where 0.64..1 of the area at 2..3 heights per width stays inside; narrow shares make all of them fit.
    torch.manual_seed(0)
    crop = RandomSizedRectCrop(8, 4)
    crop.SHARES = (0.3, 0.5)
    boxes = [crop.rectangle(1000, 2500) for _ in range(2000)]
    for values, low, high in (
        (np.array([h * w / 2.5e6 for _, _, h, w in boxes]), 0.3, 0.5), (np.array([h / w for _, _, h, w in boxes]), 2, 3)
    ):
        counts, _ = np.histogram(values, np.linspace(low, high, 11))
        # Chi-square of ten cells of 200, 9 degrees of freedom: 27.9 is passed once in 1,000 seeds.
        assert ((counts - 200) ** 2 / 200).sum() < 27.9


@pytest.mark.parametrize("width, height", [(64, 128), (50, 160), (120, 250)])
def test_rectangles_of_numbers_drawn_before_are_distributed_as_those_drawn_now(width, height):
    torch.manual_seed(0)
    crop = RandomSizedRectCrop(8, 4)
    now = np.array([crop.rectangle(width, height) for _ in range(4000)])
    state = torch.get_rng_state()
    numbers = crop.draw(4000, torch.Generator().manual_seed(1))
    before = np.array([crop.rectangle(width, height, row) for row in numbers])
    assert torch.equal(torch.get_rng_state(), state)
    assert (before[:, :2] >= 0).all() and (before[:, :2] + before[:, 2:] <= (height, width)).all()
    whole = [(boxes == (0, 0, height, width)).all(axis=1) for boxes in (now, before)]
    assert abs(whole[0].mean() - whole[1].mean()) < 4 * np.sqrt(2 * 0.25 / 4000)
    for column in range(4):
        assert stats.ks_2samp(now[:, column], before[:, column]).pvalue > 1e-3
    areas = [np.prod(boxes[:, 2:], axis=1) for boxes in (now, before)]
    assert stats.ks_2samp(*areas).pvalue > 1e-3
    again = crop.draw(4000, torch.Generator().manual_seed(1))
    assert again == numbers != crop.draw(4000, torch.Generator().manual_seed(2))


def test_the_numbers_suffice_whatever_they_are():
    crop = RandomSizedRectCrop(8, 4)
    least, most = [0.0] * 22, [1 - 2**-53] * 22
    assert len(crop.draw(1)[0]) == 22
    for size in ((1, 1), (40, 40), (64, 128), (1000, 2500), (3, 4000)):
        for row in (least, most):
            top, left, height, width = crop.rectangle(*size, row)
            assert 0 <= left <= size[0] - width and 0 <= top <= size[1] - height and min(height, width) > 0


def test_a_rectangle_touches_all_four_edges():
    torch.manual_seed(0)
    crop = RandomSizedRectCrop(8, 4)
    # Of 16 x 8 pixels at most three rows and columns are left: the outermost places are not rare.
    boxes = [crop.rectangle(8, 16) for _ in range(1000)]
    for at, size, whole in ((0, 2, 16), (1, 3, 8)):
        places = [(box[at], whole - box[size]) for box in boxes if box[size] < whole]
        for edge in (0, 1):
            assert sum(place == edge * room for place, room in places) > len(places) / 10
        assert all(0 <= place <= room for place, room in places)


def test_the_rectangle_is_cut_and_resized_bilinearly(image):
    torch.manual_seed(3)
    top, left, h, w = RandomSizedRectCrop(48, 24).rectangle(32, 64)
    assert (h, w) != (64, 32)
    torch.manual_seed(3)
    cut = RandomSizedRectCrop(48, 24)(image)
    expected = image.crop((left, top, left + w, top + h)).resize((24, 48), Image.Resampling.BILINEAR)
    assert cut.size == (24, 48) and cut.tobytes() == expected.tobytes()


def test_an_image_that_holds_no_such_rectangle_is_resized_whole():
    # In a square the share would have to be below a half.
    square = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    train, test = build_cross_modality_transforms(64, 32, "random_sized_rect_crop")
    assert torch.equal(train(square), test(square))
