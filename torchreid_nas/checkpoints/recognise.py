"""The layout of a checkpoint, recognised by its keys: the authors' layouts and ours."""
from __future__ import annotations

__all__ = ["Recognised", "recognise"]

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.checkpoints.load import classifier_size
from torchreid_nas.errors import InputError, shown
from torchreid_nas.files import load_checkpoint
from torchreid_nas.layers import bn_slots
from torchreid_nas.models import agw_weights
from torchreid_nas.models.agw import AGW_ARCHITECTURE, AGWBackbone
from torchreid_nas.state_dicts import COUNTER, find_state

# Numbers of the authors' cells that are blocks; the other cells are DownSamples.
_CELLS = (0, 1, 3, 4, 6, 7)
_CELL = re.compile(r"base\.cells\.(\d+)\.(?:ops\.(\d+)\.)?conv([12])\.(\d+)\.")
_SLOT_BNS = ("visible_bn", "thermal_bn", "sharable_bn")
_BN_TENSORS = ("weight", "bias", "running_mean", "running_var")
_RESNETS = {20: "two_stream_resnet18", 53: "two_stream_resnet50"}


@dataclasses.dataclass(frozen=True)
class Recognised:
    """The facts that a checkpoint shows.

    Attributes:
        format: ``"ours"``, ``"cdnet_authors"``, ``"cmnas_authors"`` or ``"agw_authors"``.
        num_classes: training identities of the classifier; None without a classifier.
        model: the name of the factory; None for our own layout, which does not show it.
        architecture: None where the file does not tell it.
        options: further arguments of the factory.
    """

    format: str
    num_classes: int | None
    model: str | None = None
    architecture: Architecture | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        makers = {"ours": "this package", "cdnet_authors": "the CDNet authors", "cmnas_authors": "the CM-NAS authors",
                  "agw_authors": "the authors of AGW and CAJ"}
        options = "".join(f", {key} {value}" for key, value in self.options.items())
        architecture = f"; {self.architecture}" if self.architecture is not None else ""
        classes = "no classifier" if self.num_classes is None else f"{self.num_classes} classes"
        return (
            f"{self.model or 'a network'} in the layout of {makers[self.format]}, {classes}"
            f"{options}{architecture}"
        )


def recognise(path: str | os.PathLike[str]) -> Recognised:
    """Return what the checkpoint ``path`` is.

    The genotype of a CDNet follows from the number of layers in its branches.
    Which BatchNorms a CM-NAS checkpoint splits follows from what training left
    alone (ours: the authors keep it in a file beside): the visible and the
    infrared BatchNorm of a shared slot are still equal, and the shared one of a
    split slot has seen no batch.

    Raises:
        InputError: truncated file, or a layout that is none of those known.
    """
    content = load_checkpoint(path)
    ours = isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping)
    state = find_state(content, f'the checkpoint "{path}"')
    if any(key.startswith("base.cells.") for key in state):
        return _cdnet(state, path)
    if any(key.endswith(".sharable_bn.weight") for key in state):
        return _cmnas(state, path)
    if agw_weights.has_layout(state):
        return _agw(state, path)
    if ours:
        return Recognised("ours", classifier_size(state))
    raise InputError(
        f'the checkpoint "{path}" has a layout that is not known (it has "{shown(next(iter(state)))}"); expected that of '
        "github.com/solicucu/models (CDNet), of github.com/JDAI-CV/CM-NAS, of github.com/mangye16/Cross-Modal-Re-ID-baseline "
        "(AGW, CAJ), or of this package"
    )


def _cdnet(state: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> Recognised:
    branches: dict[int, dict[tuple[str, str], set[str]]] = {}
    in_series = False
    for key in state:
        match = _CELL.match(key)
        if match:
            cell, op, branch, layer = match.groups()
            in_series |= op is not None
            branches.setdefault(int(cell), {}).setdefault((op or "0", branch), set()).add(layer)
    stem = state.get("base.stem.conv1.op.0.weight")
    if set(branches) != set(_CELLS) or stem is None:
        raise InputError(
            f'the checkpoint "{path}" looks like a CDNet of its authors, but has not the stem and the {len(_CELLS)} '
            "blocks of one; a search network or a cut file cannot be converted"
        )
    layers = []
    for cell in _CELLS:
        depth = 1 + max(int(op) for op, _ in branches[cell])
        # A branch for k x k is (k - 1) / 2 Lite convolutions in series.
        kernels = [2 * len(branches[cell].get(("0", branch), ())) + 1 for branch in "12"]
        layers.append([*kernels, depth] if in_series else kernels)
    architecture = Architecture.from_layers(layers, {"checkpoint": str(path)})
    cnet = architecture == Architecture.genotype("cnet")
    local = any(key.startswith(("neck.local_", "neck.squeeze")) for key in state)
    options: dict[str, Any] = {"neck": "fblneck" if local else "blneck"}
    if stem.shape[0] != 64:
        options["width"] = stem.shape[0] / 64
    if stem.shape[-1] == 3:
        options["small_images"] = True
    return Recognised("cdnet_authors", classifier_size(state), "cnet" if cnet else "cdnet", architecture, options)


def _cmnas(state: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> Recognised:
    suffix = ".sharable_bn.weight"
    slots = {key.removesuffix(suffix) for key in state if key.endswith(suffix)}
    stem = state.get("backbone.conv1.weight")
    if len(slots) not in _RESNETS or stem is None:
        raise InputError(
            f'the checkpoint "{path}" looks like a network of the CM-NAS authors, but has {len(slots)} BatchNorm '
            f"slots; expected {' or '.join(map(str, _RESNETS))} and a stem"
        )
    options = {} if stem.shape[0] == 64 else {"width": stem.shape[0] / 64}
    choices = {_our_slot(slot): _choice(state, slot) for slot in slots}
    architecture, order = None, Architecture.from_ints([1] * len(slots)).slots
    in_order = tuple((slot, choice) for slot in order if (choice := choices.get(slot)) is not None)
    if len(in_order) == len(choices) == len(order):
        architecture = Architecture(BN_SPACE, in_order, {"checkpoint": str(path)})
    return Recognised("cmnas_authors", classifier_size(state), _RESNETS[len(slots)], architecture, options)


def _agw(state: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> Recognised:
    if not all(f"{name}.theta.weight" in state for name in ("NL_2.0", "NL_2.1", "NL_3.0", "NL_3.1", "NL_3.2")):
        raise InputError(
            f'the checkpoint "{path}" looks like a network of the authors of AGW and CAJ, but lacks non-local blocks '
            "(NL_2, NL_3) of ResNet-50; the network without them is not known here"
        )
    architecture = Architecture.resolve(AGW_ARCHITECTURE, bn_slots(AGWBackbone(50)))
    return Recognised("agw_authors", classifier_size(state), "agw_resnet50", architecture)


def _our_slot(slot: str) -> str:
    return re.sub(r"downsample\.bn$", "downsample.1", slot.removeprefix("backbone."))


def _choice(state: Mapping[str, torch.Tensor], slot: str) -> str | None:
    """Return the choice of a slot that training shows; None where training shows nothing."""
    if any(f"{slot}.{norm}.{tensor}" not in state for norm in _SLOT_BNS for tensor in _BN_TENSORS):
        return None
    visible, infrared, _ = ([state[f"{slot}.{norm}.{tensor}"] for tensor in _BN_TENSORS] for norm in _SLOT_BNS)
    if all(torch.equal(v, t) for v, t in zip(visible, infrared)):
        return SHARE
    steps, _, shared_steps = (state.get(f"{slot}.{norm}.{COUNTER}") for norm in _SLOT_BNS)
    if steps is None or shared_steps is None:
        return None
    return SPLIT if shared_steps.sum() == 0 and steps.sum() > 0 else None

