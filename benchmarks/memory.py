#!/usr/bin/env python
"""One step of ECN's memory (loss, backward, update): ours against the plain implementation, turn by turn.

    python benchmarks/memory.py                       # N = 12,936 and 100,000, D = 2048, B = 128
    python benchmarks/memory.py --slots 1000000       # ours alone, bfloat16: time and peak memory

Plain is what the paper's code amounts to: all logits at once, a full sort,
soft targets as a dense matrix, and an update in a loop over the images. Beside
the times stands the limit, the two matrix products that no implementation can
do without, measured in the same run.
"""
from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from typing import Callable

import torch
from tabulate import tabulate
from torch.nn import functional as F

from torchreid_nas.losses import ExemplarMemory, InvarianceLoss

_TEMPERATURE, _NEIGHBOURS, _MOMENTUM = 0.05, 6, 0.1
# A plain step at more slots than this needs more memory than the machines of the field have.
_MOST_PLAIN = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[12936, 100_000])
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(f"{_machine(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for slots in arguments.slots:
        rows += _compare(slots, arguments.dim, arguments.batch, arguments.repetitions, device)
    headers = ["slots", "step", "ms", "times faster", "share of the limit reached", "peak memory beyond the slots, MiB"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


def _compare(slots: int, dim: int, batch: int, repetitions: int, device: torch.device) -> list[list[str]]:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(batch, dim, generator=generator)).to(device)
    indices = torch.randint(slots, (batch,), generator=generator)
    plain = slots <= _MOST_PLAIN
    start = _filled(slots, dim, torch.float32 if plain else torch.bfloat16, device)
    steps: dict[str, Callable[[], float]] = {}
    if plain:
        steps["plain"] = _plain(start.features.clone(), features, indices)
        steps["ours, float32"] = _ours(start, features, indices)
        steps["limit: two products, float32"] = _limit(start.features.clone(), features)
    half = ExemplarMemory(slots, dim, torch.bfloat16, device) if plain else start
    if plain:
        half.features.copy_(start.features)
    steps["ours, bfloat16"] = _ours(half, features, indices)
    times: dict[str, list[float]] = {name: [] for name in steps}
    peaks = dict.fromkeys(steps, 0.0)
    for repetition in range(repetitions + 1):
        for name, step in steps.items():
            peaks[name] = max(peaks[name], _peak(step, device)) if repetition == 0 else peaks[name]
            before = time.perf_counter()
            step()
            _wait(device)
            # The first turn warms up.
            if repetition:
                times[name].append(1000 * (time.perf_counter() - before))
    middle = {name: statistics.median(values) for name, values in times.items()}
    limit = middle.get("limit: two products, float32")
    return [
        [
            f"{slots:,}", name, f"{middle[name]:.1f}", f"{middle['plain'] / middle[name]:.2f}" if plain else "",
            f"{limit / middle[name]:.2f}" if limit else "", f"{peaks[name]:.0f}",
        ]
        for name in steps
    ]


def _filled(slots: int, dim: int, dtype: torch.dtype, device: torch.device) -> ExemplarMemory:
    memory = ExemplarMemory(slots, dim, dtype, device)
    generator = torch.Generator().manual_seed(1)
    # Piece by piece: a million slots in float32 at once would need as much again.
    for piece in memory.features.split(8192):
        piece.copy_(F.normalize(torch.randn(piece.shape, generator=generator)))
    return memory


def _ours(memory: ExemplarMemory, features: torch.Tensor, indices: torch.Tensor) -> Callable[[], float]:
    criterion = InvarianceLoss(memory, _TEMPERATURE, _NEIGHBOURS)

    def step() -> float:
        given = features.clone().requires_grad_()
        loss = criterion(given, indices)
        loss.backward()
        memory.update(given, indices, _MOMENTUM)
        return loss.item()

    return step


def _plain(slots: torch.Tensor, features: torch.Tensor, indices: torch.Tensor) -> Callable[[], float]:
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


def _limit(slots: torch.Tensor, features: torch.Tensor) -> Callable[[], float]:
    def step() -> float:
        return float(((features @ slots.T) @ slots)[0, 0])

    return step


def _peak(step: Callable[[], float], device: torch.device) -> float:
    """Return the memory that one step needs at its peak, in MiB, by what torch allocates."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    now = most = 0
    for event in sorted(_allocations(profiler), key=lambda event: event[0]):
        now += event[1]
        most = max(most, now)
    return most / 2**20


def _allocations(profiler) -> list[tuple[int, int]]:
    """Return (time, bytes) of every allocation and release."""
    events = profiler.profiler.kineto_results.events()
    return [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{', '.join(names) or sys.platform} (process so far {peak / 2**20:.1f} GiB)"


if __name__ == "__main__":
    main()
