"""Neural architecture search and cross-modality re-identification as a plug-in for torchreid.

Importing the package registers its models, data sets, losses and engines in
torchreid, in either of torchreid's layouts, whichever of the two is imported
first. Only the command line registers later, by calling :func:`register`.
"""
from __future__ import annotations

import sys
import warnings
from pathlib import PurePath

from torchreid_nas.lazy import lazy_exports

_names, __getattr__, __dir__ = lazy_exports(__name__, {
    "architecture": ("Architecture",), "features": ("FeatureExtractor",), "layers": ("modality_context", "split_batchnorm"),
    "checkpoints": (), "engine": (), "methods": (), "metrics": (), "search": (), "weights": (), "zoo": (),
})
__all__ = ["__version__", "register", *_names]
__version__ = "0.2.0"


def register() -> None:
    """Register everything of this package in torchreid; a second call does nothing."""
    with warnings.catch_warnings():
        # This package does not use torchreid's own rankers, so their missing Cython build does not concern the user.
        warnings.filterwarnings("ignore", message="Cython evaluation")
        import torchreid  # noqa: F401

    from torchreid_nas.registry import register_all

    register_all()


def _process_is_the_command() -> bool:
    """Return whether this process is the command line, which must print ``--help`` without importing torch.

    The process is the command line if its name is ``torchreid-nas`` (the
    installed script; the scripts of ``tools/`` take this name), or if Python was
    started with ``-m torchreid_nas`` or ``-m torchreid_nas.cli``. Python imports
    this package before it runs the module of ``-m``; until then ``sys.argv[0]``
    is ``"-m"``, and the module's name precedes the arguments in ``sys.orig_argv``.
    """
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m") in ("torchreid_nas", "torchreid_nas.cli")
    return PurePath(name).name.startswith("torchreid-nas")


if not _process_is_the_command():
    register()
