"""Rows of the section ``report``."""
from __future__ import annotations

__all__ = ["REPORT"]

from torchreid_nas.config.key import Key

REPORT = {
    "enabled": Key(True, "write report.html at the end of a run, its page for people; `torchreid-nas report` writes it later"),
}
