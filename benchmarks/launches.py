#!/usr/bin/env python
"""What steps with split and searched BatchNorms ask of the process that feeds a GPU, and of its memory; needs no GPU.

    python tests/stand_in_gpu/run.py --host benchmarks/launches.py      # 64+64 images at 256x128

Kernels are counted and not run: on a fast GPU a step takes at least the host's time, whatever the kernels take. Both are
given beyond the shared step, whose convolutions cuDNN would do in fewer launches than here. Memory is what torch's
allocator for GPUs hands out, without the workspaces of cuDNN.
"""
from __future__ import annotations

import ctypes

import torch
from harness import Turns, arguments, peak_memory, take_turns
from normalization import steps_by_name
from results import Report

_BASE = "shared"


def main() -> None:
    options = arguments(__doc__, half=64).parse_args()
    try:
        launched = ctypes.c_ulong.in_dll(ctypes.CDLL(None), "stand_in_launches")
    except ValueError:
        raise SystemExit("error: kernels are counted by the stand-in alone; see the first lines of this script") from None
    rows = []
    for half_precision in (False, True):
        steps = steps_by_name(half_precision, options.half, options.device)
        turns = take_turns(steps, options.repetitions, 2, options.device)
        counts = {name: _count(step, launched) for name, step in steps.items()}
        peaks = {name: peak_memory(step, options.device) for name, step in steps.items()}
        rows += _rows("bf16 channels-last" if half_precision else "fp32 NCHW", turns, counts, peaks)
    headers = ["ResNet-50", "step", "launches beyond the shared step", "host ms beyond it", "MiB", "of the shared step's"]
    with Report(f"stand-in GPU, torch {torch.__version__}", options.json) as report:
        report.table(rows, headers)
        report.text(f"{options.half}+{options.half} images at 256x128.")


def _count(step, launched: ctypes.c_ulong) -> int:
    before = launched.value
    step()
    return launched.value - before


def _rows(label: str, turns: Turns, counts: dict[str, int], peaks: dict[str, int]) -> list[list[str]]:
    return [
        [label, name, f"{counts[name] - counts[_BASE]:,}", f"{1000 * (turns.median(name) - turns.median(_BASE)):.1f}",
         f"{peaks[name] / 2**20:,.0f}", f"{peaks[name] / peaks[_BASE]:.2f}"]
        for name in counts
    ]


if __name__ == "__main__":
    main()
