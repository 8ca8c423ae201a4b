"""The block spaces of CDNet: their candidates in the authors' order, their slots, the published genotypes.

Li, Wu, Zheng. Combined Depth Space based Architecture Search For Person
Re-identification. CVPR 2021. A candidate of the combined depth space is a pair
of kernel sizes with a depth, written ``"3,5x2"``; one of the combined space is
a pair, written ``"3,5"``, of depth 1. The spelling is ours.
"""
from __future__ import annotations

__all__ = [
    "BLOCK_SLOTS", "CANDIDATES", "COMBINED_DEPTH_SPACE", "COMBINED_SPACE", "GENOTYPES", "candidate_kernels",
    "choices_of_layers", "layers_of_choices",
]

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.architecture_format import ArchitectureFormat, Choices, register_format
from torchreid_nas.errors import InputError, nearest, shown

COMBINED_DEPTH_SPACE, COMBINED_SPACE = "combined_depth", "combined"

CANDIDATES: dict[str, tuple[str, ...]] = {
    COMBINED_DEPTH_SPACE: (
        "3,5x1", "3,7x1", "5,7x1", "3,5x2", "3,7x2", "5,7x2", "3,9x1", "5,9x1", "7,9x1", "3,9x2", "5,9x2", "7,9x2",
    ),
    COMBINED_SPACE: ("3,5", "3,7", "5,7", "3,9", "5,9", "7,9"),
}
"""Candidates by space; the position in the tuple is the authors' genotype id, and that of α in a row."""

BLOCK_SLOTS: tuple[str, ...] = tuple(f"stage{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1))
"""The six blocks of the macro architecture: two in each of three stages."""

GENOTYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cdnet": (COMBINED_DEPTH_SPACE, ("3,5x1", "3,7x2", "5,7x2", "5,9x1", "5,7x2", "5,7x1")),
    "cnet": (COMBINED_SPACE, ("5,7", "7,9", "7,9", "7,9", "7,9", "3,5")),
}
"""The published genotypes: their space, and the choice for each of :data:`BLOCK_SLOTS`."""


def candidate_kernels(choice: str) -> tuple[int, int, int]:
    """Return both kernel sizes and the depth of a candidate of either space.

    Raises:
        InputError: neither space has the candidate.

    >>> candidate_kernels("3,5x2"), candidate_kernels("7,9")
    ((3, 5, 2), (7, 9, 1))
    """
    known = [candidate for candidates in CANDIDATES.values() for candidate in candidates]
    if choice not in known:
        raise InputError(
            f'the candidate "{shown(choice)}" is unknown, expected one of {" ".join(known)}{nearest(choice, known)}'
        )
    kernels, _, depth = choice.partition("x")
    kernel1, kernel2 = map(int, kernels.split(","))
    return kernel1, kernel2, int(depth or 1)


def choices_of_layers(layers: Any) -> tuple[str, Choices]:
    """Return the space and the choices that the authors' ``layers`` mean.

    Args:
        layers: one entry per block, ``[k1, k2, depth]`` (combined depth space)
            or ``[k1, k2]`` (combined space); candidates' names are taken too.

    Raises:
        InputError: not six blocks, entries of both kinds, or an unknown candidate.

    >>> space, choices = choices_of_layers([[3, 5, 1]] * 6)
    >>> space, choices[0]
    ('combined_depth', ('stage1.0', '3,5x1'))
    """
    if not _is_sequence(layers) or len(layers) != len(BLOCK_SLOTS):
        word = f"'{shown(layers)}'" if isinstance(layers, str) else shown(layers)
        given = f"{len(layers)} blocks" if _is_sequence(layers) else word
        raise InputError(f"a genotype names {len(BLOCK_SLOTS)} blocks, two for each of three stages, got {given}")
    names = tuple(_candidate_name(layer) for layer in layers)
    space = COMBINED_DEPTH_SPACE if any("x" in name for name in names) else COMBINED_SPACE
    choices = tuple(zip(BLOCK_SLOTS, names))
    _check_candidates(space, choices)
    return space, choices


def layers_of_choices(choices: Choices) -> list[list[int]]:
    """Return the authors' ``layers``: ``[k1, k2, depth]``, in the combined space ``[k1, k2]``, per block.

    Raises:
        InputError: a choice is a candidate of neither space.
    """
    return [list(candidate_kernels(choice)[: 3 if "x" in choice else 2]) for _, choice in choices]


def _check_candidates(space: str, choices: Choices) -> None:
    known = CANDIDATES[space]
    for slot, choice in choices:
        if choice not in known:
            raise InputError(
                f'"{shown(slot)}" has the unknown candidate "{shown(choice)}", expected one of {" ".join(known)} '
                f'(space "{space}"){nearest(choice, known)}'
            )


def _candidate_name(layer: Any) -> str:
    if not _is_sequence(layer):
        return shown(layer)
    kernels = ",".join(map(shown, layer[:2]))
    return "x".join([kernels, *map(shown, layer[2:])])


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


class _GenotypeFormat(ArchitectureFormat):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.presets = tuple(preset for preset, (space, _) in GENOTYPES.items() if space == name)

    def check(self, choices: Choices) -> None:
        _check_candidates(self.name, choices)

    def check_slots(self, given: Sequence[str], slots: Sequence[str], name: str) -> None:
        if len(given) != len(slots):
            raise InputError(f"{name} names {len(given)} blocks, expected {len(slots)}: two for each of three stages")
        for mine, other in zip(slots, given):
            if mine != other:
                raise InputError(f'{name} names the block "{shown(other)}" where "{mine}" is expected')

    def preset(self, name: str, slots: Sequence[str]) -> Choices | None:
        return tuple(zip(BLOCK_SLOTS, GENOTYPES[name][1])) if name in self.presets else None

    def read(self, content: Mapping[str, Any] | Sequence[Any]) -> Choices | None:
        if isinstance(content, Mapping) and "layers" not in content:
            return None
        space, choices = choices_of_layers(content["layers"] if isinstance(content, Mapping) else content)
        return choices if space == self.name else None

    def export(self, choices: Choices) -> str | None:
        return json.dumps({"layers": layers_of_choices(choices)}, indent=2) + "\n"


for _space in CANDIDATES:
    register_format(_GenotypeFormat(_space))
