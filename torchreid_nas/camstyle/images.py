"""The images that a StarGAN learns from: the training part of a data set, its cameras, and the order of the images."""
from __future__ import annotations

__all__ = ["CameraImages", "ImageStream", "derived_generator", "load_camera_images", "to_pillow", "to_tensor"]

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import functional as TF

from torchreid_nas.data.dataset import Item, read_image
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.errors import InputError


class CameraImages(Dataset[tuple[torch.Tensor, int]]):
    """Images with the label of their camera: ``self[i]`` is ((3, H, W) float32 in [-1, 1], label).

    Labels count the cameras of the images, so that gaps in the numbers of a data
    set cost nothing. The images are in the order of their paths, on every file
    system.

    Args:
        items: torchreid's (path, pid, camid, …).
        height: of the resized images, in pixels.
        width: of the resized images, in pixels.

    Attributes:
        items: the items, sorted.
        camids: cameras of the labels 0, 1, …, ascending, 0-based as in torchreid.

    Raises:
        InputError: fewer than two cameras.
    """

    def __init__(self, items: Sequence[Item], height: int, width: int) -> None:
        self.items = sorted(items)
        self.height, self.width = height, width
        self.camids = tuple(sorted({item[2] for item in items}))
        if len(self.camids) < 2:
            raise InputError(
                f"the training part has images of {len(self.camids)} camera, expected at least 2: a style comes from "
                "another camera; use a data set of several cameras"
            )
        self._labels = {camid: label for label, camid in enumerate(self.camids)}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return image and label.

        Raises:
            InputError: the image is missing or broken.
        """
        return to_tensor(read_image(self.items[index][0]), self.height, self.width), self.label(index)

    def label(self, index: int) -> int:
        """Return the label of an image without reading it."""
        return self._labels[self.items[index][2]]


class ImageStream(Dataset[tuple[torch.Tensor, int]]):
    """An endless shuffled stream of the images, half of them mirrored; a function of the seed alone.

    The stream is one permutation of the images after the other, and
    ``self[position]`` is the image at ``position``. A resumed training reads the
    same images from its position on, without a stored random state.

    Args:
        images: the images of the stream.
        seed: of permutations and mirroring.
    """

    def __init__(self, images: CameraImages, seed: int) -> None:
        self.images, self.seed = images, seed
        self._epoch, self._order, self._mirrored = -1, torch.empty(0), torch.empty(0)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        """Return image and label at any position from 0.

        Raises:
            InputError: the image is missing or broken.
        """
        epoch, place = divmod(position, len(self.images))
        if epoch != self._epoch:
            generator = derived_generator(self.seed, 0, epoch)
            self._order = torch.randperm(len(self.images), generator=generator)
            self._mirrored = torch.rand(len(self.images), generator=generator) < 0.5
            self._epoch = epoch
        image, label = self.images[int(self._order[place])]
        return image.flip(-1) if self._mirrored[place] else image, label


def derived_generator(seed: int, *parts: int) -> torch.Generator:
    """Return a CPU generator seeded by ``seed`` and further numbers, all at least 0.

    >>> derived_generator(1, 2).initial_seed() == derived_generator(1, 2).initial_seed() != derived_generator(1, 3).initial_seed()
    True
    """
    state = np.random.SeedSequence((seed, *parts)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def load_camera_images(name: str, root: str | os.PathLike, height: int, width: int) -> CameraImages:
    """Return the training part of a data set of torchreid's registry, of MSMT17 with ``list_val``, as ECN takes it.

    Raises:
        InputError: unknown name, missing or broken data, fewer than two cameras.
    """
    dataset = load_dataset(name, {"root": str(root)})
    try:
        return CameraImages(dataset.whole_training().train, height, width)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def to_tensor(image: Image.Image, height: int, width: int) -> torch.Tensor:
    """Return an RGB image, resized, as (3, ``height``, ``width``) float32 in [-1, 1].

    >>> to_tensor(Image.new("RGB", (2, 2), (255, 0, 51)), height=1, width=1).flatten()
    tensor([ 1.0000, -1.0000, -0.6000])
    """
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels: torch.Tensor = TF.pil_to_tensor(image)
    return pixels.float() / 127.5 - 1


def to_pillow(image: torch.Tensor) -> Image.Image:
    """Return a (3, H, W) tensor in [-1, 1], on any device, as an RGB image.

    >>> to_pillow(torch.tensor([1.0, -1.0, -0.6]).view(3, 1, 1)).getpixel((0, 0))
    (255, 0, 51)
    """
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
