from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from torch.utils.data import DataLoader, default_collate
from torchvision import transforms as T

from torchreid_nas.data import INFRARED, VISIBLE, CrossModalityDataset, as_cross_modality
from torchreid_nas.data.camstyle import STYLERS, CameraStyleDataset, CameraStyler, Style, make_camera_styler
from torchreid_nas.data.dataset import read_pixels
from torchreid_nas.errors import InputError


class Plain(CameraStyler):
    """A styler that paints the number of the camera, whatever the image."""

    def __init__(self, camids):
        self.camids = camids

    def __call__(self, pixels, item, new_camid, drawn=0):
        return np.full_like(pixels, new_camid)

    def summary(self):
        return "plain"


def target(items, **kwargs):
    return CrossModalityDataset(items, items, items, verbose=False, **kwargs)


@pytest.fixture
def one_pixel(tmp_path):
    """Twelve images of one pixel, of six cameras."""
    items = []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (1, 1), (200, 100, number)).save(path)
        items.append((str(path), number, number % 6, 0))
    return items


def test_cameras_are_drawn_uniformly_and_the_own_one_gives_the_real_image(one_pixel):
    dataset = CameraStyleDataset(target(one_pixel), Plain(range(6)))
    torch.manual_seed(0)
    counts, real = Counter(), 0
    for draw in range(1800):
        item = dataset[draw % 12]
        counts[item["camid"], item["style_camid"]] += 1
        own = item["style_camid"] == item["camid"]
        expected = (200, 100, item["index"]) if own else (item["style_camid"],) * 3
        assert item["img"].getpixel((0, 0)) == expected
        real += own
    # Chi-square of 36 cells of 50, 30 degrees of freedom (the rows are given): 59.7 is passed once in 1,000 seeds.
    assert sum((counts[own, new] - 50) ** 2 / 50 for own in range(6) for new in range(6)) < 59.7
    assert abs(real - 300) < 4 * np.sqrt(1800 * 5 / 36)


def test_cameras_without_an_image_in_the_view_are_drawn_too(one_pixel):
    whole = target(one_pixel)
    dataset = CameraStyleDataset(whole.view([one_pixel[0]]), Plain((0, 3, 9)))
    torch.manual_seed(0)
    assert {dataset[0]["style_camid"] for _ in range(40)} == {0, 3, 9}
    with pytest.raises(InputError, match="knows cameras 0, 3, 9, but the data set has images of 1, 2, 4, 5 too"):
        CameraStyleDataset(whole, Plain((0, 3, 9)))


def test_items_are_those_of_the_data_set_with_the_style(one_pixel):
    whole = target(one_pixel, infrared_camids=[5], transform=T.ToTensor())
    dataset = CameraStyleDataset(whole, Plain(range(6)))
    assert len(dataset) == 12 and dataset.data is whole.data and dataset.transform is whole.transform
    torch.manual_seed(0)
    for index in range(12):
        ours, plain = dataset[index], whole[index]
        assert list(ours) == [*plain, "style_camid"]
        assert {key: ours[key] for key in plain if key != "img"} == {key: plain[key] for key in plain if key != "img"}
        assert ours["img"].shape == (3, 1, 1) and ours["modality"] == (INFRARED if index % 6 == 5 else VISIBLE)
    assert dataset[-1]["index"] == 11
    with pytest.raises(IndexError):
        dataset[12]
    batch = default_collate([dataset[0], dataset[1]])
    assert batch["style_camid"].shape == (2,) and batch["style_camid"].dtype == torch.int64


def test_k_tfm_gives_views_of_one_styled_image(one_pixel):
    dataset = CameraStyleDataset(target(one_pixel, transform=T.ToTensor(), k_tfm=2), Plain((0, 1, 2, 3, 4, 5)))
    first, second = dataset[0]["img"]
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", STYLERS)
def test_the_own_camera_gives_the_very_image_with_every_styler(market, release, kind):
    release(market)
    dataset = CameraStyleDataset(target(market), make_camera_styler(kind, market))
    for index, item in enumerate(market):
        real = read_pixels(item[0]).tobytes()
        for camid in dataset.styler.camids:
            assert (dataset.pixels(index, Style(camid)).tobytes() == real) == (camid == item[2])


@pytest.mark.parametrize("kind", STYLERS)
def test_what_a_generator_drew_is_applied_whenever_and_wherever_asked_for(market, release, kind):
    release(market)
    dataset = CameraStyleDataset(target(market), make_camera_styler(kind, market))
    state = torch.get_rng_state()
    styles = [dataset.draw(index, torch.Generator().manual_seed(index)) for index in range(12)]
    assert torch.equal(torch.get_rng_state(), state)
    images = [dataset.pixels(index, style).tobytes() for index, style in enumerate(styles)]
    read, reads = read_pixels, []
    with ThreadPoolExecutor(4) as pool:
        again = pool.map(lambda index: dataset.pixels(index, styles[index], lambda path: reads.append(path) or read(path)),
                         reversed(range(12)))
    assert [image.tobytes() for image in again] == images[::-1] and len(reads) == 12
    # A worker of a DataLoader draws the same from the global generator.
    for index, style in enumerate(styles):
        torch.manual_seed(index)
        item = dataset[index]
        assert item["style_camid"] == style.camid and item["img"].tobytes() == images[index]
    assert len({style.camid for style in styles}) == 3
    assert (len({style.drawn for style in styles}) > 1) == (kind == "fourier")


@pytest.mark.parametrize("kind", STYLERS)
def test_loader_workers_draw_styles_that_the_seed_repeats(market, release, kind):
    release(market)
    dataset = CameraStyleDataset(target(market, transform=T.ToTensor()), make_camera_styler(kind, market))

    def epochs(seed):
        torch.manual_seed(seed)
        loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
        return [batch for _ in range(2) for batch in loader]

    first, again, other = epochs(0), epochs(0), epochs(1)
    for one, two in zip(first, again):
        assert one["index"].tolist() == two["index"].tolist() and torch.equal(one["img"], two["img"])
        assert one["style_camid"].tolist() == two["style_camid"].tolist()
    runs = (first, other, first[:3], first[3:])
    styles = [[style for batch in run for style in batch["style_camid"].tolist()] for run in runs]
    assert styles[0] != styles[1] and styles[2] != styles[3]
    real = total = 0
    for batch in first:
        for image, index, camid, style in zip(batch["img"], batch["index"], batch["camid"], batch["style_camid"]):
            untouched = torch.equal(image, T.ToTensor()(read_pixels(market[index][0])))
            assert untouched == bool(camid == style)
            real, total = real + untouched, total + 1
    assert 0 < real < total == 24


@pytest.mark.parametrize("kind", ["fourier", "statistics"])
def test_market1501_on_disk_is_styled_through_the_training_transforms(data_root, kind):
    market1501 = as_cross_modality(torchreid.data.datasets.image.Market1501(root=str(data_root), verbose=False))
    dataset = CameraStyleDataset(
        market1501.view(market1501.train, T.Compose([T.Resize((32, 16)), T.ToTensor()])),
        make_camera_styler(kind, market1501.train, seed=1),
    )
    assert dataset.styler.camids == tuple(sorted({item[2] for item in market1501.train}))
    batch = next(iter(DataLoader(dataset, batch_size=8, shuffle=True)))
    assert batch["img"].shape == (8, 3, 32, 16) and batch["img"].isfinite().all()


def test_a_missing_image_is_named(one_pixel, tmp_path):
    dataset = CameraStyleDataset(target(one_pixel), Plain(range(6)))
    (tmp_path / "3.png").unlink()
    with pytest.raises(InputError, match="3.png.*does not exist"):
        dataset[3]
