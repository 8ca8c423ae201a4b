"""The layout of the CDNet authors' checkpoints (github.com/solicucu/ReID), and weights to start from."""
from __future__ import annotations

__all__ = ["authors_block_key", "authors_keys", "authors_counters", "has_neck", "load_pretrained", "rename_neck"]

import os
import re
from collections.abc import Mapping
from typing import Any, Protocol

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.files import load_checkpoint
from torchreid_nas.genotypes import COMBINED_SPACE
from torchreid_nas.state_dicts import COUNTER, find_state

# Names within a CBlock. The order matters: the authors call "expand" what is "shortcut" here.
_BLOCK_RENAMES = (
    (r"^reduce\.", "squeeze.op."),
    (r"^expand\.", "restore.op."),
    (r"^shortcut\.", "expand.op."),
    (r"^gate\.", "adaption."),
    (r"^branch([12])\.(\d+)\.bn\.", r"conv\1.\2.op.2."),
    (r"^branch([12])\.(\d+)\.", r"conv\1.\2.op."),
    (r"\.(conv|pointwise)\.", ".0."),
    (r"\.(bn|depthwise)\.", ".1."),
)
_CONV_BN = {"conv": "0", "bn": "1"}


class _Network(Protocol):
    """What is asked of a network that starts from weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors by their keys."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Take the tensors over."""


class SearchedNetwork(_Network, Protocol):
    """What the layout asks of a network: a CDNet has it."""

    architecture: Architecture


def authors_block_key(key: str) -> str:
    """Translate a state-dict key below a CBlock into the key of the authors.

    Example:
        >>> authors_block_key("reduce.conv.weight")
        'squeeze.op.0.weight'
    """
    for pattern, replacement in _BLOCK_RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def authors_keys(model: SearchedNetwork) -> dict[str, str]:
    """Map every key of the state dict of ``model``, step counters left out, to the key of the authors.

    The authors' blocks of the combined space are CBlocks without a series
    around them. A neck with the global branch alone has the keys of their
    ImageNet neck; see :func:`rename_neck` for their other neck.
    """
    series = model.architecture.space != COMBINED_SPACE
    return {key: _authors_key(key, series) for key in model.state_dict() if not key.endswith(COUNTER)}


def authors_counters(model: SearchedNetwork) -> set[str]:
    """Return the step counters of the BatchNorms by the names of the authors, whose files may hold them or not."""
    series = model.architecture.space != COMBINED_SPACE
    return {_authors_key(key, series) for key in model.state_dict() if key.endswith(COUNTER)}


def rename_neck(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the authors' BLNeck, whose single branch has no prefix, the names of their global branch."""
    return {re.sub(r"^neck\.(fcs|classifier)\.", r"neck.global_\1.", key): value for key, value in given.items()}


def has_neck(path: str | os.PathLike[str]) -> bool:
    """Return whether a file of weights is of a backbone with a neck, in this package's or the authors' layout.

    Raises:
        InputError: the file is truncated, or holds no weights.
    """
    given = find_state(load_checkpoint(path), f'the file of weights "{path}"')
    return any(key.startswith("neck.") for key in given)


def load_pretrained(model: _Network, path: str | os.PathLike[str]) -> None:
    """Start ``model`` from weights in this package's or the authors' layout, with any neck and any number of classes.

    Args:
        model: a CDNet, or another :class:`~torchreid_nas.models.necked.NeckedNetwork`, of which there is no authors' layout.
        path: the file.

    All weights of the backbone are loaded. Weights of the neck are loaded where
    name and shape agree: from an ImageNet file the layer of the global branch.

    Raises:
        InputError: the file is truncated, or its backbone is another one. The model is then unchanged.
    """
    given = rename_neck(find_state(load_checkpoint(path), f'the file of weights "{path}"'))
    own = model.state_dict()
    architecture = getattr(model, "architecture", None)
    if architecture is not None and any(key.startswith("base.") for key in given):
        series = architecture.space != COMBINED_SPACE
        ours = {_authors_key(key, series): key for key in own}
        given = {ours.get(key, key): value for key, value in given.items()}
    for key, value in own.items():
        fits = key in given and given[key].shape == value.shape
        if fits:
            own[key] = given[key]
        elif key.startswith("backbone.") and not key.endswith(COUNTER):
            what = f"{tuple(given[key].shape)}, expected {tuple(value.shape)}" if key in given else "missing"
            raise InputError(f'the weights "{path}" do not fit this {type(model).__name__}: "{key}" is {what}; {_REMEDY}')
    extra = {key for key in given if key.startswith(("backbone.", "base.")) and key not in own}
    if extra:
        raise InputError(f'the weights "{path}" do not fit this {type(model).__name__}, which has no "{min(extra)}"; {_REMEDY}')
    model.load_state_dict(own)


_REMEDY = "build the model with the architecture, width and stem that they were trained with"


def _authors_key(key: str, series: bool) -> str:
    part, _, rest = key.partition(".")
    if part == "neck":
        return "neck." + re.sub(r"^(global|local)_branch\.(fc|classifier)\.", _branch_key, rest)
    name, _, rest = rest.partition(".")
    if name == "stem":
        layer, _, tensor = rest.partition(".")
        return f"base.stem.conv1.op.{_CONV_BN[layer]}.{tensor}"
    first_cell = 3 * (int(name.removeprefix("stage")) - 1)
    position, layer, rest = rest.split(".", 2)
    if position == "downsample":
        return f"base.cells.{first_cell + 2}.conv1x1.op.{_CONV_BN[layer]}.{rest}"
    inner = f"ops.{layer}." if series else ""
    return f"base.cells.{first_cell + int(position)}.{inner}{authors_block_key(rest)}"


def _branch_key(match: re.Match[str]) -> str:
    branch, layer = match.groups()
    return f"{branch}_{'fcs' if layer == 'fc' else layer}."
