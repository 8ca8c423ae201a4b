"""A training whose numbers are not finite any more ends with one sentence."""
from __future__ import annotations

__all__ = ["refuse_broken_losses", "refuse_broken_weights", "way_out_of_divergence"]

import math
from collections.abc import Mapping

import torch
from torch import nn

from torchreid_nas.errors import InputError


def refuse_broken_losses(losses: Mapping[str, float], epoch: int, way_out: str) -> None:
    """Refuse losses that are not finite.

    Args:
        losses: their means by name.
        epoch: counted from 1.
        way_out: ends the sentence.

    Raises:
        InputError: a loss is not finite.

    Example:
        >>> refuse_broken_losses({"ce": 1.5}, 1, "lower train.lr")
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise InputError(f'the loss "{name}" became {value} in epoch {epoch}; {way_out}')


@torch.no_grad()
def refuse_broken_weights(model: nn.Module, epoch: int, way_out: str) -> None:
    """Refuse weights that are not finite, or so large that their squares are not; the losses do not see the last step.

    Args:
        model: the network that is trained.
        epoch: counted from 1.
        way_out: ends the sentence.

    Raises:
        InputError: a tensor of the network is not finite.

    Example:
        >>> refuse_broken_weights(nn.Linear(1, 1), 1, "lower train.lr")
    """
    tensors = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    norms = torch.stack([torch.linalg.vector_norm(value.float()) for value in tensors.values()])
    # One look at the device for all of them.
    if not bool(norms.isfinite().all()):
        name = next(name for name, norm in zip(tensors, norms.tolist()) if not math.isfinite(norm))
        raise InputError(f'the weights "{name}" are not finite after epoch {epoch}; {way_out}')


def way_out_of_divergence(rate_keys: str, amp: str, kept: int) -> str:
    """Return what a user can do, as the end of a sentence.

    Args:
        rate_keys: the config keys of the learning rates.
        amp: the number format of the training.
        kept: the epoch whose checkpoint is kept, 0 where there is none.

    Example:
        >>> way_out_of_divergence("train.lr", "bf16", 3)
        'lower train.lr, or set train.amp none, and start again in another folder; the checkpoint of epoch 3 is kept'
    """
    return (
        f"lower {rate_keys}" + ("" if amp == "none" else ", or set train.amp none,") + " and start again in another folder; "
        + (f"the checkpoint of epoch {kept} is kept" if kept else "no epoch was finished")
    )
