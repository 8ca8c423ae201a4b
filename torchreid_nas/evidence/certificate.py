"""``certificate.json``: how the figures of a run were made, and digests of everything that they were made from."""
from __future__ import annotations

__all__ = ["FORMAT", "certify", "digest_of_items", "digest_of_galleries", "read_certificate", "seal", "sealed"]

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError
from torchreid_nas.files import file_digest, read_json

FORMAT = 1
_PACKAGES = ("torch", "torchvision", "torchreid", "numpy", "Pillow", "opencv-python-headless", "torchreid-nas")


def digest_of_items(items: Sequence[Sequence[Any]], root: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a list of images: names below ``root``, sizes, identities and cameras, in their order.

    Args:
        items: torchreid's items, (path, pid, camid, …).
        root: of the data, so that a copy of the data elsewhere has the same digest.
    """
    digest = hashlib.sha256()
    for path, pid, camid, *_ in items:
        digest.update(f"{relative(path, root)}\t{Path(path).stat().st_size}\t{pid}\t{camid}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def relative(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """Return the name of an image below the root of the data; the whole path of an image elsewhere."""
    return os.path.relpath(path, root).replace(os.sep, "/")


def digest_of_galleries(galleries: Sequence[np.ndarray]) -> list[str]:
    """Return the SHA-256 of every gallery draw: the positions of its images in the list of the gallery."""
    return [hashlib.sha256(np.ascontiguousarray(chosen, dtype="<i8").tobytes()).hexdigest() for chosen in galleries]


def certify(
    folder: Path, tests: Sequence[Mapping[str, Any]], files: Mapping[str, Path], more: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the certificate of a test, sealed.

    Args:
        folder: of the run; files in it are named below it.
        tests: per target, how it was tested and the digests of its lists.
        files: the files of the run by what they are, "config", "weights", "features", "scores", "results".
        more: where the result comes from, see :func:`torchreid_nas.run.provenance.provenance`.
    """
    return seal({
        "format": FORMAT,
        "tests": list(tests),
        "files": {name: {"name": _name(path, folder), "sha256": file_digest(path, "sha256")} for name, path in files.items()},
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **more,
    })


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a certificate with the SHA-256 of its content under ``seal``.

    The seal finds damage. It is no signature: who changes the certificate can seal it again.

    Examples:
        >>> certificate = seal({"format": 1})
        >>> sealed(certificate), sealed({**certificate, "format": 2})
        (True, False)
    """
    return {**content, "seal": _digest_of_content(content)}


def sealed(certificate: Mapping[str, Any]) -> bool:
    """Return whether a certificate's content is the one that was sealed."""
    return certificate.get("seal") == _digest_of_content({key: value for key, value in certificate.items() if key != "seal"})


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the certificate of a test.

    Raises:
        InputError: there is none, or it is not the one that the test wrote.
    """
    if not Path(path).is_file():
        raise InputError(
            f'"{path}" does not exist, so it is not known which images the run was tested on; test the run again with this '
            "version (--stages test)"
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not sealed(content):
        raise InputError(f'"{path}" is not the certificate that the test wrote; test the run again (--stages test)')
    return content


def _digest_of_content(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _name(path: Path, folder: Path) -> str:
    return relative(path, folder) if path.resolve().is_relative_to(folder.resolve()) else str(path.resolve())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
