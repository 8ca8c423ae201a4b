"""Weights of any maker, loaded into a network: ours, torchreid's, torchvision's, and the authors' layouts."""
from __future__ import annotations

__all__ = [
    "checkpoint_num_classes", "classifier_size", "is_of_authors", "load_authors_checkpoint", "load_weights", "read_weights",
    "resolve_weights",
]

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.files import load_checkpoint
from torchreid_nas.hub.entry import ZOO_PREFIX
from torchreid_nas.hub.store import fetch
from torchreid_nas.models import AGWBackbone, CDNet, TwoStreamNetwork, agw_weights, cdnet_weights, two_stream_weights
from torchreid_nas.models.torchvision_weights import in_torchreids_layout
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.state_dicts import COUNTER, find_state

_SHAPE_HINTS = {
    "classifier.weight": "; build the model with that number of identities",
    "stem.conv1.op.0.weight": "; the authors' networks for CIFAR have small_images=True",
}
_WEIGHTS = ("model", "ema")
_WEIGHTS_OF_A_RUN = RunFolder(Path()).train.weights.as_posix()
# Entries of the file that a stage keeps for --resume; no file of weights has all of them.
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
    if os.path.isdir(path):  # noqa: PTH112  # Path raises for names that no file system takes
        raise InputError(f'the checkpoint "{path}" is a folder, expected a file; of a run take its {_WEIGHTS_OF_A_RUN}')
    content = load_checkpoint(path)
    if isinstance(content, Mapping) and set(content) >= _STATE:
        # The model.pth of the search stage holds the supernet; the weights are in the train stage.
        weights = RunFolder(Path(path).parent.parent).train.weights
        named = f'"{weights}"' if weights.exists() else f"the {_WEIGHTS_OF_A_RUN} that a run has once it is trained"
        raise InputError(f'the checkpoint "{path}" is the state that --resume goes on from, not weights; name {named}')
    return content


def checkpoint_num_classes(path: str | os.PathLike[str]) -> int | None:
    """Return the number of identities of a checkpoint's classifier, of any layout; None where it has no classifier.

    Args:
        path: a file, or ``zoo:NAME``.

    Raises:
        InputError: truncated file, or no state dict in it.
    """
    path = resolve_weights(path)
    return classifier_size(find_state(load_checkpoint(path), f'the checkpoint "{path}"'))


def classifier_size(state: Mapping[str, Any]) -> int | None:
    """Return the number of identities of the classifier in a state dict; None where it has no classifier.

    >>> classifier_size({"backbone.weight": torch.ones(4, 4), "classifier.weight": torch.ones(751, 4)})
    751
    """
    sizes = (
        value.shape[0] for key, value in state.items()
        if "classifier" in str(key) and isinstance(value, torch.Tensor) and value.ndim == 2
    )
    return next(sizes, None)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load weights of this package's, torchreid's, torchvision's or the authors' layout into ``model``.

    The state dict may lie under an entry and carry the prefixes of wrappers
    (:func:`torchreid_nas.state_dicts.find_state`). A classifier for another
    number of identities, or none, is left as it is: it takes no part in
    retrieval.

    Args:
        model: any network of this package, or of torchreid.
        path: a file, or ``zoo:NAME``.

    Raises:
        InputError: truncated file or checkpoint of another model, which is then unchanged.
    """
    path = resolve_weights(path)
    state = find_state(read_weights(path), f'the checkpoint "{path}"')
    if isinstance(model, (CDNet, TwoStreamNetwork)) and is_of_authors(state):
        return load_authors_checkpoint(model, path)
    own = model.state_dict()
    given = in_torchreids_layout(state, own)
    for key, value in own.items():
        fits = key in given and given[key].shape == value.shape
        # Files of PyTorch before 0.4.1 have no step counters; eval mode does not use them.
        uncounted = key not in given and key.endswith(COUNTER)
        # torchreid's HACNN and PCB have several classifiers: classifier_global, classifier.0.
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
        raise InputError(f'the checkpoint "{path}" is of another model: it also has "{shown(min(extra))}", which this one lacks')
    model.load_state_dict(given)
    return model


def is_of_authors(state: Mapping[str, Any]) -> bool:
    """Say whether a state dict has the layout of the authors of CDNet, of CM-NAS, or of AGW and CAJ."""
    others = any(key.startswith("base.") or ".sharable_bn." in key or ".visible_bn." in key for key in state)
    return others or agw_weights.has_layout(state)


def load_authors_checkpoint(
    model: TwoStreamNetwork | CDNet, source: str | os.PathLike[str] | Mapping[str, Any], weights: str = "model",
) -> TwoStreamNetwork | CDNet:
    """Load a checkpoint of github.com/JDAI-CV/CM-NAS, mangye16/Cross-Modal-Re-ID-baseline or solicucu/models.

    The CM-NAS authors store three BatchNorms for every slot, used or not; those
    that the model's architecture needs are taken. The CDNet authors' files for
    Market-1501, DukeMTMC-reID, MSMT17 and CIFAR belong to a model with
    ``neck="fblneck"`` (CIFAR also ``small_images=True``), those for ImageNet to
    one with ``neck="blneck"``. AGW's and CAJ's belong to an ``agw_resnet50`` of the
    architecture ``"stages-stem"``. A classifier that the file lacks stays as it is.

    Args:
        model: a two-stream ResNet, an AGW network or a CDNet, built with the checkpoint's architecture.
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
    if weights not in _WEIGHTS:
        raise InputError(
            f'the weights "{weights}" are unknown, expected one of {", ".join(_WEIGHTS)}{nearest(weights, _WEIGHTS)}'
        )
    given = find_state(content, name, weights)
    if isinstance(model, CDNet):
        given = cdnet_weights.rename_neck(given)
        keys, unused = cdnet_weights.authors_keys(model), cdnet_weights.authors_counters(model)
        layout = f"a CDNet of this architecture with {type(model.neck).__name__} in the layout of the CDNet authors"
    elif isinstance(model, TwoStreamNetwork) and isinstance(model.backbone, AGWBackbone):
        keys, unused = agw_weights.authors_keys(model), agw_weights.unused_keys(given)
        layout = "an agw_resnet50 with model.architecture stages-stem in the layout of the authors of AGW and CAJ"
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
        if value is None and "classifier" in theirs:
            continue
        if value is None:
            raise InputError(f'{name} has no "{theirs}"; expected {layout}')
        if value.shape != state[own].shape:
            hint = next((hint for suffix, hint in _SHAPE_HINTS.items() if theirs.endswith(suffix)), "")
            raise InputError(
                f'{name}: "{theirs}" has shape {tuple(value.shape)}, the model expects {tuple(state[own].shape)}{hint}'
            )
        state[own] = value
    extra = set(given) - set(keys.values()) - unused
    if extra:
        raise InputError(f'{name} also has "{shown(min(extra))}", which this model lacks; it is of another network')
    model.load_state_dict(state)
    return model
