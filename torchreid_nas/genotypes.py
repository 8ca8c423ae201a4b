"""The block spaces of CDNet: their candidates in the authors' order, their slots, the published genotypes.

Li, Wu, Zheng. Combined Depth Space based Architecture Search For Person
Re-identification. CVPR 2021. A candidate of the combined depth space is a pair
of kernel sizes with a depth, written ``"3,5x2"``; one of the combined space is
a pair, written ``"3,5"``, of depth 1. The spelling is ours.
"""
from __future__ import annotations

__all__ = [
    "COMBINED_DEPTH_SPACE", "COMBINED_SPACE", "CANDIDATES", "BLOCK_SLOTS", "GENOTYPES", "candidate_kernels",
    "check_candidates", "genotype_of_layers",
]

from collections.abc import Iterable, Sequence
from typing import Any

from torchreid_nas.errors import InputError, nearest

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
        InputError: neither space has it.
    """
    known = [candidate for candidates in CANDIDATES.values() for candidate in candidates]
    if choice not in known:
        raise InputError(
            f'the candidate "{choice}" is unknown, expected one of {" ".join(known)}{nearest(choice, known)}'
        )
    kernels, _, depth = choice.partition("x")
    kernel1, kernel2 = map(int, kernels.split(","))
    return kernel1, kernel2, int(depth or 1)


def check_candidates(space: str, choices: Iterable[tuple[str, Any]]) -> None:
    """Check that every ``(slot, choice)`` is a candidate of ``space``.

    Raises:
        InputError: one is not; its slot and the nearest candidate are named.
    """
    known = CANDIDATES[space]
    for slot, choice in choices:
        if choice not in known:
            raise InputError(
                f'"{slot}" has the unknown candidate "{choice}", expected one of {" ".join(known)} '
                f'(space "{space}"){nearest(choice, known)}'
            )


def genotype_of_layers(layers: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the space and the choices that the authors' ``layers`` mean.

    Args:
        layers: one entry per block, ``[k1, k2, depth]`` (combined depth space)
            or ``[k1, k2]`` (combined space); candidates' names are taken too.

    Raises:
        InputError: not six blocks, entries of both kinds, or an unknown candidate.
    """
    if not _is_sequence(layers) or len(layers) != len(BLOCK_SLOTS):
        given = f"{len(layers)} blocks" if _is_sequence(layers) else repr(layers)
        raise InputError(f"a genotype names {len(BLOCK_SLOTS)} blocks, two for each of three stages, got {given}")
    names = tuple(_candidate_name(layer) for layer in layers)
    space = COMBINED_DEPTH_SPACE if any("x" in name for name in names) else COMBINED_SPACE
    choices = tuple(zip(BLOCK_SLOTS, names))
    check_candidates(space, choices)
    return space, choices


def _candidate_name(layer: Any) -> str:
    if not _is_sequence(layer):
        return str(layer)
    kernels = ",".join(map(str, layer[:2]))
    return "x".join([kernels, *map(str, layer[2:])])


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
