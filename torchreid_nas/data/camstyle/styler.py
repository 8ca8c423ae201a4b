"""What a camera styler is, and the images of each camera that one learns from."""
from __future__ import annotations

__all__ = ["CameraStyler", "round_to_pixels", "sample_cameras", "style_camids"]

import abc
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch

from torchreid_nas.data.dataset import Item
from torchreid_nas.errors import InputError


class CameraStyler(abc.ABC):
    """Gives an image the style of another camera of the target: ``draw``, read the ``source``, and call.

    What is random is drawn apart, so that the rest may run in several threads
    at once in any order. A styler is copied into loader workers, so it must be
    picklable.

    Attributes:
        camids: the cameras that it knows, 0-based as in torchreid, ascending.
    """

    camids: Sequence[int]

    def camids_of(self, item: Item) -> Sequence[int]:
        """Return the cameras whose style an image may get, the own one included; by default all."""
        return self.camids

    def draw(self, new_camid: int, generator: torch.Generator | None = None) -> int:
        """Draw which of the styles of a camera an image gets, where there are several.

        Args:
            new_camid: the camera.
            generator: default torch's global one, which a ``DataLoader`` seeds in its workers.
        """
        return 0

    def source(self, item: Item, new_camid: int) -> str:
        """Return the path of the image that is called with; by default that of ``item``."""
        return item[0]

    def files_of(self, item: Item) -> Sequence[str]:
        """Return what :meth:`source` may name for an image beside its own path; by default nothing."""
        return ()

    @abc.abstractmethod
    def __call__(self, pixels: np.ndarray, item: Item, new_camid: int, drawn: int = 0) -> np.ndarray:
        """Return the image of ``item`` as camera ``new_camid`` would show it, uint8 (H, W, 3), of the same person.

        Args:
            pixels: RGB, uint8 (H, W, 3), of the path that :meth:`source` names; they may be read-only and stay as they are.
            item: (path, pid, camid, dsetid) of the real image.
            new_camid: the camera; for the own one ``pixels`` itself is returned.
            drawn: from :meth:`draw`.
        """

    def style_all(
        self, pixels: Sequence[np.ndarray], items: Sequence[Item], styles: Sequence[tuple[int, int]],
    ) -> list[np.ndarray]:
        """Return several images, each as a call with its (camera, draw) returns it, to the bit; own cameras give the image."""
        return [
            image if camid == item[2] else self(image, item, camid, drawn)
            for image, item, (camid, drawn) in zip(pixels, items, styles)
        ]

    @abc.abstractmethod
    def summary(self) -> str:
        """Return in one sentence where the styles come from."""


def round_to_pixels(values: np.ndarray, added: np.ndarray | float = 0.0) -> np.ndarray:
    """Return ``values + added``, float32 of one shape, rounded (halves to even) and clipped to 0..255 as uint8."""
    return cv2.add(values, added, dtype=cv2.CV_8U)


def style_camids(items: Iterable[Item]) -> tuple[int, ...]:
    """Return the cameras of ``items``, ascending.

    Raises:
        InputError: there are fewer than two, so that there is no other camera.
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

    The draw depends on the seed, the camera and the camera's paths, but not on
    the order of ``items``, which on some data sets is that of the file system.

    Raises:
        InputError: fewer than two cameras, or a number is out of range.
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
