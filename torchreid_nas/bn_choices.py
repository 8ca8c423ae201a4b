"""The space of CM-NAS, which norms the modalities share: its choices, its presets, the authors' list of ints.

Fu et al. CM-NAS: Cross-Modality Neural Architecture Search for Visible-Infrared
Person Re-Identification. ICCV 2021. A slot is the dotted name of a norm
of the backbone, in the paper a BatchNorm2d. The names of choices and presets are ours.
The space was called ``bn_split`` while it held BatchNorms alone; files and configs may
say so still.
"""
from __future__ import annotations

__all__ = ["BN_PRESETS", "BN_SPACE", "SHARE", "SPLIT", "authors_slots", "choices_of_ints", "ints_of_choices"]

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.architecture_format import ArchitectureFormat, Choices, register_format
from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.slots import stages

SHARE, SPLIT = "share", "split"
BN_SPACE = "norm_split"
BN_PRESETS = (SHARE, SPLIT, "first-<k>", "last-<k>", "random-<seed>", "stages-<name>+<name>")
_STAGES = "stages-"

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

    >>> authors_slots(20)[:2], authors_slots(20)[5:8]
    (('bn1', 'layer1.0.bn1'), ('layer2.0.downsample.1', 'layer2.0.bn1', 'layer2.0.bn2'))
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


def choices_of_ints(values: Sequence[Any]) -> Choices:
    """Return what the CM-NAS authors' list means: 0 = split, 1 = share, in their order of a ResNet's BatchNorms.

    Raises:
        InputError: a value other than 0 and 1, or a length that fits no ResNet.

    >>> choices_of_ints([0] + [1] * 19)[:2]
    (('bn1', 'split'), ('layer1.0.bn1', 'share'))
    """
    for value in values:
        if value not in (0, 1):
            raise InputError(f"the authors' format holds 0 (split) and 1 (share) only, got {shown(value)}")
    by_slot = {slot: SHARE if value else SPLIT for slot, value in zip(authors_slots(len(values)), values)}
    return tuple((slot, by_slot[slot]) for slot in _resnet_slots(len(values), downsample_first=False))


def ints_of_choices(choices: Choices) -> list[int] | None:
    """Return the authors' list of :func:`choices_of_ints`, None where the slots are not those of a ResNet."""
    by_slot = dict(choices)
    if len(by_slot) not in _RESNETS or set(authors_slots(len(by_slot))) != set(by_slot):
        return None
    return [int(by_slot[slot] == SHARE) for slot in authors_slots(len(by_slot))]


def _split_stages(name: str, slots: Sequence[str]) -> Choices:
    """Return the choices of a preset ``stages-<name>+<name>``."""
    runs = {stage: range(first, end) for stage, first, end in stages(slots)}
    asked = name.removeprefix(_STAGES).split("+")
    for stage in asked:
        if stage not in runs:
            raise InputError(
                f'the architecture "{shown(name)}" names the stage "{shown(stage)}", the stages of the backbone are '
                f"{', '.join(runs)}{nearest(stage, runs)}"
            )
    split = {index for stage in asked for index in runs[stage]}
    return tuple((slot, SPLIT if index in split else SHARE) for index, slot in enumerate(slots))


class _BNFormat(ArchitectureFormat):
    presets = BN_PRESETS

    def describe(self, choices: Choices) -> str:
        split = [slot for slot, choice in choices if choice == SPLIT]
        return f"{len(split)} of {len(choices)} norms split" + (f": {', '.join(split)}" if split else "")

    def check(self, choices: Choices) -> None:
        for slot, choice in choices:
            if choice not in (SHARE, SPLIT):
                raise InputError(
                    f'the slot "{shown(slot)}" has the choice "{shown(choice)}", expected "{SHARE}" or "{SPLIT}"'
                )

    def check_slots(self, given: Sequence[str], slots: Sequence[str], name: str) -> None:
        if len(given) != len(slots):
            raise InputError(
                f"{name} is for a backbone with {len(given)} norm slots, this one has {len(slots)}; "
                "search again for this backbone or choose the one that the architecture was made for"
            )
        for mine, other in zip(slots, given):
            if mine != other:
                raise InputError(
                    f'{name} names the slot "{shown(other)}" where this backbone has "{mine}"; '
                    "the architecture is for another backbone"
                )

    def preset(self, name: str, slots: Sequence[str]) -> Choices | None:
        if name.startswith(_STAGES):
            return _split_stages(name, slots)
        match = re.fullmatch(r"(share|split|first|last|random)(?:-([0-9]{1,9}))?", name)
        if not match or (match[2] is None) != (match[1] in (SHARE, SPLIT)):
            return None
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
        return tuple((slot, SPLIT if index in split else SHARE) for index, slot in enumerate(slots))

    def read(self, content: Mapping[str, Any] | Sequence[Any]) -> Choices | None:
        return None if isinstance(content, Mapping) else choices_of_ints(content)

    def export(self, choices: Choices) -> str | None:
        values = ints_of_choices(choices)
        return None if values is None else " ".join(map(str, values)) + "\n"


register_format(_BNFormat(BN_SPACE), "bn_split")
