"""The names of the necks that CDNet's paper compares; :mod:`torchreid_nas.models.necks` builds them."""
from __future__ import annotations

__all__ = ["NECKS"]

NECKS: tuple[str, ...] = ("plain", "bnneck", "blneck", "fblneck")
"""From the simplest on."""
