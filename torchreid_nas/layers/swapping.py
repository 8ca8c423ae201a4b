"""Layers that behave otherwise for the time of a block, and keep their parameters, buffers, hooks and names."""
from __future__ import annotations

__all__ = ["behaving"]

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn

_CLASSES: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}


@contextlib.contextmanager
def behaving(layers: Iterable[nn.Module], behaviour: type[nn.Module]) -> Iterator[None]:
    """Inside the block put the methods of ``behaviour`` before those of each layer's own class.

    There is one class per behaviour and class of layers, which compiled code can recognise. Checkpoints and export, which are
    made outside the block, never meet that class.

    Args:
        layers: of any class.
        behaviour: a class without ``__init__`` that calls ``super()`` for what it leaves to the layer.

    Example:
        >>> class Doubled(nn.Module):
        ...     def forward(self, x):
        ...         return 2 * super().forward(x)
        >>> layer = nn.Identity()
        >>> with behaving([layer], Doubled):
        ...     layer(3)
        6
        >>> layer(3)
        3
    """
    layers = list(layers)
    kinds = [type(layer) for layer in layers]
    for layer, kind in zip(layers, kinds):
        key = behaviour, kind
        if key not in _CLASSES:
            _CLASSES[key] = type(f"{behaviour.__name__.lstrip('_')}{kind.__name__}", (behaviour, kind), {})
        layer.__class__ = _CLASSES[key]
    try:
        yield
    finally:
        for layer, kind in zip(layers, kinds):
            layer.__class__ = kind
