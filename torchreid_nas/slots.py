"""Names of slots: the stages that they form, and names short enough to stand below one column each."""
from __future__ import annotations

__all__ = ["is_downsample", "short_names", "stages"]

import re
from collections.abc import Sequence


def stages(slots: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return ``(name, first, last + 1)`` of each run of slots with the same first component of their names.

    Components that all slots share (``features.``) do not count. A slot that
    stands before the first stage and is in none is the ``stem``.

    >>> stages(["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1"])
    [('stem', 0, 1), ('layer1', 1, 3), ('layer2', 3, 4)]
    """
    parts = _without_common_prefix(slots)
    runs: list[tuple[str, int, int]] = []
    for index, components in enumerate(parts):
        name = components[0]
        if len(components) == 1 and len(parts) > 1 and all(len(before) == 1 for before in parts[:index]):
            name = "stem"
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1], index + 1)
        else:
            runs.append((name, index, index + 1))
    return runs


def short_names(slots: Sequence[str]) -> list[str]:
    """Return names for slots that stand below their stage: ``layer3.0.downsample.1`` becomes ``3.0.ds``.

    Slots whose short names would be equal keep their full names.

    >>> short_names(["bn1", "layer3.0.bn2", "layer3.0.downsample.1"])
    ['bn1', '3.0.bn2', '3.0.ds']
    """
    names = []
    for components in _without_common_prefix(slots):
        if len(components) > 1 and components[-1] == "bn":
            components = components[:-1]
        name = ".".join(components)
        if len(components) > 1:
            name = re.sub(r"^[A-Za-z_]+(?=\d+\.)", "", name)
        names.append(re.sub(r"(downsample|shortcut)(\.\d+)?$", "ds", name))
    return [name if names.count(name) == 1 else slot for name, slot in zip(names, slots)]


def _without_common_prefix(slots: Sequence[str]) -> list[list[str]]:
    parts = [slot.split(".") for slot in slots]
    while len(parts) > 1 and all(len(components) > 1 and components[0] == parts[0][0] for components in parts):
        parts = [components[1:] for components in parts]
    return parts


def is_downsample(slot: str) -> bool:
    """Whether the slot belongs to the shortcut of a residual block."""
    return "downsample" in slot or "shortcut" in slot
