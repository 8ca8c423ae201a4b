"""Files in Google Drive folders, by gdown."""
from __future__ import annotations

__all__ = ["download_from_folder"]

import fnmatch
from pathlib import Path

from torchreid_nas.errors import nearest
from torchreid_nas.hub.errors import DownloadFailed


def download_from_folder(folder: str, pattern: str, part: Path) -> None:
    """Download the one file of a public Drive folder that fits ``pattern`` into ``part``.

    Args:
        folder: the folder's id.
        pattern: a glob over the path below the folder, e.g. ``*trial1/*.pth.tar``.
        part: the file that receives the bytes; complete when the function returns.

    Raises:
        DownloadFailed: the folder or the file is not given (the quota page
            among the reasons), or not exactly one file fits; the folder's files are named.
    """
    import gdown

    failures = tuple(
        getattr(gdown.exceptions, name)
        for name in ("DownloadError", "FileURLRetrievalError", "FolderContentsMaximumLimitError")
        if hasattr(gdown.exceptions, name)
    )
    # gdown calls requests, whose errors are OSErrors.
    failures = (*failures, OSError, RuntimeError)
    try:
        files = gdown.download_folder(id=folder, skip_download=True, quiet=True, use_cookies=False)
    except failures as error:
        raise DownloadFailed(f"Google Drive does not show the folder {folder} ({_first_line(error)})") from error
    # With skip_download gdown returns its own records, otherwise the paths of files.
    by_path = {file.path.replace("\\", "/"): file.id for file in files or () if not isinstance(file, str)}
    fitting = [path for path in by_path if fnmatch.fnmatchcase(path, pattern)]
    if len(fitting) != 1:
        found = ", ".join(sorted(by_path)) or "nothing"
        what = f"{len(fitting)} files that fit" if fitting else "no file that fits"
        raise DownloadFailed(
            f'the Drive folder {folder} holds {what} "{pattern}" (it holds {found}){nearest(pattern, by_path)}'
        )
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        # gdown keeps the bytes that have arrived under a name of its own, and goes on from there.
        gdown.download(id=by_path[fitting[0]], output=str(part), quiet=False, use_cookies=False, resume=True)
    except failures as error:
        raise DownloadFailed(f'Google Drive does not give "{fitting[0]}" ({_first_line(error)})') from error
    if not part.exists():
        raise DownloadFailed(f'Google Drive does not give "{fitting[0]}" (its quota may be used up; wait a day)')


def _first_line(error: Exception) -> str:
    """Return the first two lines with text; gdown's sentences run over several lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".:") or type(error).__name__
