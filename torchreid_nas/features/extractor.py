"""From images to normalised features with a trained model, in batches of its test-time form."""
from __future__ import annotations

__all__ = ["FeatureExtractor", "UnreadableWarning"]

import dataclasses
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from torchreid_nas.checkpoints.trained import TrainedModel, wrap_model
from torchreid_nas.data.transforms import build_cross_modality_transforms
from torchreid_nas.deploy.optimize import images_at_once, optimize_network
from torchreid_nas.device import find_device
from torchreid_nas.errors import InputError, InputWarning
from torchreid_nas.features.feature_set import FeatureSet, check_npz
from torchreid_nas.features.images import Picture, Source
from torchreid_nas.zoo.trained import load_trained

if TYPE_CHECKING:
    from torchreid_nas.features.matching import Matches
    from torchreid_nas.index import GalleryIndex

_NAMED = 20
"""Files that a warning names at most."""


class UnreadableWarning(InputWarning):
    """Some images of a source could not be read and were skipped."""


class FeatureExtractor:
    """Features of images: ``extractor = FeatureExtractor("runs/demo", "infrared"); extractor("photos/")``.

    >>> pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> FeatureExtractor(pooled, device="cpu")([np.full((16, 8, 3), 200, np.uint8)] * 2).shape
    torch.Size([2, 3])

    Args:
        model: the folder of a run, a name of the zoo, a TrainedModel, or a module.
        modality: ``"visible"`` or ``"infrared"`` for two-stream models, else None.
        device: default a GPU where there is one.
        batch_size: images at once.
        normalize: features of length 1.
        progress: show a bar, on terminals only.
        height: of the network's input in pixels; default what the model was trained with, for a module 256.
        width: likewise; for a module 128.
        norm_mean: of the RGB channels in [0, 1]; default what the model was trained with, for a module ImageNet's.
        norm_std: likewise.
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``, bfloat16 where the
            hardware computes it. The default is exact: a file of features and a
            threshold found on it outlive the machine that made them.
        compile: with torch.compile, worth its 5 to 60 s from a few hundred images on.

    Raises:
        InputError: the model, its modality, the device or the precision cannot be had, or a batch size below 1.
    """

    def __init__(
        self, model: str | os.PathLike[str] | TrainedModel | nn.Module, modality: str | None = None,
        device: str | torch.device | None = None, batch_size: int = 32, normalize: bool = True, progress: bool = True,
        *, height: int | None = None, width: int | None = None, norm_mean: Sequence[float] | None = None,
        norm_std: Sequence[float] | None = None, precision: str = "fp32", compile: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}, expected at least 1")
        preparation = {"height": height, "width": width, "norm_mean": norm_mean, "norm_std": norm_std}
        given: dict[str, Any] = {key: value for key, value in preparation.items() if value is not None}
        self.device = find_device(device)
        if isinstance(model, nn.Module):
            model = wrap_model(model, **given)
        else:
            model = dataclasses.replace(model if isinstance(model, TrainedModel) else load_trained(model), **given)
        self.trained = model
        self.modality, self.batch_size, self.normalize, self.progress = modality, batch_size, normalize, progress
        self.network = optimize_network(
            model.network(modality), precision, compile, self.device, images_at_once(batch_size),
            (model.height, model.width),
        )
        self._transform = build_cross_modality_transforms(
            model.height, model.width, None, model.norm_mean, model.norm_std, model.interpolation
        )[1]

    @property
    def feature_dim(self) -> int:
        """Length of a feature."""
        return self.trained.feature_dim

    def __call__(self, source: Any, stride: int = 1, boxes: str | os.PathLike[str] | None = None) -> torch.Tensor:
        """Return the features of a source, (N, D) float32 on the CPU; see :meth:`extract`."""
        return self.extract(source, stride, boxes).features

    def extract(self, source: Any, stride: int = 1, boxes: str | os.PathLike[str] | None = None) -> FeatureSet:
        """Return the features of a source with paths and labels.

        Images that cannot be read are left out, so that N may be below the
        number of the images given; ``paths`` says which images are there, and one
        UnreadableWarning at the end names the others. An InputWarning names
        files of other kinds, and images wider than high, which are no persons.

        Args:
            source: paths of images, videos and folders, arrays, PIL images; see :class:`Source`.
            stride: of the frames of videos.
            boxes: a file that says where persons are on images of whole scenes; see :class:`Source`.

        Raises:
            InputError: what :class:`Source` refuses, no image can be read, or features are not finite.
        """
        return FeatureSet.concatenate(list(self.batches(source, stride, boxes)))

    def extract_to(
        self, source: Any, out: str | os.PathLike[str], stride: int = 1, boxes: str | os.PathLike[str] | None = None,
    ) -> FeatureSet:
        """Extract and save as ``.npz``; see :meth:`FeatureSet.save`. Returns the features.

        Raises:
            InputError: as :meth:`extract`, or the file cannot be written.
        """
        check_npz(out)
        features = self.extract(source, stride, boxes)
        features.save(out)
        return features

    def search(self, source: Any, index: GalleryIndex, top: int = 10, stride: int = 1) -> Matches:
        """Return the ``top`` nearest images of an index for each image of a source.

        Args:
            source: see :meth:`extract`.
            index: see :class:`torchreid_nas.index.GalleryIndex`.
            top: length of the lists.
            stride: of the frames of videos.

        Raises:
            InputError: as :meth:`extract`, or the index is of another model.
        """
        return index.search(self.extract(source, stride), top)

    def batches(
        self, source: Any, stride: int = 1, boxes: str | os.PathLike[str] | None = None,
    ) -> Iterator[FeatureSet]:
        """Yield what :meth:`extract` returns batch by batch, for sources of any length."""
        source = Source(source, stride, boxes)
        unreadable: list[Picture] = []
        wide: list[str] = []
        batch: list[Picture] = []
        tensors: list[torch.Tensor] = []
        found = False
        # disable=None: no bar where stderr is no terminal.
        with tqdm(total=len(source), unit="image", leave=False, disable=None if self.progress else True) as bar:
            for picture in source:
                bar.update()
                if picture.image is None:
                    unreadable.append(picture)
                    continue
                wide += [picture.name] if picture.image.width > picture.image.height else []
                tensors.append(self._transform(picture.image))
                batch.append(dataclasses.replace(picture, image=None))
                if len(batch) == self.batch_size:
                    found = True
                    yield self._features(batch, tensors)
                    batch, tensors = [], []
        if batch:
            yield self._features(batch, tensors)
        elif not found:
            raise InputError(_nothing(unreadable))
        if unreadable:
            warnings.warn(
                f"{len(unreadable)} of the files could not be read and were skipped: "
                f"{_listed([picture.name for picture in unreadable])}; of the first: {unreadable[0].problem}",
                UnreadableWarning, stacklevel=2,
            )
        if source.left_out:
            warnings.warn(
                f"{len(source.left_out)} files are neither images nor videos and were left out: {_listed(source.left_out)}",
                InputWarning, stacklevel=2,
            )
        if wide and boxes is None:
            warnings.warn(
                f"{len(wide)} images are wider than high, the first: {wide[0]}; the network expects one upright person on each; "
                "cut the persons out of whole scenes, as --boxes FILE (boxes=FILE) does",
                InputWarning, stacklevel=2,
            )

    @torch.no_grad()
    def _features(self, batch: Sequence[Picture], tensors: list[torch.Tensor]) -> FeatureSet:
        images = torch.stack(tensors).to(self.device, memory_format=torch.channels_last)
        features = self.network(images).cpu()
        bad = ~features.isfinite().all(dim=1)
        if bad.any():
            name = batch[int(bad.nonzero()[0])].name
            raise InputError(
                f'the model "{self.trained.name}" gives features that are not finite for "{name}"; '
                "its training has diverged, or its weights are damaged"
            )
        if self.normalize:
            features = F.normalize(features)
        return FeatureSet(
            features, tuple(picture.name for picture in batch),
            tuple(picture.label.identity for picture in batch),
            np.array([picture.label.camid for picture in batch], dtype=np.int64), self.trained.name,
            self.modality or "", self.trained.fingerprint, tuple(picture.file for picture in batch),
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _nothing(unreadable: Sequence[Picture]) -> str:
    first = unreadable[0].problem
    if len(unreadable) == 1:
        return first
    return f"none of the {len(unreadable)} files can be read, the first: {first}"
