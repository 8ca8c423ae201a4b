from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from torchreid_nas.data.camstyle import StatisticsStyler
from torchreid_nas.data.dataset import read_pixels
from torchreid_nas.errors import InputError


def camera(folder, camid, mean, spread, images=6, grey=False, seed=0):
    """Write images of one camera, of different sizes, whose values keep away from 0 and 255."""
    items = []
    for number in range(images):
        rng = np.random.default_rng([seed, camid, number])
        size = (16, 8 + number, 1 if grey else 3)
        pixels = np.clip(np.asarray(mean) + np.asarray(spread) * rng.standard_normal(size), 1, 254)
        path = folder / f"c{camid}_{number}.png"
        Image.fromarray(np.broadcast_to(pixels, (*size[:2], 3)).astype(np.uint8)).save(path)
        items.append((str(path), number, camid, 0))
    return items


def statistics(images):
    """Mean and deviation of RGB and of the correlations between channels, images counting alike."""
    moments = [np.asarray(image, dtype=np.float64).reshape(-1, 3) for image in images]
    mean = np.mean([pixels.mean(0) for pixels in moments], axis=0)
    second = np.mean([pixels.T @ pixels / len(pixels) for pixels in moments], axis=0)
    return mean, second - np.outer(mean, mean)


AXES = np.array([np.ones(3) / 3**0.5, np.array([1, 0, -1]) / 2**0.5, np.array([1, -2, 1]) / 6**0.5])


def test_a_camera_s_statistics_become_those_of_the_other(tmp_path):
    own = camera(tmp_path, 0, (120, 100, 90), (12, 10, 9))
    new = camera(tmp_path, 1, (110, 130, 150), (20, 14, 16))
    styler = StatisticsStyler([*own, *new])
    styled = [styler(read_pixels(item[0]), item, 1) for item in own]
    assert [image.shape for image in styled] == [read_pixels(item[0]).shape for item in own]
    mean, covariance = statistics(styled)
    expected_mean, expected_covariance = statistics(read_pixels(item[0]) for item in new)
    before, _ = statistics(read_pixels(item[0]) for item in own)
    assert np.abs(before - expected_mean).max() > 9
    assert mean == pytest.approx(expected_mean, abs=0.1)
    deviations = [np.sqrt(np.diag(AXES @ matrix @ AXES.T)) for matrix in (covariance, expected_covariance)]
    assert deviations[0] == pytest.approx(deviations[1], rel=0.01)
    assert styler.std[1] == pytest.approx(deviations[1], rel=1e-9)
    assert styler.mean[1] == pytest.approx(AXES @ expected_mean, rel=1e-9)


def test_the_map_is_that_of_the_formula_on_each_pixel(tmp_path):
    own = camera(tmp_path, 0, (120, 100, 90), (30, 30, 30))
    new = camera(tmp_path, 1, (60, 130, 220), (60, 10, 40))
    styler = StatisticsStyler([*own, *new])
    image = read_pixels(own[3][0])
    styled = styler(image, own[3], 1).astype(np.float64)
    gain = styler.std[1] / styler.std[0]
    assert gain.max() < 4
    exact = np.empty_like(styled)
    for row, column in np.ndindex(image.shape[:2]):
        colour = AXES @ image[row, column].astype(np.float64)
        exact[row, column] = np.linalg.solve(AXES, gain * (colour - styler.mean[0]) + styler.mean[1])
    assert exact.max() > 256 or exact.min() < -1
    assert np.abs(styled - np.clip(exact, 0, 255)).max() < 0.501


def test_cameras_of_the_same_statistics_leave_an_image_as_it_is(tmp_path):
    (tmp_path / "copy").mkdir()
    own = camera(tmp_path, 0, (120, 100, 90), (40, 30, 20))
    copies = []
    for path, pid, _, dsetid in own:
        copy = tmp_path / "copy" / path.rpartition("/")[2]
        copy.write_bytes(open(path, "rb").read())
        copies.append((str(copy), pid, 1, dsetid))
    styler = StatisticsStyler([*own, *copies])
    colours = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    assert styler(colours, own[0], 1).tobytes() == colours.tobytes()


def test_a_red_shirt_stays_red_in_a_camera_that_saw_none(tmp_path):
    items = [*camera(tmp_path, 0, (110, 110, 100), (30, 30, 30)), *camera(tmp_path, 1, (90, 110, 120), (30, 30, 30))]
    styler = StatisticsStyler(items)
    r, g, b = styler(np.full((4, 4, 3), (200, 40, 40), np.uint8), items[0], 1)[0, 0].tolist()
    assert r - max(g, b) > 100


def test_to_infrared_images_become_grey_and_back_they_take_the_cast_only(tmp_path):
    visible = camera(tmp_path, 0, (130, 110, 90), (30, 30, 30))
    infrared = camera(tmp_path, 1, (100,), (20,), grey=True)
    styler = StatisticsStyler([*visible, *infrared])
    assert styler.std[1][1:].tolist() == [0, 0] and styler.mean[1][1:].tolist() == [0, 0]

    grey = styler(read_pixels(visible[0][0]), visible[0], 1)
    assert np.ptp(grey, axis=2).max() == 0 and np.ptp(grey) > 20

    pixels = styler(read_pixels(infrared[0][0]), infrared[0], 0).astype(int)
    cast = AXES[1:].T @ styler.mean[0][1:]
    assert (pixels - pixels.mean(axis=2, keepdims=True)) == pytest.approx(np.broadcast_to(cast, pixels.shape), abs=1)
    assert np.ptp(pixels[..., 0]) > 20


def test_between_infrared_cameras_brightness_and_contrast_are_mapped(tmp_path):
    items = [*camera(tmp_path, 0, (100,), (20,), grey=True), *camera(tmp_path, 1, (140,), (10,), grey=True)]
    styler = StatisticsStyler(items)
    mean, covariance = statistics(styler(read_pixels(item[0]), item, 1) for item in items[:6])
    expected_mean, expected_covariance = statistics(read_pixels(item[0]) for item in items[6:])
    # Each value is rounded by at most half a level, which moves mean and deviation by no more; here the gain of about
    # a half lines the errors up, so they do not average out.
    assert mean == pytest.approx(expected_mean, abs=0.5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(np.sqrt(np.diag(expected_covariance)), abs=0.5)


def test_the_faint_colour_of_compression_is_not_blown_up(tmp_path):
    visible = camera(tmp_path, 0, (120, 110, 100), (60, 60, 60))
    nearly_grey = camera(tmp_path, 1, (110, 110, 110), (0.8, 0.8, 0.8))
    styler = StatisticsStyler([*visible, *nearly_grey])
    ratio = styler.std[0] / styler.std[1]
    assert ratio.min() > 20
    before = read_pixels(nearly_grey[0][0])
    after = styler(read_pixels(nearly_grey[0][0]), nearly_grey[0], 0)
    assert (after.reshape(-1, 3).std(0) / before.reshape(-1, 3).std(0)) == pytest.approx(4, rel=0.1)


def test_the_sample_is_bounded_and_seeded(tmp_path):
    many = camera(tmp_path, 0, (120, 100, 90), (30, 30, 30), images=12)
    items = [*many, *camera(tmp_path, 1, (99, 88, 77), (9, 9, 9), images=3)]
    styler = StatisticsStyler(items, images_per_camera=5, seed=1)
    assert "from 8 of their images" in styler.summary()
    again = StatisticsStyler(items[::-1], images_per_camera=5, seed=1)
    other = StatisticsStyler(items, images_per_camera=5, seed=2)
    assert again.mean[0].tolist() == styler.mean[0].tolist() != other.mean[0].tolist()
    image = read_pixels(items[0][0])
    copy = pickle.loads(pickle.dumps(styler))
    assert copy(image, items[0], 1).tobytes() == styler(image, items[0], 1).tobytes()


def test_a_broken_image_is_named(tmp_path):
    items = [*camera(tmp_path, 0, (120,), (9,)), *camera(tmp_path, 1, (99,), (9,))]
    (tmp_path / "c1_2.png").write_bytes(b"")
    with pytest.raises(InputError, match="c1_2.png.*truncated or no image"):
        StatisticsStyler(items)
