"""Why a file of the zoo did not arrive; the store makes a sentence of it that says what to do by hand."""
from __future__ import annotations

__all__ = ["DownloadFailed"]


class DownloadFailed(Exception):
    """A download that did not succeed; the message is the reason, without the way out.

    Args:
        reason: what happened.
        resumable: whether what has arrived is kept and the next attempt goes on from it.
    """

    def __init__(self, reason: str, resumable: bool = False) -> None:
        super().__init__(reason)
        self.resumable = resumable
