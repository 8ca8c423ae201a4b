"""Downloads over HTTPS that go on where they broke off."""
from __future__ import annotations

__all__ = ["alone", "download", "is_offline", "looks_like_html"]

import contextlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from tqdm.auto import tqdm

from torchreid_nas.errors import InputError, shown
from torchreid_nas.files import write_json
from torchreid_nas.hub.errors import DownloadFailed

TRIES = 4
PAUSE = 1.0
"""Number of attempts, and seconds before the second attempt; each pause is twice as long as the pause before."""

TIMEOUT = 60
"""Seconds without an answer after which an attempt has failed."""

MOST = 16 * 2**30
"""Largest number of bytes of a download whose size is unknown; an endless answer would fill the disk."""

_CHUNK = 1 << 18
_MEANING = {
    401: "asks for a login", 403: "refuses it", 404: "no longer has it", 410: "no longer has it",
    429: "wants fewer requests",
}
_PAGE = "the server {} sent a web page instead of the file"


logger = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(path: Path, variable: str) -> Iterator[None]:
    """Keep other processes from fetching ``path`` meanwhile; make its folder.

    Args:
        path: the file that will be downloaded.
        variable: environment variable that names another folder, for the error.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise InputError(
            f'"{path.parent}" cannot be written ({error.strerror or error}); name another folder by {variable}'
        ) from error
    try:
        yield
    finally:
        lock.release()


def download(
    url: str, part: Path, title: str = "", size: int | None = None, tries: int = TRIES, timeout: float = TIMEOUT,
) -> None:
    """Download ``url`` into ``part``, and go on where an earlier download into ``part`` broke off.

    The file ``<part>.json`` keeps the address and the server's mark of the
    version (ETag or date). The download goes on only where both are still the
    same, and begins again otherwise.

    Args:
        url: an https address; redirects to https addresses are followed.
        part: the file that receives the bytes; complete when the function returns.
        title: of the progress bar.
        size: bytes of the file, :data:`MOST` where unknown; a longer answer is given up, and what has arrived is removed.
        tries: attempts without a byte more after which the download is given up.
        timeout: see :data:`TIMEOUT`.

    Raises:
        DownloadFailed: no https address, refused, moved, too long, a web page in the place of the file, or broken off
            ``tries`` times.
        InputError: the disk is full or the folder cannot be written.
    """
    failures = 0
    while True:
        before = _length(part)
        try:
            _attempt(url, part, title, MOST if size is None else size, timeout)
            _marks(part).unlink(missing_ok=True)
            return
        except _Again as error:
            failures = 1 if _length(part) > before else failures + 1
            if failures >= tries:
                arrived = _length(part)
                kept = f" ({arrived:,} bytes have arrived)" if arrived else ""
                raise DownloadFailed(f"{error}{kept}", resumable=arrived > 0) from error
            pause = PAUSE * 2 ** (failures - 1)
            logger.warning(f"{error}; trying again in {pause:g} s ({tries - failures} of {tries} attempts are left)")
            time.sleep(pause)
        except OSError as error:
            raise InputError(
                f'"{part}" could not be written ({error.strerror or error}); free space, or name another folder by '
                "TORCHREID_NAS_HOME or TORCH_HOME"
            ) from error


def is_offline() -> bool:
    """Say whether ``TORCHREID_NAS_OFFLINE`` forbids downloads."""
    return os.environ.get("TORCHREID_NAS_OFFLINE", "").lower() not in ("", "0", "false", "no")


def looks_like_html(start: bytes) -> bool:
    """Say whether a file that begins with ``start`` is a web page."""
    return bool(re.match(rb"(?is)\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body|title)", start))


class _Again(Exception):
    """A failure that another attempt may overcome."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone; urllib would follow redirects to http and ftp, too."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage,
    ) -> Any:
        """Follow one redirect."""
        target = urllib.parse.urljoin(req.full_url, headers.get("Location", ""))
        if not _is_secure(target):
            raise DownloadFailed(
                f'the server {_host(req.full_url)} redirects to "{shown(target)}", expected an address with https://'
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _attempt(url: str, part: Path, title: str, most: int, timeout: float) -> None:
    """Download once; all bytes that have arrived stay in ``part``."""
    offset, headers = _continuation(url, part)
    opener = urllib.request.build_opener(_Redirects)
    try:
        if not _is_secure(url):
            raise DownloadFailed(f'the address "{shown(url)}" can be read and changed on its way, expected one with https://')
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            offset = _accept(response, offset)
            _receive(response, url, part, offset, title, most)
    except urllib.error.HTTPError as error:
        _refuse(error, offset, part)
    except (http.client.InvalidURL, ValueError) as error:
        raise DownloadFailed(f'the address "{shown(url)}", or one that it redirects to, is none ({error})') from error
    except urllib.error.URLError as error:
        raise _Again(f"the server {_host(url)} cannot be reached") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Again(f"the connection to {_host(url)} broke off") from error


def _refuse(error: urllib.error.HTTPError, offset: int, part: Path) -> None:
    """Raise the error that a status other than success means; return where the status means that the part is complete."""
    status, host = error.code, _host(error.url)
    if status == 416:
        if re.fullmatch(rf"bytes \*/{offset}", error.headers.get("Content-Range", "")):
            return
        part.unlink(missing_ok=True)
        raise _Again(f"the server {host} has fewer bytes than have arrived") from error
    if status == 429 or status >= 500:
        raise _Again(f"the server {host} {_MEANING.get(status, 'is in trouble')} (status {status})") from error
    if 300 <= status < 400:
        raise DownloadFailed(f"the server {host} redirects without end") from error
    raise DownloadFailed(f"the server {host} {_MEANING.get(status, 'does not give it')} (status {status})") from error


def _continuation(url: str, part: Path) -> tuple[int, dict[str, str]]:
    """Return how many bytes of the part can be kept, and the headers of a request for the rest."""
    try:
        marks = json.loads(_marks(part).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        marks = None
    length = _length(part)
    if not length or not isinstance(marks, dict) or not isinstance(marks.get("version"), str) or marks.get("url") != url:
        part.unlink(missing_ok=True)
        return 0, {}
    return length, {"Range": f"bytes={length}-", "If-Range": marks["version"]}


def _accept(response: http.client.HTTPResponse, offset: int) -> int:
    """Check the kind of an answer, and return the offset of its first byte in the file."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise DownloadFailed(_PAGE.format(_host(response.url)))
    if response.status != 206:
        return 0
    match = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != offset:
        raise DownloadFailed(f"the server {_host(response.url)} sent another part of the file than asked for")
    return offset


def _receive(response: http.client.HTTPResponse, url: str, part: Path, offset: int, title: str, most: int) -> None:
    length = response.headers.get("Content-Length", "")
    # str.isdigit would take "²" as well.
    total = offset + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    # read1 returns the bytes that are there, so that no byte is lost when the connection breaks off.
    chunk = response.read1(_CHUNK)
    if offset == 0:
        if looks_like_html(chunk[:512]):
            raise DownloadFailed(_PAGE.format(_host(response.url)))
        part.parent.mkdir(parents=True, exist_ok=True)
        _remember(part, url, response)
    received = offset
    bar = tqdm(total=total, initial=offset, desc=title, unit="B", unit_scale=True, unit_divisor=1024, disable=None)
    # Unbuffered: bytes that have arrived reach the disk even if the process is killed.
    with bar, part.open("ab" if offset else "wb", buffering=0) as file:
        while chunk:
            if received + len(chunk) > most:
                file.truncate(0)  # the disk has room again at once
                raise DownloadFailed(f"the server {_host(response.url)} sends more than the {most:,} bytes that were expected")
            file.write(chunk)
            received += len(chunk)
            bar.update(len(chunk))
            chunk = response.read1(_CHUNK)
    if total is not None and received < total:
        raise _Again(f"the connection to {_host(response.url)} broke off, {total:,} bytes were announced")


def _remember(part: Path, url: str, response: http.client.HTTPResponse) -> None:
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    # A weak ETag promises the same meaning, not the same bytes.
    marks: dict[str, Any] = {"url": url, "version": None if (version or "").startswith("W/") else version}
    write_json(_marks(part), marks)


def _marks(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _is_secure(url: str) -> bool:
    return urllib.parse.urlsplit(url).scheme == "https"


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc
