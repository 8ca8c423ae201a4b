from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from torchreid_nas.data.camstyle import FourierStyler, fourier
from torchreid_nas.data.camstyle.fourier import transfer_amplitude
from torchreid_nas.data.dataset import read_image, read_pixels
from torchreid_nas.errors import InputError


def picture(seed, width, height, low=90, high=166):
    """Values of the middle, so that nothing is clipped."""
    pixels = np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def spectrum(image):
    return np.fft.fft2(np.asarray(image, dtype=np.float64), axes=(0, 1))


def cycles(length):
    """The frequency of each position of a transform, from -length/2 to length/2."""
    return [k if k <= length // 2 else k - length for k in range(length)]


def naive(image, reference, beta):
    """The paper's equation, frequency by frequency, with the full transform."""
    height, width = image.height, image.width
    own, other = spectrum(image), spectrum(reference)
    for row, vertical in enumerate(cycles(height)):
        for column, horizontal in enumerate(cycles(width)):
            if abs(vertical) <= int(beta * height) and abs(horizontal) <= int(beta * width):
                for channel in range(3):
                    phase = np.angle(own[row, column, channel])
                    own[row, column, channel] = np.abs(other[row, column, channel]) * np.exp(1j * phase)
    pixels = np.fft.ifft2(own, axes=(0, 1))
    assert np.abs(pixels.imag).max() < 1e-9
    return pixels.real


@pytest.mark.parametrize("width, height", [(16, 32), (15, 31), (16, 31), (15, 32), (37, 5)])
@pytest.mark.parametrize("beta", [0.01, 0.05, 0.1, 0.3])
def test_the_result_is_that_of_the_paper_s_equation(width, height, beta):
    image, reference = picture(0, width, height), picture(1, width, height, 60, 200)
    expected = naive(image, reference, beta)
    styled = transfer_amplitude(np.asarray(image), reference, beta)
    assert np.abs(styled - np.clip(expected, 0, 255)).max() < 0.501
    assert np.abs(styled - np.asarray(image, dtype=np.float64)).max() > 1


def test_amplitude_is_the_reference_s_and_phase_the_image_s():
    image, reference = picture(0, 16, 32), picture(1, 16, 32)
    own, other, styled = (spectrum(p) for p in (image, reference, transfer_amplitude(np.asarray(image), reference, 0.1)))
    window = np.ix_([-3, -2, -1, 0, 1, 2, 3], [-1, 0, 1])
    # Rounding to grey levels adds noise of deviation sqrt(16 * 32 / 12) to each frequency.
    assert np.abs(styled[window]) == pytest.approx(np.abs(other[window]), abs=25)
    strong = np.abs(own) > 500
    assert strong[window].mean() > 0.3
    turned = np.angle(styled / own)[window][(strong & (np.abs(styled) > 500))[window]]
    assert np.abs(turned).max() < 0.06
    outside = np.ones(own.shape, dtype=bool)
    outside[window] = False
    assert np.abs(styled - own)[outside].max() < 25 < np.abs(styled - own)[window].max()


def test_without_a_window_the_image_comes_back():
    image = picture(0, 16, 32)
    assert transfer_amplitude(np.asarray(image), picture(1, 16, 32), 0).tobytes() == image.tobytes()


def test_the_smallest_window_sets_the_mean_of_each_channel():
    image, reference = picture(0, 16, 32), picture(1, 16, 32, 30, 120)
    styled = transfer_amplitude(np.asarray(image), reference, 1e-6).astype(np.float64)
    pixels, other = (np.asarray(p, dtype=np.float64) for p in (image, reference))
    shift = styled - pixels
    assert np.ptp(shift.reshape(-1, 3), axis=0).max() == 0
    assert styled.mean((0, 1)) == pytest.approx(other.mean((0, 1)), abs=0.51)


def test_a_black_channel_takes_the_brightness_of_the_references():
    image, reference = np.array(picture(0, 16, 32)), picture(1, 16, 32, 30, 120)
    image[..., 1] = 0
    styled = transfer_amplitude(image, reference, 1e-6)
    assert styled.mean((0, 1)) == pytest.approx(np.asarray(reference).mean((0, 1)), abs=0.51)


def test_an_image_in_its_own_style_is_unchanged():
    image = picture(3, 16, 32, 0, 256)
    assert transfer_amplitude(np.asarray(image), image, 0.2).tobytes() == image.tobytes()


def test_a_reference_of_another_size_is_resized():
    image, reference = np.asarray(picture(0, 16, 32)), picture(1, 40, 70)
    resized = reference.resize((16, 32), Image.Resampling.BILINEAR)
    styled = transfer_amplitude(image, reference, 0.1)
    assert styled.shape == (32, 16, 3) and styled.tobytes() == transfer_amplitude(image, resized, 0.1).tobytes()


def test_values_beyond_the_range_are_clipped_and_do_not_wrap():
    dark, bright = np.uint8([[[0] * 3, [60] * 3]] * 2), Image.new("RGB", (2, 2), (250, 250, 250))
    assert transfer_amplitude(dark, bright, 0.1)[0, :, 0].tolist() == [220, 255]


@pytest.fixture
def items(tmp_path):
    """Cameras 0 and 2 in colour, camera 5 grey, whose images differ in brightness; some large."""
    items = []
    for camid in (0, 2, 5):
        for number in range(5):
            image = picture(10 * camid + number, 16 + 60 * (camid == 2), 32, 40 * number, 40 * number + 60)
            path = tmp_path / f"c{camid}_{number}.png"
            (image.convert("L") if camid == 5 else image).save(path)
            items.append((str(path), number, camid, 0))
    return items


def test_references_are_drawn_from_the_new_camera_by_torch(items):
    styler = FourierStyler(items, beta=0.1)
    image = read_pixels(items[0][0])
    candidates = {
        transfer_amplitude(image, reference, 0.1).tobytes() for reference in styler._references[5]
    }
    assert len(candidates) == 5

    def styled(seed, times=60, styler=styler):
        torch.manual_seed(seed)
        return [styler(image, items[0], 5, styler.draw(5)).tobytes() for _ in range(times)]

    drawn = styled(0)
    assert set(drawn) == candidates
    assert styled(0) == drawn != styled(1)
    assert styled(0, 9, pickle.loads(pickle.dumps(styler))) == drawn[:9]


def test_amplitudes_that_are_kept_change_nothing_and_are_bounded(items, monkeypatch):
    monkeypatch.setattr(fourier, "_KEPT", 3)
    styler = FourierStyler(items, beta=0.1)
    for size in ((16, 32), (20, 40)):
        image = np.asarray(picture(1, *size))
        for number in (0, 3, 0, 3, 4):
            expected = transfer_amplitude(image, styler._references[5][number], 0.1)
            assert styler(image, items[0], 5, number).tobytes() == expected.tobytes()
            assert 0 < len(styler._amplitudes) <= 3


@pytest.mark.parametrize("beta", [0.01, 0.05])
def test_images_styled_together_have_the_bits_of_each_by_itself(items, beta):
    styler = FourierStyler(items, beta=beta)
    sizes = [(64, 128), (130, 256), (64, 128), (130, 256), (64, 128), (31, 77), (130, 256)]
    images = [np.asarray(picture(seed, *size)) for seed, size in enumerate(sizes)]
    # The third is of its own camera.
    styles = [(2, 0), (5, 1), (0, 0), (2, 3), (5, 4), (2, 2), (5, 1)]
    together = styler.style_all(images, [items[0]] * len(images), styles)
    assert together[2] is images[2]
    for image, style, styled in zip(images, styles, together):
        assert styled.shape == image.shape and np.array_equal(styled, styler(image, items[0], *style))


def test_a_grey_camera_is_taken_from_and_given_to(items):
    styler = FourierStyler(items, beta=0.01)
    means = sorted(np.asarray(read_image(item[0]), dtype=np.float64).mean() for item in items if item[2] == 5)
    torch.manual_seed(0)
    for _ in range(10):
        styled = styler(read_pixels(items[2][0]), items[2], 5, styler.draw(5)).mean((0, 1))
        # Brightness and cast are those of a grey image: nothing here is clipped.
        assert np.ptp(styled) < 1 and np.abs(np.array(means) - styled.mean()).min() < 1
    grey = read_pixels(items[-1][0])
    assert np.ptp(grey, axis=2).max() == 0
    assert np.ptp(styler(grey, items[-1], 0), axis=2).max() > 0


def test_references_are_few_small_and_seeded(items):
    styler = FourierStyler(items, images_per_camera=2, seed=1)
    assert "from 6 images of 3 cameras" in styler.summary() and "beta 0.01" in styler.summary()
    assert {camid: len(references) for camid, references in styler._references.items()} == {0: 2, 2: 2, 5: 2}
    assert {reference.size for reference in styler._references[2]} == {(64, 32)}

    def kept(**arguments):
        references = FourierStyler(images_per_camera=2, **arguments)._references
        return [[reference.tobytes() for reference in own] for own in references.values()]

    assert kept(items=items[::-1], seed=1) == kept(items=items, seed=1) != kept(items=items, seed=2)


@pytest.mark.parametrize("beta", [-0.1, 0.5])
def test_a_window_out_of_range_is_refused(items, beta):
    with pytest.raises(InputError, match=rf"beta .the window of the Fourier styler. is {beta}, expected from 0"):
        FourierStyler(items, beta=beta)
