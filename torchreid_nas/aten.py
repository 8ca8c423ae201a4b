"""Operators of torch outside its public interface, looked up at use: a renamed operator costs a fast path, not the import."""
from __future__ import annotations

__all__ = ["find_operator"]

from collections.abc import Callable
from typing import Any

import torch


def find_operator(name: str) -> Callable[..., Any] | None:
    """Return the operator of torch with this name, or None where the installed torch has none.

    The caller keeps a way of public functions for None.

    Args:
        name: ``"<library>::<operator>"``, with ``".<overload>"`` behind it where one overload is meant.

    >>> find_operator("aten::relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    >>> find_operator("aten::relu.no_such_overload") is None
    True
    """
    library, _, path = name.partition("::")
    found: Any = getattr(torch.ops, library)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
