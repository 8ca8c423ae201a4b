"""Neural architecture search and cross-modality re-identification as a plug-in for torchreid.

Importing the package registers its models, data sets, losses and engines in
torchreid, in either of torchreid's layouts.
"""
import warnings
from typing import Any

with warnings.catch_warnings():
    # torchreid's own rankers are not used here; their missing Cython build is no news to the user.
    warnings.filterwarnings("ignore", message="Cython evaluation")
    import torchreid  # noqa: F401

from torchreid_nas.architecture import Architecture
from torchreid_nas.layers import modality_context, split_batchnorm
from torchreid_nas.registry import register_all

__all__ = ["Architecture", "FeatureExtractor", "__version__", "modality_context", "split_batchnorm"]
__version__ = "0.1.0"

register_all()


def __getattr__(name: str) -> Any:
    # Imported when asked for: it stands above the tasks, which import this package.
    if name == "FeatureExtractor":
        from torchreid_nas.features import FeatureExtractor

        return FeatureExtractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
