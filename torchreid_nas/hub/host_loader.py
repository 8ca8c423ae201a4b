"""The ImageNet weights of torchreid's own models, through torchreid's own loader."""
from __future__ import annotations

__all__ = ["cached_file", "download_by_torchreid"]

from pathlib import Path

import torch
import torchreid

from torchreid_nas.hub.entry import Entry
from torchreid_nas.hub.errors import DownloadFailed


def cached_file(entry: Entry) -> Path:
    """Return where torchreid's loader keeps the file: torch's hub cache, or, of models that gdown gets, beside it."""
    hub = Path(torch.hub.get_dir())
    return (hub.parent if entry.source.cached.endswith("_imagenet.pth") else hub) / "checkpoints" / entry.source.cached


def download_by_torchreid(entry: Entry) -> None:
    """Download the file by torchreid's ``build_model(pretrained=True)``.

    Raises:
        DownloadFailed: torchreid could not download the file, or keeps the file elsewhere.
    """
    import gdown

    refused = getattr(gdown.exceptions, "DownloadError", gdown.exceptions.FileURLRetrievalError)
    # The errors of urllib and requests are OSErrors.
    try:
        torchreid.models.build_model(entry.model, 1000, pretrained=True, use_gpu=False)
    except (refused, OSError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DownloadFailed(f"torchreid's loader fails ({reason})") from error
    if not cached_file(entry).exists():
        raise DownloadFailed(f'torchreid\'s loader left no "{cached_file(entry)}"')
