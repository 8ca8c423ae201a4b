"""A trained network with all that its images need: from a run's folder, from the zoo, or from a module at hand."""
from __future__ import annotations

__all__ = ["TrainedModel", "load_trained", "wrap_model"]

import copy
import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from torchreid_nas.checkpoints.load import checkpoint_num_classes, load_weights
from torchreid_nas.config import load_config
from torchreid_nas.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from torchreid_nas.deploy.fold import select_modality
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.hub.catalogue import find_entry
from torchreid_nas.hub.entry import ZOO_PREFIX
from torchreid_nas.layers import MODALITIES, SplitBatchNorm2d, modality_context
from torchreid_nas.methods import make_task
from torchreid_nas.models import TwoStreamNetwork
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.zoo.networks import build


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with its weights, and how images are prepared for it.

    Attributes:
        name: the run's folder, ``zoo:NAME``, or a class; the first two load it again.
        model: in eval mode, on the CPU, not deployed.
        height, width: of the network's input, in pixels.
        norm_mean, norm_std: of the RGB channels, in [0, 1].
        modalities: ``("visible", "infrared")`` for two-stream networks, empty for all others.
        feature_dim: D of the features (B, D).
    """

    name: str
    model: nn.Module
    height: int
    width: int
    norm_mean: tuple[float, ...]
    norm_std: tuple[float, ...]
    modalities: tuple[str, ...]
    feature_dim: int

    @functools.cached_property
    def fingerprint(self) -> str:
        """What features of two models that compare have in common: a SHA-256 of weights and preparation, whatever the name.

        Classifiers are left out: they take no part in features, and torchreid's loader may leave them as they fell.
        """
        digest = hashlib.sha256(repr((self.height, self.width, self.norm_mean, self.norm_std)).encode())
        for key, value in sorted(self.model.state_dict().items()):
            if "classifier" not in key:
                digest.update(key.encode())
                digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def network(self, modality: str | None = None) -> nn.Module:
        """Return the plain test-time network of one modality: (B, 3, height, width) -> (B, ``feature_dim``).

        BatchNorms are folded and the classifier is gone where the model has a
        ``deploy`` method; other models are used as they are. No two calls share tensors.

        Args:
            modality: ``"visible"`` or ``"infrared"``; None for models of one
                modality, and for two-stream ones that split nothing.

        Raises:
            InputError: see :meth:`check_modality`.
        """
        self.check_modality(modality)
        if hasattr(self.model, "deploy"):
            return self.model.deploy(modality)
        return select_modality(self.model, modality) if modality else copy.deepcopy(self.model)

    def check_modality(self, modality: str | None, option: str = "modality") -> None:
        """Raise InputError for a modality that the model does not have, or for none where it must be known.

        Args:
            modality: as :meth:`network` takes it.
            option: what the user sets it by, for the sentence.
        """
        if modality is None and _is_split(self.model):
            raise InputError(
                f'the model "{self.name}" has one network per modality; say by {option} what the images are: '
                f"{' or '.join(self.modalities)}"
            )
        if modality is not None and not self.modalities:
            raise InputError(
                f'the model "{self.name}" has one network for all images, none of its own for the modality '
                f'"{modality}"; leave the modality out, or take a two-stream model'
            )
        if modality is not None and modality not in self.modalities:
            raise InputError(
                f'the modality "{modality}" is unknown to the model "{self.name}", expected '
                f"{' or '.join(self.modalities)}{nearest(modality, self.modalities)}"
            )


def load_trained(spec: str | os.PathLike) -> TrainedModel:
    """Return a trained model by the folder of its run or its name in the zoo.

    Args:
        spec: a run's folder, whose train stage is finished (see
            :mod:`torchreid_nas.run.folder`), or a name of the zoo. Where both
            exist the folder is taken; ``zoo:NAME`` asks for the other.

    Raises:
        InputError: neither exists, the run is not trained, or its files are broken.
    """
    name = os.fspath(spec)
    folder = Path(name).expanduser()
    if not name.startswith(ZOO_PREFIX) and folder.is_dir():
        return _from_run(folder, os.path.normpath(name))
    if not name.startswith(ZOO_PREFIX) and folder.is_file():
        raise InputError(
            f'the model "{name}" is a file; expected the folder of the run that it belongs to, which also holds '
            "config.yaml, or a name of the zoo"
        )
    return _from_zoo(name.removeprefix(ZOO_PREFIX), name)


def wrap_model(
    model: nn.Module, height: int = 256, width: int = 128, norm_mean: Sequence[float] = IMAGENET_MEAN,
    norm_std: Sequence[float] = IMAGENET_STD, name: str | None = None,
) -> TrainedModel:
    """Return a copy of a module at hand as a TrainedModel; the module stays as it is.

    Args:
        model: maps (B, 3, height, width) to features (B, D) in eval mode.
        height, width: of its input, in pixels.
        norm_mean, norm_std: of the RGB channels; default ImageNet's, as torchreid's.
        name: default the name of its class.

    Raises:
        InputError: in eval mode the model does not give features of shape (B, D).
    """
    model = copy.deepcopy(model).cpu().eval()
    name = name or type(model).__name__
    two_stream = isinstance(model, TwoStreamNetwork) or _is_split(model)
    return TrainedModel(
        name, model, height, width, tuple(norm_mean), tuple(norm_std), MODALITIES if two_stream else (),
        _feature_dim(model, height, width, name),
    )


def _from_run(folder: Path, name: str) -> TrainedModel:
    run = RunFolder(folder)
    weights = run.train.weights
    for path in (run.config, weights):
        if not path.is_file():
            trials = run.trials()
            hint = (
                f"it holds several trials, name one of them: {trials[0]}" if trials
                else "name the folder of a run whose train stage is finished, or a model of the zoo"
            )
            raise InputError(f'the run "{name}" has no {path.relative_to(folder)}; {hint}')
    cfg = load_config(run.config)
    task = make_task(cfg, torch.device("cpu"))
    architecture = run.kept_architecture(cfg.model.architecture)
    model = task.build_model(checkpoint_num_classes(weights), architecture, pretrained=False)
    load_weights(model, weights)
    return wrap_model(model, cfg.data.height, cfg.data.width, cfg.data.norm_mean, cfg.data.norm_std, name)


def _from_zoo(entry_name: str, name: str) -> TrainedModel:
    try:
        entry = find_entry(entry_name)
    except InputError as error:
        if name.startswith(ZOO_PREFIX):
            raise
        raise InputError(f'there is no folder "{name}" of a run, and {error}') from error
    return wrap_model(
        build(entry), entry.height, entry.width, entry.norm_mean, entry.norm_std, f"{ZOO_PREFIX}{entry.name}"
    )


def _is_split(model: nn.Module) -> bool:
    return any(isinstance(module, SplitBatchNorm2d) for module in model.modules())


@torch.no_grad()
def _feature_dim(model: nn.Module, height: int, width: int, name: str) -> int:
    # Attributes named feature_dim do not always tell: torchreid's PCB gives several times that many features.
    with modality_context(MODALITIES[0]):
        features = model(torch.zeros(1, 3, height, width))
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        what = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise InputError(
            f'the model "{name}" answers {height}x{width} images with {what} in eval mode, expected features of shape '
            "(images, features); pass a re-identification network"
        )
    return features.shape[1]
