"""Camera styles without training: the low frequencies of another camera's images (FDA)."""
from __future__ import annotations

__all__ = ["FourierStyler", "transfer_amplitude"]

from typing import Sequence

import numpy as np
import torch
from PIL import Image
from scipy import fft

from torchreid_nas.data.camstyle.styler import CameraStyler, sample_cameras
from torchreid_nas.data.dataset import Item, read_image
from torchreid_nas.errors import InputError

# The size of Market-1501, (width, height): larger references are reduced to it.
_REFERENCE_SIZE = (64, 128)
# So many amplitudes of references are kept, where images are of few sizes; each is a few hundred bytes.
_KEPT = 4096


class FourierStyler(CameraStyler):
    """Fourier domain adaptation (FDA; Yang and Soatto, CVPR 2020, Eq. 3) with cameras as domains (ours).

    The amplitude of the lowest frequencies of an image is replaced by that of
    an image of the new camera, drawn at random from up to
    ``images_per_camera`` that are decoded here; phases stay. The reference is
    one picture, so its person's clothes take part in the style. Colour of
    higher frequencies stays: the style of an infrared camera takes the cast of
    an image but not its colours (``StatisticsStyler`` takes both).

    References larger than 64 x 128 are reduced to it (only low frequencies of
    them are read), so one takes at most 24 KiB: the default needs 14 MiB for
    the six cameras of Market-1501, 35 MiB for the 15 of MSMT17, shared by
    forked loader workers.

    Args:
        items: (path, pid, camid, dsetid) of one data set's training images.
        beta: half of the window's side over the image's, see
            :func:`transfer_amplitude`. The default is the least of the paper's
            0.01, 0.05 and 0.09: it takes brightness, cast and the gradient
            over the height; a person fills the image, so anything finer is
            the clothes and not the camera.
        images_per_camera: references of a camera.
        seed: of the choice of references.

    Attributes:
        camids: the cameras of ``items``, ascending.

    Raises:
        InputError: an image is broken, fewer than two cameras, or a number is
            out of range.
    """

    def __init__(self, items: Sequence[Item], beta: float = 0.01, images_per_camera: int = 100, seed: int = 0):
        _check_beta(beta)
        chosen = sample_cameras(items, images_per_camera, seed)
        self.camids = tuple(chosen)
        self.beta = beta
        self._references = {camid: [_reference(item[0]) for item in own] for camid, own in chosen.items()}
        self._amplitudes: dict[tuple[int, int, tuple[int, int]], np.ndarray] = {}

    def draw(self, new_camid: int, generator: torch.Generator | None = None) -> int:
        """Draw which image of the camera is the reference."""
        return int(torch.randint(len(self._references[new_camid]), (), generator=generator))

    def __call__(self, image: Image.Image, item: Item, new_camid: int, drawn: int = 0) -> Image.Image:
        """Return ``image`` with the low frequencies of reference ``drawn`` of ``new_camid``; the same size."""
        if new_camid == item[2]:
            return image
        key = new_camid, drawn, image.size
        amplitude = self._amplitudes.get(key)
        if amplitude is None:
            amplitude = _low_amplitude(self._references[new_camid][drawn], image.size, self.beta)
            if len(self._amplitudes) >= _KEPT:
                self._amplitudes.clear()
            self._amplitudes[key] = amplitude
        return _with_amplitude(image, amplitude, self.beta)

    def summary(self) -> str:
        """Return how many references there are."""
        return (
            f"camera styles by Fourier domain adaptation (beta {self.beta:g}) from "
            f"{sum(map(len, self._references.values())):,} images of {len(self.camids)} cameras"
        )


def transfer_amplitude(image: Image.Image, reference: Image.Image, beta: float) -> Image.Image:
    """Replace the low-frequency amplitude of ``image`` by that of ``reference`` and keep the phase.

    Of an image of H x W pixels the frequencies of up to floor(beta H) cycles
    over the height and floor(beta W) over the width are replaced, in each
    channel by itself (the paper's M_beta; its code takes the shorter side for
    both). Zero is no window: the image comes back as it is. A frequency that
    the image lacks altogether (a plain picture, not a photograph) has no phase
    to keep: what it gets is arbitrary, as in the authors' code.

    Args:
        image: RGB.
        reference: RGB, resized to the image where its size differs.
        beta: from 0 to below 0.5.

    Raises:
        InputError: ``beta`` is out of range.
    """
    _check_beta(beta)
    return _with_amplitude(image, _low_amplitude(reference, image.size, beta), beta)


def _low_amplitude(reference: Image.Image, size: tuple[int, int], beta: float) -> np.ndarray:
    """Return the amplitudes within the window, float32, of ``reference`` resized to (width, height) where it differs."""
    if reference.size != size:
        reference = reference.resize(size, Image.Resampling.BILINEAR)
    return np.abs(_spectrum(reference)[_window(size, beta)])


def _with_amplitude(image: Image.Image, amplitude: np.ndarray, beta: float) -> Image.Image:
    if beta == 0:
        return image
    width, height = image.size
    spectrum, window = _spectrum(image), _window(image.size, beta)
    spectrum[window] = amplitude * np.exp(1j * np.angle(spectrum[window]))
    pixels = fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _spectrum(image: Image.Image) -> np.ndarray:
    # On noise of up to 401 x 173 pixels single precision erred by less than 0.001 grey levels, in less than half the
    # time.
    return fft.rfft2(np.asarray(image, dtype=np.float32), axes=(0, 1))


def _window(size: tuple[int, int], beta: float) -> tuple[np.ndarray, ...]:
    rows, columns = int(beta * size[1]), int(beta * size[0])
    # Of frequencies over the width a real transform holds the half from 0 on.
    return np.ix_(np.arange(-rows, rows + 1), np.arange(columns + 1))


def _check_beta(beta: float) -> None:
    if not 0 <= beta < 0.5:
        raise InputError(f"the window (beta) of the Fourier styler is {beta}, expected from 0 to below 0.5")


def _reference(path: str) -> Image.Image:
    image = read_image(path)
    size = tuple(min(side, most) for side, most in zip(image.size, _REFERENCE_SIZE))
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
