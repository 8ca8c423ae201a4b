"""The base class of camera stylers, and the choice of the images from which a styler learns a camera."""
from __future__ import annotations

__all__ = ["CameraStyler", "round_to_pixels", "sample_cameras", "style_camids"]

import abc
from collections.abc import Iterable, Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch

from torchreid_nas.data.dataset import Item
from torchreid_nas.errors import InputError


class CameraStyler(abc.ABC):
    """Gives an image the style of another camera of the target: call ``draw``, read the ``source``, call the styler.

    Only ``draw`` is random, so the rest may run in several threads at once in any
    order. A styler is copied into loader workers, so it must be picklable.

    Attributes:
        camids: the cameras of the styler, 0-based as in torchreid, ascending.
    """

    camids: Sequence[int]

    def camids_of(self, item: Item) -> Sequence[int]:
        """Return the cameras whose style an image may get, the own camera included; by default all cameras."""
        return self.camids

    def draw(self, new_camid: int, generator: torch.Generator | None = None) -> int:
        """Draw the number of the style where the styler has several styles for a camera.

        Args:
            new_camid: the camera.
            generator: of the draw; default torch's global generator, which a ``DataLoader`` seeds in its workers.
        """
        return 0

    def source(self, item: Item, new_camid: int) -> str:
        """Return the path of the image that the styler takes; by default the path of ``item``."""
        return item[0]

    def files_of(self, item: Item) -> Sequence[str]:
        """Return the paths that :meth:`source` may return for an image beside its own path; by default none."""
        return ()

    @abc.abstractmethod
    def __call__(self, pixels: np.ndarray, item: Item, new_camid: int, drawn: int = 0) -> np.ndarray:
        """Return the image of ``item`` in the style of camera ``new_camid``, uint8 (H, W, 3), with the same person.

        Args:
            pixels: RGB, uint8 (H, W, 3), of the path of :meth:`source`. They may be read-only and are not changed.
            item: (path, pid, camid, dsetid) of the real image.
            new_camid: the camera. For the own camera the result is ``pixels`` itself.
            drawn: from :meth:`draw`.
        """

    def style_all(
        self, pixels: Sequence[np.ndarray], items: Sequence[Item], styles: Sequence[tuple[int, int]],
    ) -> list[np.ndarray]:
        """Return several images, each with the bits of a call with its (camera, draw). The own camera gives the image."""
        return [
            image if camid == item[2] else self(image, item, camid, drawn)
            for image, item, (camid, drawn) in zip(pixels, items, styles)
        ]

    @abc.abstractmethod
    def summary(self) -> str:
        """Return in one sentence where the styles come from."""


def round_to_pixels(values: np.ndarray, added: np.ndarray | float = 0.0) -> np.ndarray:
    """Return ``values + added``, float32 of one shape, rounded (halves to even) and clipped to 0..255, as uint8.

    >>> round_to_pixels(np.array([[0.5, 1.5, 300.0]], dtype=np.float32)).tolist()
    [[0, 2, 255]]
    """
    # The stub of OpenCV does not know that a number is added to every value.
    return cv2.add(values, cast(Any, added), dtype=cv2.CV_8U)


def style_camids(items: Iterable[Item]) -> tuple[int, ...]:
    """Return the cameras of ``items``, ascending.

    Raises:
        InputError: the items have fewer than two cameras.

    >>> style_camids([("a.jpg", 0, 2, 0), ("b.jpg", 0, 0, 0)])
    (0, 2)
    """
    camids = tuple(sorted({item[2] for item in items}))
    if len(camids) < 2:
        raise InputError(
            f"camera styles need images of at least 2 cameras, but the data set has {len(camids)}; "
            "set ecn.camstyle to none"
        )
    return camids


def sample_cameras(items: Sequence[Item], most: int, seed: int) -> dict[int, list[Item]]:
    """Draw up to ``most`` images of each camera, without replacement.

    The draw depends on the seed, the camera and the paths of the camera's images,
    and not on the order of ``items``, which some data sets take from the file
    system.

    Args:
        items: (path, pid, camid, dsetid).
        most: the largest number of images of a camera.
        seed: of the draw.

    Returns:
        Each camera -> its items.

    Raises:
        InputError: the items have fewer than two cameras, or a number is out of range.

    >>> sample_cameras([("a.jpg", 0, 0, 0), ("b.jpg", 0, 1, 0)], most=1, seed=0)
    {0: [('a.jpg', 0, 0, 0)], 1: [('b.jpg', 0, 1, 0)]}
    """
    for name, value, least in (("number of images per camera", most, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"the {name} of the camera styler is {value}, expected at least {least}")
    chosen = {}
    for camid in style_camids(items):
        own = sorted(item for item in items if item[2] == camid)
        positions = np.random.default_rng([seed, camid]).choice(len(own), min(most, len(own)), replace=False)
        chosen[camid] = [own[position] for position in positions]
    return chosen
