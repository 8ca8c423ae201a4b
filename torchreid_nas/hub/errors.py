"""The failure of a download; the store turns the failure into a message that says what to do by hand."""
from __future__ import annotations

__all__ = ["DownloadFailed"]


class DownloadFailed(Exception):
    """A download that did not succeed; the message is the reason, without the way out.

    Args:
        reason: what happened.
        resumable: whether the bytes that have arrived are kept, so that the next attempt goes on from them.
    """

    def __init__(self, reason: str, resumable: bool = False) -> None:
        super().__init__(reason)
        self.resumable = resumable
