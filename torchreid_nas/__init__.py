"""Neural architecture search and cross-modality re-identification as a plug-in for torchreid.

Importing the package registers its models, data sets, losses and engines in
torchreid, in either of torchreid's layouts, whichever of the two is imported
first. Only in a process of the command line (:mod:`torchreid_nas_command`)
registration waits until the command calls :func:`register`.
"""
from __future__ import annotations

import sys
import warnings

from torchreid_nas.lazy import lazy_exports

_names, __getattr__, __dir__ = lazy_exports(__name__, {
    "architecture": ("Architecture",), "features": ("FeatureExtractor",), "layers": ("modality_context", "split_batchnorm"),
    "checkpoints": (), "weights": (), "zoo": (),
})
__all__ = ["__version__", "register", *_names]
__version__ = "0.1.0"


def register() -> None:
    """Register everything of this package in torchreid; again is harmless."""
    with warnings.catch_warnings():
        # torchreid's own rankers are not used here; their missing Cython build is no news to the user.
        warnings.filterwarnings("ignore", message="Cython evaluation")
        import torchreid  # noqa: F401

    from torchreid_nas.registry import register_all

    register_all()


if "torchreid_nas_command" not in sys.modules:
    register()
