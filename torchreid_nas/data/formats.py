"""Which files Pillow reads as images."""
from __future__ import annotations

__all__ = ["readable_formats", "readable_suffixes"]

import functools

from PIL import Image

# Formats that Pillow only recognises, and those for which it starts another program (Ghostscript).
_NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Return the names of the formats that the installed Pillow reads by itself."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NOT_READ)


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of these formats.

    >>> {".jpg", ".png", ".bmp", ".tiff"} <= readable_suffixes(), ".pdf" in readable_suffixes()
    (True, False)
    """
    formats = set(readable_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)
