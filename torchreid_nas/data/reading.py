"""Reading an image file as RGB, or saying in one sentence why it cannot be read."""
from __future__ import annotations

__all__ = ["as_rgb", "image_size", "read_image", "read_pixels"]

import contextlib
import os
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from torchreid_nas.data.formats import readable_formats
from torchreid_nas.errors import InputError

# The largest value of a colour of 16 bits reaches this in images that use all bits. Sensors of 14 bits or fewer stay below.
_LEAST_OF_16_BITS = 2**14


def read_image(path: str | os.PathLike) -> Image.Image:
    """Return the image at ``path``, fully decoded, as RGB.

    torchreid's own ``read_image`` tries a broken file again for ever.

    Raises:
        InputError: the file is missing, truncated or no image, or see :func:`as_rgb`.
    """
    with _opened(path) as image:
        return as_rgb(image, f'the image "{path}"')


def as_rgb(image: Image.Image, what: str) -> Image.Image:
    """Return an image of any mode as RGB.

    Pillow gives the upper 8 of the 16 bits of a colour. Values of a sensor with
    fewer bits then become nearly black, and larger grey values become white.

    Args:
        image: to convert.
        what: names the image in the sentence of an error.

    Raises:
        InputError: the image has grey values beyond 8 bits, or colours of 16 bits of which the upper bits are not used.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise InputError(
            f"{what} has grey values of 16 bits or more (Pillow's mode {image.mode}), expected 8 bits; save it again "
            "with the values that matter scaled to 0 to 255"
        )
    deep = _stores_16_bits(image)
    rgb = image.convert("RGB")
    if deep and np.asarray(rgb).max() < _LEAST_OF_16_BITS >> 8:
        raise InputError(
            f"{what} has 16 bits per colour, but no value of {_LEAST_OF_16_BITS:,} or more out of 65,535, as from a sensor of "
            "14 bits or fewer; save it again with the values that matter scaled to 8 bits, 0 to 255"
        )
    return rgb


def _stores_16_bits(image: Image.Image) -> bool:
    """Return whether the file of an image that is not decoded yet holds 16 bits per value, for a mode of 8 bits."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(argument, str) and ";16" in argument for argument in arguments):
            return True
    return False


def read_pixels(path: str | os.PathLike) -> np.ndarray:
    """Return the pixels of :func:`read_image`, uint8 (H, W, 3)."""
    return np.array(read_image(path))


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return (height, width) of the image at ``path``, of which no more than that is read.

    Raises:
        InputError: the file is missing or no image.
    """
    with _opened(path) as image:
        return image.height, image.width


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Open an image, and have what goes wrong in the block said in one sentence."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f'the image "{path}" does not exist; unpack the data set again') from error
    except (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(
            f'the image "{path}" is truncated or no image ({type(error).__name__}: {error}); '
            "restore the file or unpack the data set again"
        ) from error
