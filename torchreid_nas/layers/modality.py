"""Which modality a forward pass carries: a context beside the batch, not an argument.

Backbones keep torchreid's plain ``forward(x)``; the layers that treat the
modalities differently ask here. A joint batch is ``[visible; infrared]``: the
first half visible, the second half infrared, in the same identity order.
"""
from __future__ import annotations

__all__ = ["MODALITIES", "BOTH", "modality_context", "active_modality"]

import contextlib
from collections.abc import Iterator

from torchreid_nas.errors import InputError, nearest

MODALITIES = ("visible", "infrared")
BOTH = "both"

_active: list[str] = []


@contextlib.contextmanager
def modality_context(modality: str) -> Iterator[None]:
    """Declare what the forward passes inside the block carry.

    Args:
        modality: ``"visible"``, ``"infrared"``, or ``"both"`` for a joint
            batch ``[visible; infrared]`` of two equal halves.

    Raises:
        InputError: another name.
    """
    known = (*MODALITIES, BOTH)
    if modality not in known:
        raise InputError(
            f'the modality "{modality}" is unknown, expected one of {", ".join(known)}{nearest(modality, known)}'
        )
    _active.append(modality)
    try:
        yield
    finally:
        _active.pop()


def active_modality(training: bool) -> str:
    """Return the declared modality; without a declaration, a training batch is taken for a joint one.

    Raises:
        InputError: evaluation without a declaration. Guessing here is the
            commonest error of this field (a query sent through the gallery's
            branch), and it stays invisible in the results.
    """
    if _active:
        return _active[-1]
    if training:
        return BOTH
    raise InputError(
        'a network with split BatchNorm cannot tell in eval mode which modality the images have; call '
        'model.features(images, "visible") or "infrared", or wrap the call in modality_context(...)'
    )
