"""Tubes and patterns of clothes on the canvas of the generator."""
from __future__ import annotations

import math

import numpy as np
import pytest

from torchreid_nas.data.synthetic.canvas import Canvas
from torchreid_nas.data.synthetic.person import Material


def draw(material: Material, ends: str = "cut", **kwargs: float) -> np.ndarray:
    image = np.zeros((60, 40, 3), dtype=np.float32)
    Canvas(image, scale=100.0, shading=0.0).tube((20, 10), (20, 50), (0, 1), (0.1, 0.1), material, ends=ends, **kwargs)
    return image


def test_tube_covers_its_area() -> None:
    white = Material((1.0, 1.0, 1.0), 0.5)
    rectangle = draw(white).sum() / 3
    assert rectangle == pytest.approx(20 * 40, rel=0.05)
    assert draw(white, "round").sum() / 3 == pytest.approx(20 * 40 + math.pi * 10**2, rel=0.05)
    assert draw(white, "socket").sum() / 3 == pytest.approx(20 * 40 + math.pi * 10**2 / 2, rel=0.05)


def test_tube_without_length_is_a_ball() -> None:
    image = np.zeros((40, 40, 3), dtype=np.float32)
    canvas = Canvas(image, scale=100.0, shading=0.0)
    canvas.tube((20, 20), (20, 20), (0, 1), (0.1, 0.1), Material((1.0,) * 3, 0.5), ends="round")
    assert image.sum() / 3 == pytest.approx(math.pi * 10**2, rel=0.05)
    assert image[12, 12].sum() == 0


def test_tube_outside_the_canvas_draws_nothing() -> None:
    image = np.zeros((20, 10, 3), dtype=np.float32)
    Canvas(image, scale=10.0).tube((-50, 5), (-40, 9), (0, 1), (0.2, 0.2), Material((1.0,) * 3, 0.5))
    assert not image.any()


@pytest.mark.parametrize("pattern", ["horizontal", "vertical", "checks", "print", "band", "yoke"])
def test_patterns(pattern: str) -> None:
    material = Material(
        (0.0, 0.0, 0.0), 0.2, rgb2=(1.0, 1.0, 1.0), emission2=0.8, pattern=pattern, period=0.08, centre=0.2, extent=0.08
    )
    inside = draw(material)[12:48, 12:28, 0]
    rows, columns = inside.std(axis=0).mean(), inside.std(axis=1).mean()
    assert inside.min() < 0.01 and inside.max() > 0.99
    assert (rows > 0.1) == (pattern != "vertical")
    assert (columns > 0.05) == (pattern in ("vertical", "checks", "print"))
    if pattern == "horizontal":
        # Period 8 pixels: a shift by it changes nothing, by half of it swaps the tones.
        assert np.abs(inside[8:] - inside[:-8]).max() < 0.01
        assert np.abs(inside[4:] + inside[:-4] - 1).max() < 0.01


def test_contrast_fades_the_pattern_in_infrared() -> None:
    material = Material((0.0,) * 3, 0.4, rgb2=(1.0,) * 3, emission2=0.8, pattern="horizontal")
    ground, figure = material.tones("infrared", 0.5)
    assert ground.shape == (1,) and figure[0] == pytest.approx(0.6) and ground[0] == pytest.approx(0.4)
