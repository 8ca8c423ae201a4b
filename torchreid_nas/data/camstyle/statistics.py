"""Camera styles without training: the colour statistics of one camera mapped to those of another."""
from __future__ import annotations

__all__ = ["StatisticsStyler"]

from collections.abc import Sequence

import cv2
import numpy as np

from torchreid_nas.data.camstyle.styler import CameraStyler, round_to_pixels, sample_cameras
from torchreid_nas.data.dataset import Item, read_pixels

# Orthogonal axes: brightness, red against blue, green against magenta.
_AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=np.float64)
_NORMS = np.sqrt([3, 2, 6])
_MOST_GAIN = 4.0


class StatisticsStyler(CameraStyler):
    r"""A map of colours: the mean and standard deviation of one camera become those of another camera.

    Colour transfer of Reinhard et al. ("Color Transfer between Images", 2001)
    with cameras in place of images (ours). With x the colour of a pixel in
    decorrelated axes, y = (x - mean_own) std_new / std_own + mean_new. The
    statistics belong to the cameras, so a red shirt stays red in a camera that saw
    no red; the statistics of single images would repaint the shirt.

    The axes are those of Reinhard's space (brightness, red against blue, green
    against magenta, the principal axes of natural images), on RGB values instead
    of logarithms of cone responses (ours): black stays finite, and a grey image has
    exactly no colour. A pair of cameras is one affine map of RGB values, whose
    result is rounded and clipped to 0..255.

    An infrared camera has no deviation of colour: images mapped to it become grey.
    Where the own deviation is zero, only the mean moves. No contrast is multiplied
    by more than 4, so that the compression noise of nearly grey images does not
    become colour.

    Args:
        items: (path, pid, camid, dsetid) of one data set's training images.
        images_per_camera: the largest number of images, drawn at random, that are read
            for the statistics of a camera. Each image counts alike, at every size.
        seed: of the draw of images.

    Attributes:
        camids: the cameras of ``items``, ascending.
        mean, std: camid -> float64 (3,) in the axes above, in grey levels.

    Raises:
        InputError: an image is broken, the items have fewer than two cameras, or a number
            is out of range.
    """

    def __init__(self, items: Sequence[Item], images_per_camera: int = 200, seed: int = 0) -> None:
        chosen = sample_cameras(items, images_per_camera, seed)
        self.camids = tuple(chosen)
        self.num_read = sum(map(len, chosen.values()))
        self.mean: dict[int, np.ndarray] = {}
        self.std: dict[int, np.ndarray] = {}
        for camid, own in chosen.items():
            self.mean[camid], self.std[camid] = _statistics([item[0] for item in own])
        self._maps = {
            (own, new): self._map(own, new) for own in self.camids for new in self.camids if own != new
        }

    def __call__(self, pixels: np.ndarray, item: Item, new_camid: int, drawn: int = 0) -> np.ndarray:
        """Return ``pixels`` with their colours mapped from the camera of ``item`` to ``new_camid``."""
        if new_camid == item[2]:
            return pixels
        # The colours are mapped in single precision, because OpenCV maps integers more coarsely.
        return round_to_pixels(cv2.transform(pixels.astype(np.float32), self._maps[item[2], new_camid]))

    def summary(self) -> str:
        """Return in one sentence how many images the statistics come from."""
        return (
            f"camera styles by colour statistics of {len(self.camids)} cameras, "
            f"estimated from {self.num_read:,} of their images"
        )

    def _map(self, own: int, new: int) -> np.ndarray:
        """Return the affine map of RGB values, float32 (3, 4)."""
        varied = self.std[own] > 0
        gain = np.ones(3)
        gain[varied] = np.minimum(self.std[new][varied] / self.std[own][varied], _MOST_GAIN)
        axes = _AXES / _NORMS[:, None]
        linear = axes.T @ (gain[:, None] * axes)
        shift = axes.T @ (self.mean[new] - gain * self.mean[own])
        return np.column_stack([linear, shift]).astype(np.float32)


def _statistics(paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the pixels of all images along the opponent axes."""
    mean, square = np.zeros(3), np.zeros(3)
    for path in paths:
        pixels = read_pixels(path).astype(np.float64).reshape(-1, 3)
        # The product is one of integers, so grey pixels have a colour of exactly zero.
        values = pixels @ _AXES.T / _NORMS
        mean += values.mean(axis=0) / len(paths)
        square += np.square(values).mean(axis=0) / len(paths)
    return mean, np.sqrt(np.maximum(square - np.square(mean), 0))
