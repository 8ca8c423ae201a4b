"""Checkpoints that others made: the authors' layouts, converted on loading."""
from __future__ import annotations

__all__ = [
    "checkpoint_num_classes", "classifier_size", "load_authors_checkpoint", "load_weights", "read_weights",
    "resolve_weights",
]

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.files import load_checkpoint
from torchreid_nas.hub.entry import ZOO_PREFIX
from torchreid_nas.hub.store import fetch
from torchreid_nas.models import CDNet, TwoStreamNetwork, cdnet_weights, two_stream_weights
from torchreid_nas.run.folder import RunFolder

_SHAPE_HINTS = {
    "classifier.weight": "; build the model with that number of identities",
    "stem.conv1.op.0.weight": "; the authors' networks for CIFAR have small_images=True",
}
_WEIGHTS = ("model", "ema")
_WEIGHTS_OF_A_RUN = RunFolder(Path()).train.weights.as_posix()
# Of what a stage keeps for --resume; no file of weights has them all.
_STATE = {"optimizer", "scheduler", "best_epoch", "stopped"}


def resolve_weights(spec: str | os.PathLike[str]) -> Path:
    """Return the file that ``spec`` means: a path, or ``zoo:NAME``, which is downloaded if it is not here yet.

    Raises:
        InputError: an entry that the zoo does not have, or whose file cannot be had.
    """
    if not str(spec).startswith(ZOO_PREFIX):
        return Path(spec)
    return fetch(str(spec).removeprefix(ZOO_PREFIX))


def read_weights(path: str | os.PathLike[str]) -> Any:
    """Return what a file of weights holds, in any layout.

    Raises:
        InputError: see :func:`torchreid_nas.files.load_checkpoint`, or the file is what ``--resume`` goes on from.
    """
    if Path(path).is_dir():
        raise InputError(f'the checkpoint "{path}" is a folder, expected a file; of a run take its {_WEIGHTS_OF_A_RUN}')
    content = load_checkpoint(path)
    if isinstance(content, Mapping) and set(content) >= _STATE:
        # Beside it, or beside the search's, whose own model.pth is of the supernet.
        weights = RunFolder(Path(path).parent.parent).train.weights
        named = f'"{weights}"' if weights.exists() else f"the {_WEIGHTS_OF_A_RUN} that a run has once it is trained"
        raise InputError(f'the checkpoint "{path}" is the state that --resume goes on from, not weights; name {named}')
    return content


def checkpoint_num_classes(path: str | os.PathLike[str]) -> int:
    """Return the number of identities of a checkpoint's classifier, of either format.

    Args:
        path: a file, or ``zoo:NAME``.

    Raises:
        InputError: truncated file, or no classifier in it.
    """
    path = resolve_weights(path)
    content = load_checkpoint(path)
    for entry in ("state_dict", *_WEIGHTS):
        # An empty one gives way to the next, as in load_authors_checkpoint.
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping) and content[entry]:
            content = content[entry]
    return classifier_size(content if isinstance(content, Mapping) else {}, path)


def classifier_size(state: Mapping[Any, Any], path: str | os.PathLike[str]) -> int:
    """Return the number of identities of the classifier in a state dict, read from ``path``.

    Raises:
        InputError: there is none.
    """
    for key, value in state.items():
        if "classifier" in str(key) and isinstance(value, torch.Tensor) and value.ndim == 2:
            return value.shape[0]
    raise InputError(f'the checkpoint "{path}" has no classifier; expected the weights of a re-ID network')


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load weights of this package's, torchreid's or the authors' format into ``model``.

    A plain state dict, as those of torchreid's model zoo, is read for networks
    that no authors' layout is known for. A classifier for another number of
    identities is left as it is: it takes no part in retrieval.

    Args:
        model: any network of this package, or of torchreid.
        path: a file, or ``zoo:NAME``.

    Raises:
        InputError: truncated file or checkpoint of another model, which is then unchanged.
    """
    path = resolve_weights(path)
    content = read_weights(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    elif isinstance(model, (CDNet, TwoStreamNetwork)):
        return load_authors_checkpoint(model, path)
    if not (isinstance(content, Mapping) and all(isinstance(value, torch.Tensor) for value in content.values())):
        raise InputError(f'the checkpoint "{path}" holds no state dict; expected weights of {type(model).__name__}')
    given, own = {str(key).removeprefix("module."): value for key, value in content.items()}, model.state_dict()
    for key, value in own.items():
        fits = key in given and given[key].shape == value.shape
        # Files of PyTorch before 0.4.1 have no step counters, which eval mode does not ask for.
        uncounted = key not in given and key.endswith("num_batches_tracked")
        # torchreid's HACNN and PCB have several: classifier_global, classifier.0.
        if uncounted or not fits and "classifier" in key:
            given[key] = value
        elif not fits:
            what = f"{tuple(given[key].shape)}, expected {tuple(value.shape)}" if key in given else "missing"
            raise InputError(
                f'the checkpoint "{path}" is of another model: "{key}" is {what}; build the model and architecture '
                "that it was trained with"
            )
    extra = set(given) - set(own)
    if extra:
        raise InputError(f'the checkpoint "{path}" is of another model: it also has "{min(extra)}", which this one lacks')
    model.load_state_dict(given)
    return model


def load_authors_checkpoint(
    model: TwoStreamNetwork | CDNet, source: str | os.PathLike[str] | Mapping[str, Any], weights: str = "model",
) -> TwoStreamNetwork | CDNet:
    """Load a checkpoint of github.com/JDAI-CV/CM-NAS or of github.com/solicucu/models.

    The CM-NAS authors store three BatchNorms for every slot, used or not; those
    that the model's architecture needs are taken. The CDNet authors' files for
    Market-1501, DukeMTMC-reID, MSMT17 and CIFAR belong to a model with
    ``neck="fblneck"`` (CIFAR also ``small_images=True``), those for ImageNet to
    one with ``neck="blneck"``. ``module.`` prefixes are dropped.

    Args:
        model: a two-stream ResNet or a CDNet, built with the checkpoint's architecture.
        source: a file, or what it holds: a state dict, or the CM-NAS authors'
            dict with ``model`` and ``ema``.
        weights: which of the two to take, ``"model"`` (what the authors' scripts
            test) or ``"ema"``; an empty one gives way to the other.

    Returns:
        ``model`` itself.

    Raises:
        InputError: truncated file, checkpoint of another network, other number
            of classes, other ``weights``, or a model that neither has a layout
            for. The model is then unchanged.
    """
    name = f'the checkpoint "{source}"' if isinstance(source, (str, os.PathLike)) else "the checkpoint"
    content = read_weights(source) if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(content, Mapping):
        raise InputError(f"{name} holds no dictionary; expected a state dict or the authors' dict with `model`")
    if weights not in _WEIGHTS:
        raise InputError(
            f'the weights "{weights}" are unknown, expected one of {", ".join(_WEIGHTS)}{nearest(weights, _WEIGHTS)}'
        )
    if isinstance(content.get("model"), Mapping):
        content = content.get(weights) or content["model"] or content.get("ema") or {}
    given = {str(key).removeprefix("module."): value for key, value in content.items()}
    if isinstance(model, CDNet):
        given = cdnet_weights.rename_neck(given)
        keys, unused = cdnet_weights.authors_keys(model), cdnet_weights.authors_counters(model)
        layout = f"a CDNet of this architecture with {type(model.neck).__name__} in the layout of the CDNet authors"
    elif isinstance(model, TwoStreamNetwork):
        keys, unused = two_stream_weights.authors_keys(model), two_stream_weights.unused_keys(model)
        layout = f"a {type(model.backbone).__name__} in the layout of the CM-NAS authors"
    else:
        raise InputError(
            f"no authors' layout is known for {type(model).__name__}, only for two-stream ResNets and CDNets"
        )
    state = model.state_dict()
    for own, theirs in keys.items():
        value = given.get(theirs)
        if not isinstance(value, torch.Tensor):
            raise InputError(f'{name} has no "{theirs}"; expected {layout}')
        if value.shape != state[own].shape:
            hint = next((hint for suffix, hint in _SHAPE_HINTS.items() if theirs.endswith(suffix)), "")
            raise InputError(
                f'{name}: "{theirs}" has shape {tuple(value.shape)}, the model expects {tuple(state[own].shape)}{hint}'
            )
        state[own] = value
    extra = set(given) - set(keys.values()) - unused
    if extra:
        raise InputError(f'{name} also has "{min(extra)}", which this model lacks; it is of another network')
    model.load_state_dict(state)
    return model
