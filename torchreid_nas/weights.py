"""Old place of :mod:`torchreid_nas.checkpoints`; it goes with the next version."""
from __future__ import annotations

import warnings
from typing import Any

from torchreid_nas import checkpoints


def __getattr__(name: str) -> Any:
    value = getattr(checkpoints, name)
    warnings.warn(
        f"torchreid_nas.weights.{name} is now torchreid_nas.checkpoints.{name}; the old name goes with the next version",
        DeprecationWarning, stacklevel=2,
    )
    return value
