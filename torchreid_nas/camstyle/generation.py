"""Write every training image in the style of every other camera, one whole file after the other."""
from __future__ import annotations

__all__ = ["MARKER", "CamStyleFiles", "generate", "weights_digest"]

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from torchreid_nas.camstyle.images import CameraImages, to_pillow
from torchreid_nas.data.camstyle.names import camstyle_folder, camstyle_name, shared_camstyle_file
from torchreid_nas.data.manager import ImageLoader
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path, read_json, remove_leftovers, write_json

MARKER = "camstyle.json"
"""Name of the file beside the images that describes the network that made them."""

_WRITERS = 8
_LOG = logging.getLogger(__name__)


class CamStyleFiles:
    """The files of a data set's camera-style images, and which of these files exist.

    Args:
        images: the training images.
        msmt17: whether the files are named as for MSMT17.

    Attributes:
        folders: of the files; one, unless the training part has several.

    Raises:
        InputError: two images would share a file.
    """

    def __init__(self, images: CameraImages, msmt17: bool = False) -> None:
        self.images, self.msmt17 = images, msmt17
        self._folder_of = {Path(item[0]).parent: camstyle_folder(item[0]) for item in images.items}
        self.folders = sorted(set(self._folder_of.values()))
        shared = shared_camstyle_file(images.items, msmt17)
        if shared:
            folder, stem, count = shared
            raise InputError(
                f'{count} training images are named "{stem}", so that their camera-style images would share a file in '
                f'"{folder}"; use a data set whose names differ, such as market1501, dukemtmcreid or msmt17'
            )
        self.refresh()

    def refresh(self) -> None:
        """List the folders again."""
        self._listed = {
            folder: {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]() for folder in self.folders
        }

    def __len__(self) -> int:
        """Return the number of files of a complete set."""
        return len(self.images) * (len(self.images.camids) - 1)

    def path(self, index: int, label: int) -> Path:
        """Return the file of image ``index`` in the style of the camera with ``label``."""
        image, _, camid, *_ = self.images.items[index]
        folder = self._folder_of[Path(image).parent]
        return folder / camstyle_name(image, camid, self.images.camids[label], self.msmt17)

    def of(self, index: int) -> Iterator[tuple[int, Path]]:
        """Yield label and file of every other camera for image ``index``."""
        own = self.images.label(index)
        for label in range(len(self.images.camids)):
            if label != own:
                yield label, self.path(index, label)

    def has(self, path: Path) -> bool:
        """Return whether a file existed when this list was made."""
        return path.name in self._listed[path.parent]

    def present(self) -> list[Path]:
        """Return the files of the set that existed when this list was made."""
        if not any(self._listed.values()):
            return []
        return [path for index in range(len(self.images)) for _, path in self.of(index) if self.has(path)]

    def remove(self) -> None:
        """Remove the files of the set and their :data:`MARKER`; no other files."""
        for folder in self.folders:
            (folder / MARKER).unlink(missing_ok=True)
        for path in self.present():
            path.unlink(missing_ok=True)
            self._listed[path.parent].discard(path.name)


def generate(
    generator: nn.Module,
    images: CameraImages,
    files: CamStyleFiles,
    origin: dict[str, Any],
    device: torch.device,
    batch_size: int = 16,
    workers: int = 0,
    overwrite: bool = False,
) -> int:
    """Write every image in the style of every other camera, and return the number of new files.

    The files have the size at which the generator was trained. ECN resizes the
    images to that size anyway; a file of the stored size (half of it on
    Market-1501) would be blurred once more. A file gets its name when it is
    complete. After an interruption the same call goes on and makes the same files.
    The generator computes in float32, also after a training in bfloat16.

    Args:
        generator: maps (images, labels) to images.
        images: of the size at which the generator was trained.
        files: of the same images.
        origin: description of the network, for :data:`MARKER`. A folder with files of another network is refused.
        device: of the generator.
        batch_size: images at once.
        workers: processes that load images.
        overwrite: remove the existing files first.

    Raises:
        InputError: a folder holds images of another network, another process writes
            into it, an image is broken, or a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for folder in files.folders:
            stack.enter_context(_owned(folder))
        files.refresh()
        return _generate(generator, images, files, origin, device, batch_size, workers, overwrite)


def _generate(
    generator: nn.Module, images: CameraImages, files: CamStyleFiles, origin: dict[str, Any], device: torch.device,
    batch_size: int, workers: int, overwrite: bool,
) -> int:
    for folder in files.folders:
        if folder.is_dir():
            remove_leftovers(folder)
    if overwrite:
        files.remove()
    origin = {**origin, "generator": weights_digest(generator)}
    _refuse_others(files, origin)
    for folder in files.folders:
        write_json(folder / MARKER, origin)
    # Always the whole batch, even where some of its files exist: convolutions may round differently in a smaller batch,
    # and a resumed call would write other files.
    batches = [
        batch for batch in torch.split(torch.arange(len(images)), batch_size)
        if any(not files.has(path) for index in batch.tolist() for _, path in files.of(index))
    ]
    loader = cast(Iterable[tuple[torch.Tensor, torch.Tensor]], ImageLoader(
        images, batch_sampler=[batch.tolist() for batch in batches], num_workers=workers,
        pin_memory=device.type == "cuda",
    ))
    written = 0
    bar = tqdm(total=len(batches), desc="camera styles", unit="batch", disable=None, leave=False)
    # The end of the pool waits for the files in work, so that Ctrl-C leaves no temporary files.
    with bar, ThreadPoolExecutor(_WRITERS) as pool, torch.no_grad():
        for indices, (batch, _) in zip(batches, loader):
            wanted: dict[int, list[tuple[int, Path]]] = {}
            for place, index in enumerate(indices.tolist()):
                for label, path in files.of(index):
                    if not files.has(path):
                        wanted.setdefault(label, []).append((place, path))
            batch = batch.to(device, non_blocking=True)
            for label, places in wanted.items():
                fakes = generator(batch, torch.full((len(batch),), label, device=device)).cpu()
                written += sum(1 for _ in pool.map(_save, ((to_pillow(fakes[place]), path) for place, path in places)))
            bar.update()
    return written


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers; equal tensors give equal digests.

    >>> weights_digest(nn.ReLU())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Own a folder of camera-style images inside the block: images of two networks would mix."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f'another process writes camera-style images into "{folder}"; wait for its end') from error
    except OSError as error:
        _LOG.warning('the file system of "%s" knows no locks (%s); start no second process that writes there', folder, error)
    try:
        yield
    finally:
        lock.release()


def _refuse_others(files: CamStyleFiles, origin: dict[str, Any]) -> None:
    for folder in files.folders:
        marker = folder / MARKER
        found = read_json(marker) if marker.exists() else {}
        if isinstance(found, dict) and found.get("generator") == origin["generator"]:
            continue
        others = sum(path.parent == folder for path in files.present())
        if others:
            raise InputError(
                f'"{folder}" holds {others:,} camera-style images of another network or source; '
                "add --overwrite to replace them, or move the folder away"
            )


def _save(pair: tuple[Image.Image, Path]) -> None:
    picture, path = pair
    with atomic_path(path) as temporary:
        # Full resolution of colour: it is what the cameras differ in.
        picture.save(temporary, quality=95, subsampling=0)
