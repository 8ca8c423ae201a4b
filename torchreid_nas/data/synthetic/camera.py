"""Cameras: the sensor that turns light into stored pixels, and the photograph that joins person, scene and camera."""
from __future__ import annotations

__all__ = ["Camera", "photograph"]

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from torchreid_nas.data.synthetic.canvas import Canvas
from torchreid_nas.data.synthetic.figure import Pose, draw_person
from torchreid_nas.data.synthetic.person import Person, triple
from torchreid_nas.data.synthetic.scene import Light, Scene, occlude
from torchreid_nas.data.synthetic.settings import generator


@dataclass(frozen=True)
class Camera:
    """A sensor: pixel = 0.5 + offset + gain * (level - 0.5), per channel.

    Attributes:
        spectrum: ``"visible"`` (three channels) or ``"infrared"`` (one, stored three times).
        gain, offset: per stored channel; in a visible camera they are its colour cast.
        contrast: of patterns on clothes (infrared: heat evens them out).
        blur: of the optics, in pixels at an image height of 128.
        noise: standard deviation, in levels before the gain.
    """

    spectrum: str
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    contrast: float = 1.0
    blur: float = 0.35
    noise: float = 0.006

    @classmethod
    def visible(cls, seed: int, number: int, cast: float = 0.06) -> Camera:
        """Return visible camera ``number`` of a data set; ``cast`` is the spread of its colour cast."""
        rng = generator(seed, "camera", number)
        gain, offset = np.clip(rng.standard_normal((2, 3)), -2, 2)
        return cls(
            "visible",
            gain=triple(np.exp(cast * gain)),
            offset=triple(0.5 * cast * offset),
        )

    @classmethod
    def infrared(cls, seed: int, number: int, gap: float) -> Camera:
        """Return infrared camera ``number`` at sensor gap ``gap``.

        At gap 0 gain is exactly 1 and offset 0. At gap 1 the gain is 0.25
        within 15 %, the offset -0.2 within 0.05, and patterns keep 70 % of
        their contrast before the gain; each camera differs a little.
        """
        rng = generator(seed, "camera", number)
        gain, offset = 2 * rng.random(2) - 1
        gain = 0.25**gap * math.exp(0.14 * gap * gain)
        offset = gap * (-0.2 + 0.05 * offset)
        return cls(
            "infrared", gain=(gain, gain, gain), offset=(offset, offset, offset), contrast=0.7**gap, blur=0.6, noise=0.012
        )

    def expose(self, image: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
        """Return the stored pixels, uint8 (H, W, 3).

        Args:
            image: the light, float32 (H, W, 3 or 1) in [0, 1].
            rng: of blur and noise, which vary from image to image.
            difficulty: 0 to 1; blur and noise grow with it.
        """
        soft, grain = rng.random(2)
        sigma = (self.blur + 1.1 * difficulty * soft) * len(image) / 128
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3.0)
        noise = self.noise + 0.035 * difficulty * grain
        image += noise * rng.standard_normal(image.shape, dtype=np.float32)
        gain, offset = np.array(self.gain, dtype=np.float32), np.array(self.offset, dtype=np.float32)
        stored = 0.5 + offset + gain * (image - 0.5)
        return np.clip(255 * stored + 0.5, 0, 255).astype(np.uint8)


def photograph(
    person: Person,
    pose: Pose,
    scene: Scene,
    camera: Camera,
    rng: np.random.Generator,
    height: int,
    width: int,
    difficulty: float,
) -> np.ndarray:
    """Return one bounding box, uint8 (H, W, 3): ``person`` in ``pose`` before ``scene``, taken by ``camera``.

    Args:
        person: the person.
        pose: of the person.
        scene: the background.
        camera: the sensor.
        rng: of background, light, occlusion and noise.
        height: of the box, in pixels.
        width: of the box, in pixels.
        difficulty: 0 to 1, see :class:`~.settings.SyntheticSettings`.

    >>> rng = generator(0, "example")
    >>> person, pose = Person.of(0, 1, 0.5), Pose.sample(rng, 0.5)
    >>> photograph(person, pose, Scene(0, 1), Camera.visible(0, 1), rng, 32, 16, 0.5).shape
    (32, 16, 3)
    """
    visible = camera.spectrum == "visible"
    image = scene.background(rng, camera.spectrum, height, width)
    light = Light.sample(rng, difficulty)
    # In a narrow box the width sets the scale, so that the person fits.
    scale = 0.95 * min(height, 2.2 * width) * person.stature * pose.scale
    canvas = Canvas(
        image, scale, light=light.direction, shading=0.45 if visible else 0.16, contrast=camera.contrast
    )
    draw_person(canvas, person, pose)
    light.fall_on(image)
    if visible:
        image *= np.array(scene.illuminant, dtype=np.float32)
    occlude(image, rng, difficulty)
    return camera.expose(image, rng, difficulty)
