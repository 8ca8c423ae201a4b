"""The modality of a forward pass: a context beside the batch, not an argument.

Backbones keep torchreid's plain ``forward(x)``; the layers that treat the
modalities differently ask here. A joint batch is ``[visible; infrared]``: the
first half is visible, the second half is infrared, with the same order of
identities. Where the visible part is longer, as in a batch of CAJ, the lengths
of both parts are declared beside (:func:`joint_lengths`).

A declaration holds in its own thread (and asyncio task) alone, so that several
threads may call one network with different modalities.
"""
from __future__ import annotations

__all__ = [
    "MODALITIES", "BOTH", "ModalityLayer", "active_modality", "joint_lengths", "joint_parts", "modality_context",
    "visible_length",
]

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from torch import nn

from torchreid_nas.errors import InputError, nearest

MODALITIES = ("visible", "infrared")
BOTH = "both"

_active: ContextVar[str | None] = ContextVar("modality", default=None)
_lengths: ContextVar[tuple[int, int] | None] = ContextVar("lengths", default=None)


@contextlib.contextmanager
def modality_context(modality: str) -> Iterator[None]:
    """Declare the modality of the forward passes inside the block.

    Args:
        modality: ``"visible"``, ``"infrared"``, or ``"both"`` for a joint
            batch ``[visible; infrared]`` of two equal halves.

    Raises:
        InputError: the name is another one.

    Example:
        >>> with modality_context("infrared"):
        ...     active_modality(training=False)
        'infrared'
    """
    known = (*MODALITIES, BOTH)
    if modality not in known:
        raise InputError(
            f'the modality "{modality}" is unknown, expected one of {", ".join(known)}{nearest(modality, known)}'
        )
    token = _active.set(modality)
    try:
        yield
    finally:
        _active.reset(token)


@contextlib.contextmanager
def joint_lengths(visible: int, infrared: int) -> Iterator[None]:
    """Declare how many visible and infrared images the joint batches inside the block hold.

    A layer whose first dimension counts parts of images takes the same shares.
    Without a declaration a joint batch has two equal halves.

    Raises:
        InputError: a length is below 1.

    Example:
        >>> with joint_lengths(8, 4):
        ...     visible_length(12), visible_length(36)
        (8, 24)
    """
    if visible < 1 or infrared < 1:
        raise InputError(
            f"a joint batch of {visible} visible and {infrared} infrared images has an empty part; give each modality images, or "
            "declare one modality with modality_context(...)"
        )
    token = _lengths.set(None if visible == infrared else (visible, infrared))
    try:
        yield
    finally:
        _lengths.reset(token)


def visible_length(count: int) -> int:
    """Return how many of the ``count`` rows of a joint batch are visible: half, or as declared by :func:`joint_lengths`.

    Raises:
        InputError: the rows do not divide so.

    Example:
        >>> visible_length(12)
        6
    """
    declared = _lengths.get()
    if declared is None:
        if count % 2:
            raise InputError(
                f"a joint batch holds as many visible as infrared images, got {count} images; "
                "use CrossModalityIdentitySampler or declare one modality with modality_context(...)"
            )
        return count // 2
    visible, infrared = declared
    rows, left = divmod(count * visible, visible + infrared)
    if left or count % (visible + infrared):
        raise InputError(
            f"a joint batch of {visible} visible and {infrared} infrared images is declared by joint_lengths, got {count} "
            "images; draw the batch by CrossModalityIdentitySampler, or declare its own lengths"
        )
    return rows


def joint_parts(count: int) -> list[int]:
    """Return the lengths of the equal parts of ``count`` rows: visible, further visible copies and infrared of a joint batch.

    Rows that are not declared as a joint batch are one part.

    Example:
        >>> with modality_context("both"), joint_lengths(8, 4):
        ...     joint_parts(12)
        [4, 4, 4]
        >>> joint_parts(12)
        [12]
    """
    if _active.get() != BOTH:
        return [count]
    infrared = count - visible_length(count)
    return [infrared] * (count // infrared)


def active_modality(training: bool, declared: str | None = None) -> str:
    """Return the modality that this thread has declared; a training batch without a declaration is a joint one.

    Args:
        training: whether the layer that asks is in train mode.
        declared: the modality to take where this thread has declared none.

    Raises:
        InputError: evaluation without a declaration. Guessing here is the
            commonest error of this field (a query goes through the gallery's
            branch), and the results do not show the error.

    Example:
        >>> active_modality(training=True)
        'both'
    """
    modality = _active.get() or declared
    if modality is not None:
        return modality
    if training:
        return BOTH
    raise InputError(
        'a network with split norms cannot tell in eval mode which modality the images have; call '
        'model.features(images, "visible") or "infrared", or wrap the call in modality_context(...)'
    )


class ModalityLayer(nn.Module):
    """Base class of the layers that treat the modalities differently.

    ``nn.DataParallel`` runs the copies of a network in threads of its own, in
    which nothing is declared. The copies are made in the thread of the caller:
    each copy of a layer keeps what that thread has declared.

    Example:
        >>> layer = ModalityLayer().eval()
        >>> with modality_context("infrared"):
        ...     layer.modality()
        'infrared'
    """

    _declared: str | None = None

    def modality(self) -> str:
        """Return the modality of the forward pass, see :func:`active_modality`."""
        return active_modality(self.training, self._declared)

    def _replicate_for_data_parallel(self) -> Any:
        replica = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]  # torch gives it no type
        replica._declared = _active.get() or self._declared
        return replica
