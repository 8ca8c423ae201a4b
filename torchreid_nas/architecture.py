"""Architecture: the value that a search finds, a model is built from, and a file holds."""
from __future__ import annotations

__all__ = ["Architecture", "ArchitectureSpec", "SHARE", "SPLIT", "BN_SPACE", "authors_slots"]

import contextlib
import dataclasses
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.files import read_json, write_json, write_text
from torchreid_nas.genotypes import (
    BLOCK_SLOTS,
    CANDIDATES,
    GENOTYPES,
    candidate_kernels,
    check_candidates,
    genotype_of_layers,
)

SHARE, SPLIT = "share", "split"
BN_SPACE = "bn_split"

_PRESETS = (SHARE, SPLIT, "first-<k>", "last-<k>", "random-<seed>")
# Blocks per stage and BatchNorms per block of the ResNets, for the authors' files, which hold numbers only.
_RESNETS = {
    20: ((2, 2, 2, 2), 2),
    36: ((3, 4, 6, 3), 2),
    53: ((3, 4, 6, 3), 3),
    104: ((3, 4, 23, 3), 3),
    155: ((3, 8, 36, 3), 3),
}


def authors_slots(count: int) -> tuple[str, ...]:
    """Return the slot names of a ResNet with ``count`` BatchNorms in the order of the CM-NAS authors' ``config.cfg``.

    Stem first, then per stage the downsample BN *before* bn1, bn2, bn3 of each
    block, whereas modules define it after them.

    Raises:
        InputError: no ResNet has that many BatchNorm layers.
    """
    return _resnet_slots(count, downsample_first=True)


def _resnet_slots(count: int, downsample_first: bool) -> tuple[str, ...]:
    if count not in _RESNETS:
        raise InputError(
            f"the authors' format lists the BatchNorms of a ResNet ({', '.join(map(str, _RESNETS))} of them; "
            f"53 for ResNet-50), got {count} values"
        )
    blocks, norms = _RESNETS[count]
    slots = ["bn1"]
    for stage, number in enumerate(blocks, start=1):
        for block in range(number):
            prefix = f"layer{stage}.{block}"
            own = [f"{prefix}.bn{i}" for i in range(1, norms + 1)]
            # BasicBlock ResNets (two norms) have no downsample in the first stage.
            downsample = [f"{prefix}.downsample.1"] if block == 0 and (stage > 1 or norms == 3) else []
            slots += downsample + own if downsample_first else own + downsample
    return tuple(slots)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A point of a search space.

    Args:
        space: the space's name; ``"bn_split"`` for CM-NAS, ``"combined_depth"``
            and ``"combined"`` for CDNet.
        choices: ``(slot, choice)`` pairs in definition order. In the BN space
            a slot is the dotted name of a BatchNorm2d and the choice ``"share"``
            or ``"split"``. In CDNet's spaces a slot is a block (``"stage1.0"``)
            and the choice one of :data:`torchreid_nas.genotypes.CANDIDATES`.
        source: where it came from (config digest, seed, data, epoch, …), free
            form; two architectures are equal whatever their sources.
    """

    space: str
    choices: tuple[tuple[str, str], ...]
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.choices)

    def __str__(self) -> str:
        if self.space != BN_SPACE:
            return f"{self.space}: " + ", ".join(f"{slot}={choice}" for slot, choice in self.choices)
        split = [slot for slot, choice in self.choices if choice == SPLIT]
        return f"{len(split)} of {len(self)} BatchNorms split" + (f": {', '.join(split)}" if split else "")

    @property
    def slots(self) -> tuple[str, ...]:
        """The slot names in definition order."""
        return tuple(slot for slot, _ in self.choices)

    # -- making ---------------------------------------------------------------

    @classmethod
    def preset(cls, name: str, slots: Sequence[str]) -> Architecture:
        """Return a hand-made point of the BN space for a backbone with ``slots``.

        ``share`` and ``split`` treat all slots alike; ``first-<k>`` / ``last-<k>``
        split the first / last k; ``random-<seed>`` splits each with probability
        one half.

        Raises:
            InputError: unknown preset, or k larger than the number of slots.
        """
        match = re.fullmatch(r"(share|split|first|last|random)(?:-(\d+))?", name)
        if not match or (match[2] is None) != (match[1] in (SHARE, SPLIT)):
            raise InputError(
                f'the architecture "{name}" is neither a file nor a preset ({", ".join(_PRESETS)}){nearest(name, _PRESETS)}'
            )
        kind, number, total = match[1], int(match[2] or 0), len(slots)
        if kind in ("first", "last") and number > total:
            raise InputError(f'the architecture "{name}" asks for {number} slots, the backbone has {total}')
        if kind == "random":
            generator = random.Random(number)
            split = {index for index in range(total) if generator.random() < 0.5}
        else:
            split = set({
                SHARE: range(0), SPLIT: range(total), "first": range(number), "last": range(total - number, total),
            }[kind])
        choices = tuple((slot, SPLIT if index in split else SHARE) for index, slot in enumerate(slots))
        return cls(BN_SPACE, choices, {"preset": name})

    @classmethod
    def from_ints(cls, values: Sequence[int], source: Mapping[str, Any] | None = None) -> Architecture:
        """Read the CM-NAS authors' list: 0 = split, 1 = share, in their order of a ResNet's BatchNorms.

        Raises:
            InputError: a value other than 0 and 1, or a length that fits no ResNet.
        """
        for value in values:
            if value not in (0, 1):
                raise InputError(f"the authors' format holds 0 (split) and 1 (share) only, got {value}")
        values = [int(value) for value in values]
        by_slot = {slot: SHARE if value else SPLIT for slot, value in zip(authors_slots(len(values)), values)}
        slots = _resnet_slots(len(values), downsample_first=False)
        return cls(BN_SPACE, tuple((slot, by_slot[slot]) for slot in slots), source or {})

    @classmethod
    def from_layers(cls, layers: Sequence[Any], source: Mapping[str, Any] | None = None) -> Architecture:
        """Read the CDNet authors' ``layers``: ``[k1, k2, depth]`` or ``[k1, k2]`` for each of six blocks.

        Raises:
            InputError: another number of blocks, or an unknown candidate.
        """
        return cls(*genotype_of_layers(layers), source or {})

    @classmethod
    def genotype(cls, spec: ArchitectureSpec) -> Architecture:
        """Return the architecture of CDNet's spaces that ``spec`` names.

        Args:
            spec: an architecture, the name of a published one (``cdnet``,
                ``cnet``), the path of a file, the authors' ``layers`` or six
                candidates' names.

        Raises:
            InputError: unreadable, of another space, another number of blocks,
                or an unknown candidate.
        """
        if _is_preset_name(spec):
            if spec not in GENOTYPES:
                raise InputError(
                    f'the architecture "{spec}" is neither a file nor a preset ({", ".join(GENOTYPES)})'
                    f"{nearest(spec, GENOTYPES)}"
                )
            space, names = GENOTYPES[spec]
            return cls(space, tuple(zip(BLOCK_SLOTS, names)), {"preset": spec})
        architecture, name = cls._read(spec, cls.from_layers)
        if architecture.space not in CANDIDATES:
            spaces = " or ".join(f'"{space}"' for space in CANDIDATES)
            raise InputError(f'{name} is of the space "{architecture.space}", expected {spaces}')
        if len(architecture) != len(BLOCK_SLOTS):
            raise InputError(
                f"{name} names {len(architecture)} blocks, expected {len(BLOCK_SLOTS)}: two for each of three stages"
            )
        for mine, given in zip(BLOCK_SLOTS, architecture.slots):
            if mine != given:
                raise InputError(f'{name} names the block "{given}" where "{mine}" is expected')
        with _naming(name):
            check_candidates(architecture.space, architecture.choices)
        return architecture

    @classmethod
    def resolve(cls, spec: ArchitectureSpec, slots: Sequence[str]) -> Architecture:
        """Return the architecture of the BN space that ``spec`` names, checked against a backbone with ``slots``.

        Raises:
            InputError: unreadable, or made for a backbone with other slots.
        """
        if _is_preset_name(spec):
            return cls.preset(spec, slots)
        architecture, name = cls._read(spec, cls.from_ints)
        if architecture.space != BN_SPACE:
            raise InputError(f'{name} is of the space "{architecture.space}", expected "{BN_SPACE}"')
        if len(architecture) != len(slots):
            raise InputError(
                f"{name} is for a backbone with {len(architecture)} BatchNorm slots, this one has {len(slots)}; "
                "search again for this backbone or choose the one it was made for"
            )
        for mine, given in zip(slots, architecture.slots):
            if mine != given:
                raise InputError(
                    f'{name} names the slot "{given}" where this backbone has "{mine}"; it is for another backbone'
                )
        return architecture

    @classmethod
    def _read(
        cls, spec: ArchitectureSpec, from_sequence: Callable[[Sequence[Any]], Architecture],
    ) -> tuple[Architecture, str]:
        """Return what a path, an architecture or a sequence means, and how messages call it."""
        if isinstance(spec, (str, os.PathLike)):
            return cls.load(spec), f'the architecture file "{spec}"'
        return spec if isinstance(spec, cls) else from_sequence(spec), "the architecture"

    # -- files ----------------------------------------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike) -> Architecture:
        """Read an architecture file: our JSON, the CM-NAS authors' ints, or the CDNet authors' JSON.

        The latter holds ``layers``, and the logits ``alphas1``, which are kept in the source.

        Raises:
            InputError: missing or malformed; the file and the fault are named.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f'the architecture file "{path}" cannot be read ({getattr(error, "strerror", None) or "no text"}); '
                f"give an existing file or a preset ({', '.join((*_PRESETS, *GENOTYPES))})"
            ) from error
        if not text.startswith("{"):
            words = re.split(r"[\s,]+", text.strip("[] \n"))
            if not all(re.fullmatch(r"-?\d+", word) for word in words):
                raise InputError(
                    f'the architecture file "{path}" is neither JSON nor the authors\' list of ints (0 = split, 1 = share)'
                )
            with _naming(f'the architecture file "{path}"'):
                return cls.from_ints([int(word) for word in words], {"file": str(path)})
        content = read_json(path)
        if "layers" in content and "choices" not in content:
            alphas = {"alphas": content["alphas1"]} if "alphas1" in content else {}
            with _naming(f'the architecture file "{path}"'):
                return cls.from_layers(content["layers"], {"file": str(path), **alphas})
        choices = content.get("choices")
        if not isinstance(content.get("space"), str) or not isinstance(choices, dict) or not choices:
            raise InputError(f'the architecture file "{path}" lacks "space" or "choices" (a slot: choice mapping)')
        if content["space"] == BN_SPACE:
            for slot, choice in choices.items():
                if choice not in (SHARE, SPLIT):
                    raise InputError(
                        f'the architecture file "{path}" gives "{slot}" the choice "{choice}", expected "share" or "split"'
                    )
        if content["space"] in CANDIDATES:
            with _naming(f'the architecture file "{path}"'):
                check_candidates(content["space"], choices.items())
        return cls(content["space"], tuple(choices.items()), content.get("source") or {})

    def save(self, path: str | os.PathLike) -> None:
        """Write the architecture as JSON: space, choices by slot, source."""
        write_json(path, {"space": self.space, "choices": dict(self.choices), "source": dict(self.source)})

    def to_ints(self) -> list[int]:
        """Return the authors' list (0 = split, 1 = share, in their order).

        Raises:
            InputError: the slots are not those of a ResNet.
        """
        by_slot = dict(self.choices)
        slots = authors_slots(len(self))
        if set(slots) != set(by_slot):
            raise InputError("the authors' format exists for ResNets only; save this architecture as JSON")
        return [int(by_slot[slot] == SHARE) for slot in slots]

    def save_ints(self, path: str | os.PathLike) -> None:
        """Write the authors' one-line ``config.cfg``."""
        write_text(path, " ".join(map(str, self.to_ints())) + "\n")

    def to_layers(self) -> list[list[int]]:
        """Return the CDNet authors' ``layers``: ``[k1, k2, depth]``, in the combined space ``[k1, k2]``, per block.

        Raises:
            InputError: the architecture is of another space.
        """
        if self.space not in CANDIDATES:
            raise InputError(f'the authors\' `layers` exist for CDNet only, this architecture is of "{self.space}"')
        return [list(candidate_kernels(choice)[: 3 if "x" in choice else 2]) for _, choice in self.choices]

    def save_layers(self, path: str | os.PathLike) -> None:
        """Write the JSON of the CDNet authors, from which their scripts build the network."""
        write_json(path, {"layers": self.to_layers()})


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put ``name`` before the message of an InputError of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _is_preset_name(spec: Any) -> bool:
    return isinstance(spec, str) and not os.path.isfile(spec) and not os.path.splitext(spec)[1] and "/" not in spec


ArchitectureSpec = Union[Architecture, str, os.PathLike, Sequence[Any]]
