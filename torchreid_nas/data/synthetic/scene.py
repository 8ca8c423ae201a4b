"""Scenes: the place behind a person, and the light and occlusion of one image."""
from __future__ import annotations

__all__ = ["Scene", "Light", "occlude"]

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from torchreid_nas.data.synthetic.settings import generator


@dataclass(frozen=True)
class Scene:
    """A place, seen from one camera; the same place looks alike in both spectra.

    Attributes:
        seed: of the data set.
        place: number of the place.
        outdoor: whether plants and sky, not walls, are behind the person.
        paint: factor per colour channel on walls, ground and things, clipped at white.
        foliage: mean colour of the plants.
        illuminant: colour of the daylight, a factor per channel on the whole image.
    """

    seed: int
    place: int
    outdoor: bool = False
    paint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    foliage: tuple[float, float, float] = (0.22, 0.29, 0.17)
    illuminant: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def background(self, rng: np.random.Generator, spectrum: str, height: int, width: int) -> np.ndarray:
        """Return a random window of the place: float32 (height, width, 3 or 1), free to draw on."""
        wide = _panorama(self, spectrum, height, width)
        top = int(rng.integers(wide.shape[0] - height + 1))
        left = int(rng.integers(wide.shape[1] - width + 1))
        return wide[top : top + height, left : left + width].copy()


@functools.lru_cache(maxsize=64)
def _panorama(scene: Scene, spectrum: str, height: int, width: int) -> np.ndarray:
    """Paint the place six windows wide: ground, back wall, upright things, texture.

    Both spectra use the same random numbers in the same order, so the geometry
    agrees and the levels differ. The result is shared: do not write to it.
    """
    rng = generator(scene.seed, "scene", scene.place)
    rows, columns = height + max(height // 8, 1), width * 6
    visible = spectrum == "visible"
    channels = 3 if visible else 1

    def tone(low: float, high: float) -> np.ndarray:
        grey, warmth, tint, heat = rng.random(4)
        value = low + (high - low) * grey
        if not visible:
            return np.array([0.14 + 0.3 * heat])
        warm, green = 0.5 * (warmth - 0.5), 0.25 * (tint - 0.5)
        return np.clip(value * np.array([1 + warm, 1 + green, 1 - warm]) * scene.paint, 0, 1)

    y = np.linspace(0, 1, rows)[:, None, None]
    wall, floor, skirting = tone(0.35, 0.85), tone(0.25, 0.65), tone(0.15, 0.5)
    horizon = 0.5 + 0.28 * rng.random()
    image = np.where(y < horizon, wall * (1.08 - 0.25 * y), floor * (0.75 + 0.4 * y)) * np.ones((rows, columns, 1))
    image[int(rows * horizon) : int(rows * (horizon + 0.015)) + 1] = skirting
    for _ in range(14):
        left, breadth, rise, reach = rng.random(4)
        colour, edge = tone(0.1, 0.95), tone(0.05, 0.5)
        x0 = int(left * columns)
        x1 = min(x0 + 2 + int((0.08 + 0.7 * breadth**2) * width), columns)
        y0 = int(rows * 0.4 * rise)
        y1 = int(rows * (y0 / rows + (horizon + 0.08 - y0 / rows) * (0.4 + 0.6 * reach)))
        image[y0:y1, x0:x1] = colour
        image[y0:y1, x0 : x0 + 1] = edge
        image[y0 : y0 + 1, x0:x1] = edge
    for line in range(1, 5):
        depth = horizon + (1 - horizon) * (line / 5) ** 1.6
        image[int(rows * depth)] *= 0.9
    coarse, fine = (ndimage.gaussian_filter(rng.standard_normal((rows, columns)), s * height / 128) for s in (5, 1.2))
    texture = 0.6 * coarse / coarse.std() + 0.4 * fine / fine.std()
    leaf, leaf_heat = np.array(scene.foliage) * (0.6 + 0.8 * rng.random()), np.array([0.2 + 0.2 * rng.random()])
    if scene.outdoor:
        bush = np.clip(2.5 * coarse / coarse.std() - 0.8, 0, 1)[..., None] * (y < horizon + 0.06)
        leaves = (leaf if visible else leaf_heat) * (1 + 0.35 * fine / fine.std())[..., None]
        image = image + bush * (leaves - image)
    image = image * (1 + (0.05 if visible else 0.04) * texture[..., None])
    image = ndimage.gaussian_filter(image, (0.006 * height, 0.006 * height, 0))
    return np.clip(image, 0, 1).astype(np.float32).reshape(rows, columns, channels)


@dataclass(frozen=True)
class Light:
    """Illumination of one image: strength, side and colour of the light.

    In infrared the same numbers stand for the state of the air: ``strength`` is the
    contrast of warm things, and there is no colour.
    """

    strength: float
    direction: float
    slope: float
    warmth: float

    @classmethod
    def sample(cls, rng: np.random.Generator, difficulty: float) -> Light:
        """Draw a light; with a higher ``difficulty`` the light differs more from image to image."""
        normal = np.clip(rng.standard_normal(4), -2, 2)
        return cls(
            strength=math.exp((0.05 + 0.2 * difficulty) * float(normal[0])),
            direction=0.35 * float(normal[1]),
            slope=(0.05 + 0.12 * difficulty) * float(normal[2]),
            warmth=(0.02 + 0.06 * difficulty) * float(normal[3]),
        )

    def fall_on(self, image: np.ndarray) -> None:
        """Light ``image`` (float32, (H, W, 3 or 1)) in place."""
        ramp = self.slope * np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None, :, None]
        if image.shape[2] == 1:
            image *= (1 + 0.4 * (self.strength - 1)) * (1 + 0.5 * ramp)
        else:
            image *= self.strength * (1 + ramp) * np.array([1 + self.warmth, 1, 1 - self.warmth], dtype=np.float32)


def occlude(image: np.ndarray, rng: np.random.Generator, difficulty: float) -> None:
    """Hide part of ``image`` (in place) behind a near thing, with probability 0.45 times ``difficulty``.

    The thing is a post (upright), a barrier (from below) or a passer-by at the
    side. The number of random values does not depend on the outcome.
    """
    chance, kind, place, size, level = rng.random(5)
    tint = rng.random(3)
    if chance >= 0.45 * difficulty:
        return
    height, width = image.shape[:2]
    colour = 0.15 + 0.55 * level + (0.1 * (tint - 0.5) if image.shape[2] == 3 else np.zeros(1) - 0.1)
    colour = colour.astype(np.float32)
    if kind < 0.35:
        left = int(place * width)
        image[:, left : left + 2 + int(0.14 * size * width)] = colour
    elif kind < 0.7:
        top = int(height * (0.92 - (0.1 + 0.2 * size)))
        image[top:] += 0.97 * (colour - image[top:])
        image[top : top + 2] *= 0.8
    else:
        reach = (0.16 + 0.22 * size) * width
        x = np.arange(width, dtype=np.float32)[None, :]
        x = width - 1 - x if place < 0.5 else x
        y = np.arange(height, dtype=np.float32)[:, None] / height
        # A shoulder line: round above, straight below.
        edge = reach * np.sqrt(np.clip((y - 0.12 - 0.25 * level) / 0.12, 0, 1))
        cover = np.clip(edge - x, 0, 1)[..., None]
        image += cover * (colour - image)
