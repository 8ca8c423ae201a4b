"""Galleries that stay on disk: features and records of any number of images, searched without reading them all."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "gallery": ("Calibration", "GalleryIndex"),
})
