from __future__ import annotations

import re

import numpy as np
import pytest

from torchreid_nas.data.camstyle import STYLERS, FileStyler, FourierStyler, StatisticsStyler, make_camera_styler
from torchreid_nas.data.camstyle.styler import sample_cameras, style_camids
from torchreid_nas.data.dataset import read_pixels
from torchreid_nas.errors import InputError

ITEMS = [(f"{number:02d}.jpg", number // 2, number % 3, 0) for number in range(30)]


def test_the_sample_is_bounded_seeded_and_blind_to_the_order_of_items():
    chosen = sample_cameras(ITEMS, 4, seed=1)
    assert list(chosen) == [0, 1, 2]
    for camid, own in chosen.items():
        assert len(set(own)) == 4 and {item[2] for item in own} == {camid} and set(own) <= set(ITEMS)
    assert sample_cameras(ITEMS[::-1], 4, seed=1) == chosen
    assert sample_cameras(ITEMS, 4, seed=2) != chosen
    assert sorted(sum(sample_cameras(ITEMS, 100, seed=1).values(), [])) == ITEMS


def test_a_camera_s_sample_does_not_depend_on_the_other_cameras():
    without = [item for item in ITEMS if item[2] != 1]
    assert sample_cameras(without, 4, seed=3)[2] == sample_cameras(ITEMS, 4, seed=3)[2]


@pytest.mark.parametrize("most, seed, complaint", [(0, 0, "images per camera .* is 0"), (1, -1, "seed .* is -1")])
def test_numbers_out_of_range_are_refused(most, seed, complaint):
    with pytest.raises(InputError, match=complaint):
        sample_cameras(ITEMS, most, seed)


@pytest.mark.parametrize("items, count", [([], 0), ([item for item in ITEMS if item[2] == 1], 1)])
def test_a_style_needs_another_camera(items, count):
    with pytest.raises(InputError, match=f"at least 2 cameras, but the data set has {count}"):
        style_camids(items)


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(InputError, match='no camera styler "statistic".*did you mean "statistics"'):
        make_camera_styler("statistic", ITEMS)


def test_each_kind_makes_its_styler_for_the_cameras_of_a_data_set(market, release):
    release(market)
    for kind, expected in zip(STYLERS, (FileStyler, FourierStyler, StatisticsStyler)):
        styler = make_camera_styler(kind, market, seed=3)
        assert type(styler) is expected
        assert tuple(styler.camids) == tuple(sorted({item[2] for item in market}))
        assert re.search(rf"\b{len(styler.camids)} cameras", styler.summary()) and "\n" not in styler.summary()
        item = market[0]
        pixels = read_pixels(item[0])
        assert styler(pixels, item, item[2]) is pixels
        for camid in set(styler.camids) - {item[2]}:
            styled = styler(read_pixels(styler.source(item, camid)), item, camid, styler.draw(camid))
            assert styled.dtype == np.uint8 and styled.shape == pixels.shape and not np.array_equal(styled, pixels)
