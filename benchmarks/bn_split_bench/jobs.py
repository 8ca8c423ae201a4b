"""The trainings of the benchmark in the order in which they are run: a table that is cut off is still useful."""
from __future__ import annotations

__all__ = ["Job", "all_jobs"]

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

STAGES = {"stem": 3, "layer1": 6, "layer2": 9, "layer3": 21, "layer4": 13}
"""Slots of each stage of MobileNetV2, in the order of the slots."""
SLOTS = sum(STAGES.values())
SCRATCH_STAGES = {"stem": 1, "layer1": 4, "layer2": 5, "layer3": 5, "layer4": 5}
"""The same of ResNet-18, the network of the table from scratch."""
SEEDS = (1, 2, 3, 4, 5)
SCRATCH_SEEDS = (1, 2, 3)
LONG_SEEDS = (1, 2, 3)
DRAWN = 60


@dataclasses.dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        kind: ``"stages"``, ``"slots"``, ``"standardised"`` or ``"long"``.
        bits: a character per slot, 1 for split.
        seed: of the training.
        overrides: of the config.
        looks: epochs after which the network is tested too.
    """

    kind: str
    bits: str
    seed: int
    overrides: Sequence[str] = ()
    looks: Sequence[int] = ()

    @property
    def name(self) -> str:
        """The name of the file of the result."""
        length = f"-{self.overrides[1]}-epochs" if self.kind == "long" else ""
        return f"{self.kind}-{int(self.bits, 2):0{len(self.bits) // 4 + 1}x}-{self.seed}{length}"


def stage_wise(stages: Mapping[str, int] = STAGES) -> list[str]:
    """Return the 2^5 architectures that split whole stages."""
    return [
        "".join(bit * slots for bit, slots in zip(bits, stages.values())) for bits in itertools.product("01", repeat=len(stages))
    ]


def _is_extreme(bits: str) -> bool:
    """Whether at most one stage is unlike the others: 12 of the 32 architectures, enough for the effect of every stage."""
    starts = np.cumsum([0, *SCRATCH_STAGES.values()])[:-1]
    split = sum(bits[start] == "1" for start in starts)
    return split <= 1 or split >= len(starts) - 1


def drawn_slot_wise() -> list[str]:
    """Return architectures whose number of split slots is drawn evenly from 3 to 49, then the slots."""
    generator = np.random.default_rng(19)
    architectures = []
    for count in generator.permutation(np.linspace(3, SLOTS - 3, DRAWN).round().astype(int)):
        split = set(generator.choice(SLOTS, count, replace=False).tolist())
        architectures.append("".join("1" if slot in split else "0" for slot in range(SLOTS)))
    return architectures


def all_jobs(table: str) -> list[Job]:
    """Return the trainings of a table, ``"imagenet"`` or ``"scratch"``.

    From ImageNet: two seeds of the stage-wise architectures, the drawn ones, the other seeds, the long ones.
    """
    if table == "scratch":
        return [Job("stages", bits, seed) for seed in SCRATCH_SEEDS for bits in stage_wise(SCRATCH_STAGES) if _is_extreme(bits)]
    shared, split = "0" * SLOTS, "1" * SLOTS

    def of_seed(seed: int) -> list[Job]:
        standardised = Job("standardised", shared, seed, ("model.standardize_input", "True"))
        return [*(Job("stages", bits, seed) for bits in stage_wise()), standardised]

    long = ("train.max_epoch", "16", "train.stepsize", "[12, 14]")
    longest = ("train.max_epoch", "32", "train.stepsize", "[24, 29]")
    jobs = of_seed(1) + of_seed(2)
    jobs += [Job("slots", bits, 1) for bits in drawn_slot_wise()]
    jobs += [job for seed in SEEDS[2:] for job in of_seed(seed)]
    jobs += [Job("long", bits, 1, longest, tuple(range(4, 32, 4))) for bits in (shared, split)]
    jobs += [Job("long", bits, seed, long, (4, 8, 12)) for seed in LONG_SEEDS for bits in (shared, split)]
    jobs += [Job("slots", bits, 2) for bits in drawn_slot_wise()]
    return jobs
