"""What all benchmarks share: taking turns, medians and paired ratios, peak memory, the machine and its physical limits.

A benchmark compares *ours* with the *plain implementation*, what the papers' code amounts to, in one process. Every
turn runs each of them once, so that a machine's moods fall on all alike; the first turns warm up.
"""
from __future__ import annotations

__all__ = [
    "Limits", "Turns", "arguments", "add_json", "copy_bandwidth", "flops_of", "machine", "matmul_rate", "measure_limits",
    "peak_memory", "synchronize", "take_turns",
]

import argparse
import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas.device import computes_bfloat16
from torchreid_nas.process import keep_freed_memory

Step = Callable[[], Any]


def arguments(description: str, repetitions: int = 10, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes; ``defaults`` become further options of their default's type."""
    # As in the processes of the command; the plain implementation gains from it as well.
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=repetitions, help="turns after warm-up (default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    add_json(parser)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help="default: %(default)s")
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option that every benchmark has: a file for its figures."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there, as results/*.json hold them")


@dataclasses.dataclass(frozen=True)
class Turns:
    """Seconds of every step, turn by turn."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, reference: str) -> float:
        """Median over the turns of what ``name`` takes as a share of ``reference``; below 1 is faster."""
        pairs = zip(self.seconds[name], self.seconds[reference])
        return statistics.median(own / other for own, other in pairs)

    def speedup(self, name: str, reference: str) -> float:
        """How many times faster ``name`` is than ``reference``."""
        return 1 / self.ratio(name, reference)


def take_turns(steps: Mapping[str, Step], repetitions: int = 10, warmup: int = 2, device: torch.device | str = "cpu") -> Turns:
    """Run all steps once per turn and time each; ``warmup`` turns are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(warmup + repetitions):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return Turns(seconds)


def synchronize(device: torch.device | str) -> None:
    """Wait for the GPU, if it is one."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def peak_memory(step: Step, device: torch.device | str = "cpu") -> int:
    """Return the bytes that torch allocates during a step at the most, beyond what was there before it.

    Call it after warm-up, with gradients and optimiser states in place: what
    is left then is activations and what the step needs besides.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # The profiler tells of every start on stderr; read when it is first loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def flops_of(step: Step) -> int:
    """Return the floating-point operations of a step's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


@dataclasses.dataclass(frozen=True)
class Limits:
    """What this machine does at best.

    Args:
        flops: operations per second of a large matrix product, by dtype; without bfloat16 where it is emulated,
            whose products are then taken to cost what float32's do.
        bandwidth: bytes per second of a large copy, read and written bytes counted.
    """

    flops: Mapping[torch.dtype, float]
    bandwidth: float

    def seconds(self, flops: float = 0.0, dtype: torch.dtype = torch.float32, bytes: float = 0.0) -> float:
        """The least time for so many operations in ``dtype`` and bytes moved, whichever takes longer."""
        return max(flops / self.flops.get(dtype, self.flops[torch.float32]), bytes / self.bandwidth)

    def __str__(self) -> str:
        rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {_short(dtype)}" for dtype, rate in self.flops.items())
        return f"measured limits: matrix products {rates}; copy {self.bandwidth / 1e9:.1f} GB/s (read + written)"


def measure_limits(device: torch.device | str = "cpu") -> Limits:
    """Measure both limits."""
    dtypes = (torch.float32, torch.bfloat16) if computes_bfloat16(torch.device(device)) else (torch.float32,)
    rates = {dtype: matmul_rate(dtype, device) for dtype in dtypes}
    return Limits(rates, copy_bandwidth(device))


def matmul_rate(dtype: torch.dtype, device: torch.device | str = "cpu", size: int | None = None) -> float:
    """Return the operations per second of a square matrix product, the best of several."""
    size = size or (8192 if torch.device(device).type == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(take_turns({"product": lambda: a @ b}, 8, 2, device).seconds["product"])


def copy_bandwidth(device: torch.device | str = "cpu") -> float:
    """Return the bytes per second of a copy of 256 MiB, the best of several."""
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(take_turns({"copy": lambda: target.copy_(source)}, 8, 2, device).seconds["copy"])


def machine(device: torch.device | str = "cpu") -> str:
    """Name the machine in one line."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {versions}"
    name, flags = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            lines = dict(map(str.strip, line.split(":", 1)) for line in file if ":" in line)
        name = lines.get("model name", name)
        found = set(lines.get("flags", "").split())
        shown = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in found]
        flags = f" ({', '.join(shown) or 'neither AVX2 nor AVX-512'})"
    return f"{name}{flags}, {torch.get_num_threads()} threads, {versions}"


def _short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype, str(dtype))
