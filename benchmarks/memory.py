#!/usr/bin/env python
"""One step of ECN's memory (loss, backward, update): ours against the plain implementation, turn by turn.

    python benchmarks/memory.py                       # N = 12,936 and 100,000, D = 2048, B = 128
    python benchmarks/memory.py --slots 1000000       # ours alone, bfloat16: time and peak memory

A second table tells what storing the slots in bfloat16 changes: the loss, the
neighbours, and a short training of a linear embedding on planted identities.

Plain is what the paper's code amounts to: all logits at once, a full sort,
soft targets as a dense matrix, and an update in a loop over the images. Beside
the times stands the limit, the two matrix products that no implementation can
do without, measured in the same run.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Limits, arguments, machine, measure_limits, peak_memory, take_turns
from results import Report
from torch.nn import functional as F

from torchreid_nas.losses import ExemplarMemory, InvarianceLoss

_TEMPERATURE, _NEIGHBOURS, _MOMENTUM = 0.05, 6, 0.1
# A plain step at more slots than this needs more memory than the machines of the field have.
_MOST_PLAIN = 200_000
_IDENTITIES, _IMAGES, _STEPS = 200, 8, 200
_TARGETS = {"ours, float32": 1.7, "ours, bfloat16": 6.0}


def main() -> None:
    parser = arguments(__doc__, repetitions=20, dim=2048, batch=128)
    parser.add_argument("--slots", type=int, nargs="+", default=[12936, 100_000])
    options = parser.parse_args()
    limits = measure_limits(options.device)
    rows = []
    for slots in options.slots:
        rows += _compare(slots, options.dim, options.batch, options.repetitions, options.device, limits)
    headers = ["slots", "step", "ms", "times faster", "target", "physical limit, ms", "reached", "peak beyond the slots, MiB"]
    with Report(machine(options.device), options.json) as report:
        report.text(f"{limits}.")
        report.table(rows, headers)
        report.table(*_effect_of_half_precision(options.device))


def _compare(slots: int, dim: int, batch: int, repetitions: int, device: torch.device, limits: Limits) -> list[list[str]]:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(batch, dim, generator=generator)).to(device)
    indices = torch.randint(slots, (batch,), generator=generator)
    plain = slots <= _MOST_PLAIN
    start = filled_memory(slots, dim, torch.float32 if plain else torch.bfloat16, device)
    steps: dict[str, Callable[[], float]] = {}
    if plain:
        steps["plain"] = plain_step(start.features.clone(), features, indices)
        steps["ours, float32"] = our_step(start, features, indices)
        steps["the two matrix products alone, float32"] = _products(start.features.clone(), features)
    half = ExemplarMemory(slots, dim, torch.bfloat16, device) if plain else start
    if plain:
        half.features.copy_(start.features)
        _check(start, features, indices)
    steps["ours, bfloat16"] = our_step(half, features, indices)
    turns = take_turns(steps, repetitions, warmup=1, device=device)
    rows = []
    for name, step in steps.items():
        dtype = torch.bfloat16 if "bfloat16" in name else torch.float32
        # Two products, each of which must read every slot at least once.
        least = limits.seconds(4 * batch * slots * dim, dtype, slots * dim * dtype.itemsize)
        target = _TARGETS.get(name) if slots < 100_000 and dtype in limits.flops else None
        faster = turns.speedup(name, "plain") if plain else None
        rows.append([
            f"{slots:,}", name, f"{1000 * turns.median(name):.1f}", f"{faster:.2f}" if plain else "",
            f"{target} {'reached' if faster >= target else 'missed'}" if target else "", f"{1000 * least:.1f}",
            f"{least / turns.median(name):.2f}", f"{peak_memory(step, device) / 2**20:.0f}",
        ])
    return rows


def _check(memory: ExemplarMemory, features: torch.Tensor, indices: torch.Tensor) -> None:
    """Refuse to compare what does not compute the same."""
    ours = InvarianceLoss(memory, _TEMPERATURE, _NEIGHBOURS)(features, indices).item()
    plain = plain_step(memory.features.clone(), features, indices)()
    if abs(ours - plain) > 1e-4 * abs(plain):
        raise SystemExit(f"the two disagree: loss {ours} and {plain}")


def filled_memory(slots: int, dim: int, dtype: torch.dtype, device: torch.device) -> ExemplarMemory:
    memory = ExemplarMemory(slots, dim, dtype, device)
    generator = torch.Generator().manual_seed(1)
    # Piece by piece: a million slots in float32 at once would need as much again.
    for piece in memory.features.split(8192):
        piece.copy_(F.normalize(torch.randn(piece.shape, generator=generator)))
    return memory


def our_step(memory: ExemplarMemory, features: torch.Tensor, indices: torch.Tensor) -> Callable[[], float]:
    criterion = InvarianceLoss(memory, _TEMPERATURE, _NEIGHBOURS)

    def step() -> float:
        given = features.clone().requires_grad_()
        loss = criterion(given, indices)
        loss.backward()
        memory.update(given, indices, _MOMENTUM)
        return loss.item()

    return step


def _effect_of_half_precision(device: torch.device) -> tuple[list[list[str]], list[str]]:
    """Train the same embedding beside a memory in float32 and one in bfloat16, from the same start, over three seeds."""
    rows = []
    for seed in range(3):
        single, half = (_Training(dtype, seed, device) for dtype in (torch.float32, torch.bfloat16))
        memory, features, slots = single.memory, single.features, single.slots
        copy = ExemplarMemory(*memory.features.shape, torch.bfloat16, device)
        copy.features.copy_(memory.features)
        criteria = [InvarianceLoss(slots_, _TEMPERATURE, _NEIGHBOURS) for slots_ in (memory, copy)]
        losses = [criterion(features, slots).item() for criterion in criteria]
        near = [criterion.nearest(features) for criterion in criteria]
        shared = sum(len(set(a) & set(b)) for a, b in zip(near[0].tolist(), near[1].tolist())) / near[0].numel()
        rows.append([
            seed, f"{abs(losses[1] / losses[0] - 1):.1e}", f"{100 * shared:.2f} %",
            f"{single.losses[-1]:.4f} / {half.losses[-1]:.4f}", f"{100 * single.precision:.1f} / {100 * half.precision:.1f} %",
        ])
    headers = [
        "seed", "relative change of the loss", "neighbours in common", f"loss after {_STEPS} steps, fp32 / bf16",
        "neighbours of the same identity, fp32 / bf16",
    ]
    return rows, headers


class _Training:
    """``_STEPS`` steps of a linear embedding with exemplar and neighbourhood invariance."""

    def __init__(self, dtype: torch.dtype, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        identities = torch.randn(_IDENTITIES, 64, generator=generator).repeat_interleave(_IMAGES, 0)
        images = (identities + torch.randn(len(identities), 64, generator=generator)).to(device)
        pids = torch.arange(_IDENTITIES).repeat_interleave(_IMAGES)
        weight = (torch.randn(256, 64, generator=generator) / 8).to(device).requires_grad_()
        optimizer = torch.optim.SGD([weight], 1.0, momentum=0.9)
        self.memory = ExemplarMemory(len(images), 256, dtype, device)
        self.memory.initialize(images @ weight.detach().T)
        criterion = InvarianceLoss(self.memory, _TEMPERATURE, _NEIGHBOURS)
        self.losses = []
        for _ in range(_STEPS):
            self.slots = torch.randperm(len(images), generator=generator)[:128]
            self.features = F.normalize(images[self.slots.to(device)] @ weight.T)
            loss = criterion(self.features, self.slots)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.memory.update(self.features, self.slots, _MOMENTUM)
            self.losses.append(loss.item())
        self.features = self.features.detach()
        nearest = criterion.nearest(F.normalize(images @ weight.detach().T), _NEIGHBOURS + 1).cpu()
        others = nearest != torch.arange(len(images))[:, None]
        self.precision = float(((pids[nearest] == pids[:, None]) & others).sum() / others.sum())


def plain_step(slots: torch.Tensor, features: torch.Tensor, indices: torch.Tensor) -> Callable[[], float]:
    indices = indices.to(slots.device)

    def step() -> float:
        given = features.clone().requires_grad_()
        logits = given @ slots.T / _TEMPERATURE
        order = logits.detach().sort(dim=1, descending=True).indices
        targets = torch.zeros_like(logits)
        targets.scatter_(1, order[:, :_NEIGHBOURS], 1 / _NEIGHBOURS)
        targets.scatter_(1, indices[:, None], 1.0)
        loss = -(targets * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
        loss.backward()
        with torch.no_grad():
            for feature, index in zip(given, indices):
                slots[index] = _MOMENTUM * slots[index] + (1 - _MOMENTUM) * feature
                slots[index] /= slots[index].norm()
        return loss.item()

    return step


def _products(slots: torch.Tensor, features: torch.Tensor) -> Callable[[], float]:
    def step() -> float:
        return float(((features @ slots.T) @ slots)[0, 0])

    return step


if __name__ == "__main__":
    main()
