"""Camera styles without training: the low frequencies of the images of another camera (FDA)."""
from __future__ import annotations

__all__ = ["FourierStyler", "transfer_amplitude"]

import functools
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from torchreid_nas.data.camstyle.styler import CameraStyler, round_to_pixels, sample_cameras
from torchreid_nas.data.dataset import Item, read_image
from torchreid_nas.errors import InputError

# The size of Market-1501, (width, height): larger references are reduced to this size.
_REFERENCE_SIZE = (64, 128)
# Number of amplitudes of references that are kept for images of few sizes; each takes a few hundred bytes.
_KEPT = 4096


class FourierStyler(CameraStyler):
    """Fourier domain adaptation (FDA; Yang and Soatto, CVPR 2020, Eq. 3) with cameras as domains (ours).

    The amplitude of the lowest frequencies of an image is replaced by the amplitude
    of a reference, an image of the new camera; the phases stay. The reference is
    drawn at random from up to ``images_per_camera`` images, which are decoded when
    the styler is made. The reference is one picture, so the clothes of its person
    take part in the style. Colours of higher frequencies stay: the style of an
    infrared camera removes the cast of an image but not its colours
    (``StatisticsStyler`` removes both).

    References larger than 64 x 128 are reduced to this size, since only their low
    frequencies are read. A reference takes at most 24 KiB: the default needs 14 MiB
    for the six cameras of Market-1501 and 35 MiB for the 15 cameras of MSMT17,
    shared by forked loader workers.

    Args:
        items: (path, pid, camid, dsetid) of one data set's training images.
        beta: half of the window's side over the side of the image, see
            :func:`transfer_amplitude`. The default is the least of the paper's
            0.01, 0.05 and 0.09. It takes brightness, cast and the gradient over the
            height. A person fills the image, so finer frequencies belong to the
            clothes and not to the camera.
        images_per_camera: number of references of a camera.
        seed: of the choice of references.

    Attributes:
        camids: the cameras of ``items``, ascending.

    Raises:
        InputError: an image is broken, the items have fewer than two cameras, or a number
            is out of range.
    """

    def __init__(
        self, items: Sequence[Item], beta: float = 0.01, images_per_camera: int = 100, seed: int = 0,
    ) -> None:
        _check_beta(beta)
        chosen = sample_cameras(items, images_per_camera, seed)
        self.camids = tuple(chosen)
        self.beta = beta
        self._references = {camid: [_reference(item[0]) for item in own] for camid, own in chosen.items()}
        self._amplitudes: dict[tuple[int, int, int, int], np.ndarray] = {}

    def draw(self, new_camid: int, generator: torch.Generator | None = None) -> int:
        """Draw the number of the reference of the camera."""
        return int(torch.randint(len(self._references[new_camid]), (), generator=generator))

    def __call__(self, pixels: np.ndarray, item: Item, new_camid: int, drawn: int = 0) -> np.ndarray:
        """Return ``pixels`` with the low frequencies of reference ``drawn`` of ``new_camid``."""
        return self.style_all([pixels], [item], [(new_camid, drawn)])[0]

    def style_all(
        self, pixels: Sequence[np.ndarray], items: Sequence[Item], styles: Sequence[tuple[int, int]],
    ) -> list[np.ndarray]:
        """Return several images. Images of one size are computed together, since a single image makes operations too small."""
        styled = list(pixels)
        together: dict[tuple[int, ...], list[int]] = {}
        for place, (image, item, (new_camid, _)) in enumerate(zip(pixels, items, styles)):
            if new_camid != item[2]:
                together.setdefault(image.shape, []).append(place)
        for (height, width, _), places in together.items():
            amplitudes = np.stack([self._amplitude(*styles[place], height, width) for place in places])
            images = _with_amplitude(np.stack([pixels[place] for place in places]), amplitudes, self.beta)
            for place, image in zip(places, images):
                styled[place] = image
        return styled

    def summary(self) -> str:
        """Return in one sentence the number of references and cameras."""
        return (
            f"camera styles by Fourier domain adaptation (beta {self.beta:g}) from "
            f"{sum(map(len, self._references.values())):,} images of {len(self.camids)} cameras"
        )

    def _amplitude(self, camid: int, drawn: int, height: int, width: int) -> np.ndarray:
        """Return the amplitudes of a reference for images of a size; they are kept."""
        key = camid, drawn, height, width
        amplitude = self._amplitudes.get(key)
        if amplitude is None:
            amplitude = _low_amplitude(self._references[camid][drawn], height, width, self.beta)
            if len(self._amplitudes) >= _KEPT:
                self._amplitudes.clear()
            self._amplitudes[key] = amplitude
        return amplitude


def transfer_amplitude(pixels: np.ndarray, reference: Image.Image, beta: float) -> np.ndarray:
    """Replace the low-frequency amplitude of an image by the amplitude of ``reference``, and keep the phase.

    In an image of H x W pixels the frequencies of up to floor(beta H) cycles over
    the height and floor(beta W) over the width are replaced, in each channel
    separately (the paper's M_beta; the authors' code takes the shorter side for
    both). With beta = 0 there is no window, and the image is returned unchanged. A
    frequency that the image does not have (in a plain picture, not in a photograph)
    has no phase to keep; up to rounding it gets the phase 0, as in the authors' code.

    Only the frequencies of the window are computed, and only their change is added
    to the image. The result is as exact as two whole transforms and takes a
    fraction of their time.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        reference: RGB image. A reference of another size is resized to the image.
        beta: from 0 to below 0.5.

    Raises:
        InputError: ``beta`` is out of range.

    >>> dark, bright = np.full((64, 32, 3), 50, dtype=np.uint8), Image.new("RGB", (32, 64), (200, 200, 200))
    >>> int(transfer_amplitude(dark, bright, beta=0.02)[0, 0, 0])
    200
    """
    _check_beta(beta)
    height, width, _ = pixels.shape
    return _with_amplitude(pixels[None], _low_amplitude(reference, height, width, beta)[None], beta)[0]


def _low_amplitude(reference: Image.Image, height: int, width: int, beta: float) -> np.ndarray:
    """Return the amplitudes within the window of ``reference``, resized to (height, width)."""
    if reference.size != (width, height):
        reference = reference.resize((width, height), Image.Resampling.BILINEAR)
    window = _Window(height, width, beta)
    return window.amplitude(window.transform(np.asarray(reference, dtype=np.float32).reshape(1, height, -1)))[0]


def _with_amplitude(pixels: np.ndarray, amplitudes: np.ndarray, beta: float) -> np.ndarray:
    """Return images of one size, uint8 (B, H, W, 3), with amplitudes (B, rows, columns * 3)."""
    if beta == 0:
        return pixels
    count, height, width, _ = pixels.shape
    window = _Window(height, width, beta)
    values = pixels.astype(np.float32).reshape(count, height, -1)
    own = window.transform(values)
    size = window.amplitude(own)
    if not size.all():
        # A missing frequency becomes a very small real one.
        own[:, 0][size == 0] = size[size == 0] = 1e-3
    own *= (amplitudes / size - 1)[:, None]
    change = window.invert(own).reshape(count * height, -1)
    return round_to_pixels(values.reshape(change.shape), change).reshape(pixels.shape)


class _Window:
    """The discrete Fourier transform of images of one size at the frequencies of the window: products with its waves.

    Frequencies are float32 (B, 2, rows, columns * 3): real parts and imaginary parts. Real images need the frequencies
    from 0 on over the width only. A stack of products gives each image the same bits as the image alone; one larger
    product does not.
    """

    def __init__(self, height: int, width: int, beta: float) -> None:
        rows, columns = int(beta * height), int(beta * width)
        self._over_height, self._over_width = _waves_over_height(height, rows), _waves_over_width(width, columns)
        self._weights = _weights(height * width, columns)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Return the frequencies of images, float32 (B, H, W * 3)."""
        count, height, _ = values.shape
        rows = (values @ self._over_width.T).reshape(count, 2 * height, -1)
        return (self._over_height @ rows).reshape(count, 2, -1, rows.shape[2])

    def invert(self, frequencies: np.ndarray) -> np.ndarray:
        """Return the images, float32 (B, H, W * 3), with these frequencies and no others."""
        count, height = len(frequencies), self._over_height.shape[1] // 2
        rows = self._over_height.T @ (frequencies * self._weights).reshape(count, len(self._over_height), -1)
        return rows.reshape(count, height, -1) @ self._over_width

    @staticmethod
    def amplitude(frequencies: np.ndarray) -> np.ndarray:
        """Return the amplitudes, float32 (B, rows, columns * 3)."""
        return np.hypot(frequencies[:, 0], frequencies[:, 1])


# The cache pays, because images of many sizes share their heights and widths.
@functools.lru_cache(maxsize=512)
def _waves_over_height(height: int, rows: int) -> np.ndarray:
    """Return the transform over the height of real and imaginary parts, float32 (2 * (2 * rows + 1), height * 2)."""
    angles = 2 * np.pi / height * np.outer(np.arange(-rows, rows + 1), np.arange(height))
    cosines, sines = np.cos(angles), np.sin(angles)
    real, imaginary = (np.stack(parts, axis=2) for parts in ((cosines, sines), (-sines, cosines)))
    return np.concatenate([real, imaginary]).reshape(-1, 2 * height).astype(np.float32)


@functools.lru_cache(maxsize=512)
def _waves_over_width(width: int, columns: int) -> np.ndarray:
    """Return the waves over a row of pixels, three channels side by side, float32 (2 * (columns + 1) * 3, width * 3)."""
    angles = 2 * np.pi / width * np.outer(np.arange(columns + 1), np.arange(width))
    of_channels = np.einsum("pkw,cd->pkcwd", np.stack([np.cos(angles), -np.sin(angles)]), np.eye(3))
    return of_channels.reshape(-1, width * 3).astype(np.float32)


@functools.lru_cache(maxsize=512)
def _weights(pixels: int, columns: int) -> np.ndarray:
    """Return the factor of each frequency in the inverse, float32 (columns * 3,): twice above 0, for the negative one."""
    return (np.where(np.arange(columns + 1) > 0, 2, 1).repeat(3) / pixels).astype(np.float32)


def _check_beta(beta: float) -> None:
    if not 0 <= beta < 0.5:
        raise InputError(f"beta (the window of the Fourier styler) is {beta}, expected from 0 to below 0.5")


def _reference(path: str) -> Image.Image:
    image = read_image(path)
    size = min(image.width, _REFERENCE_SIZE[0]), min(image.height, _REFERENCE_SIZE[1])
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
