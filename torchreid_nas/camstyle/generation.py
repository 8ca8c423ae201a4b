"""Writing every training image in the style of every other camera, one whole file after the other."""
from __future__ import annotations

__all__ = ["MARKER", "CamStyleFiles", "generate", "weights_digest"]

import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from torchreid_nas.camstyle.images import CameraImages, to_pillow
from torchreid_nas.data.camstyle.names import camstyle_folder, camstyle_name, shared_camstyle_file
from torchreid_nas.data.manager import ImageLoader
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path, read_json, remove_leftovers, write_json

MARKER = "camstyle.json"
"""Beside the images: which network they are of."""

_WRITERS = 8


class CamStyleFiles:
    """The files that a data set's camera-style images go to, and which of them are there.

    Args:
        images: the training images.
        msmt17: names as MSMT17 has them.

    Attributes:
        folders: where they lie; one, unless the training part has several.

    Raises:
        InputError: two images would share a file.
    """

    def __init__(self, images: CameraImages, msmt17: bool = False):
        self.images, self.msmt17 = images, msmt17
        parents = {os.path.dirname(item[0]): camstyle_folder(item[0]) for item in images.items}
        self._parents = parents
        self.folders = sorted(set(parents.values()))
        shared = shared_camstyle_file(images.items, msmt17)
        if shared:
            folder, stem, count = shared
            raise InputError(
                f'{count} training images are named "{stem}", so that their camera-style images would share a file in '
                f'"{folder}"; use a data set whose names differ, such as market1501, dukemtmcreid or msmt17'
            )
        self._listed = {folder: set(os.listdir(folder)) if folder.is_dir() else set() for folder in self.folders}

    def __len__(self) -> int:
        """Return how many files a complete set has."""
        return len(self.images) * (len(self.images.camids) - 1)

    def path(self, index: int, label: int) -> Path:
        """Return the file of an image in the style of a camera's label."""
        image, _, camid, *_ = self.images.items[index]
        folder = self._parents[os.path.dirname(image)]
        return folder / camstyle_name(image, camid, self.images.camids[label], self.msmt17)

    def of(self, index: int) -> Iterator[tuple[int, Path]]:
        """Yield label and file of every other camera for an image."""
        own = self.images.label(index)
        for label in range(len(self.images.camids)):
            if label != own:
                yield label, self.path(index, label)

    def has(self, path: Path) -> bool:
        """Return whether a file was there when this was made."""
        return path.name in self._listed[path.parent]

    def present(self) -> list[Path]:
        """Return the files of the set that were there."""
        if not any(self._listed.values()):
            return []
        return [path for index in range(len(self.images)) for _, path in self.of(index) if self.has(path)]

    def remove(self) -> None:
        """Remove the files of the set that are there, and what says whose they are; no others."""
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
    """Write every image in the style of every other camera; returns how many files were new.

    Files have the size that the generator was trained at: ECN resizes what it
    reads to that size anyway, whereas going back to the stored size (half of
    it on Market-1501) would blur once more. Each appears under its name when
    it is complete, and the same call goes on after an interruption, to the
    same files. In float32 whatever training ran in.

    Args:
        generator: (images, labels) to images.
        images: of the size that it was trained at.
        files: made for the same images.
        origin: of the network, for :data:`MARKER`; files of another one are not added to.
        device: of the generator.
        batch_size: images at once.
        workers: processes that load images.
        overwrite: replace files that are there, removing them first.

    Raises:
        InputError: images of another network are there, an image is broken, or
            a file cannot be written.
    """
    for folder in files.folders:
        if folder.is_dir():
            remove_leftovers(folder)
    if overwrite:
        files.remove()
    origin = {**origin, "generator": weights_digest(generator)}
    _refuse_others(files, origin)
    for folder in files.folders:
        write_json(folder / MARKER, origin)
    # Always the whole batch, though some of its files may be there: convolutions may round otherwise in a smaller one,
    # and what a resumed call writes would differ.
    batches = [
        batch for batch in torch.arange(len(images)).split(batch_size)
        if any(not files.has(path) for index in batch.tolist() for _, path in files.of(index))
    ]
    loader = ImageLoader(
        images, batch_sampler=[batch.tolist() for batch in batches], num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    written = 0
    bar = tqdm(total=len(batches), desc="camera styles", unit="batch", disable=not sys.stderr.isatty(), leave=False)
    # Leaving the pool waits for the files that are begun, so that Ctrl-C leaves no temporary ones.
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
    """Return the SHA-256 of a module's parameters and buffers, equal where they are."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
