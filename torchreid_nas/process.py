"""How a process of ours computes on a CPU: how its threads wait, how large its pages are, what becomes of freed memory."""
from __future__ import annotations

__all__ = ["VARIABLES", "keep_freed_memory", "prepare_process"]

import ctypes
import os
import sys

# libgomp reads the first two when torch loads it. On a shared machine threads that wait by spinning made a step five
# times slower; threads that sleep at once wake up late. A short spin costs little where cores are busy and wins back
# most of it where they are not. torch reads the third: huge pages for tensors above 2 MB spare the processor looking
# up thousands of small ones (benchmarks/RESULTS.md, "Waiting threads").
VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "6000", "THP_MEM_ALLOC_ENABLE": "1"}

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def prepare_process() -> None:
    """Settle it, before torch is imported; variables of the environment that are set already stay."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have glibc keep the memory of freed tensors for the next ones; returns whether it does.

    By default large blocks go back to the system when they are freed, and the
    system clears their successors page by page: 50,000 pages in a training
    step of ResNet-50. The peak stays about what it was (2,430 against 2,400 MB there).
    Elsewhere than on Linux with glibc nothing is done, nor where ``MALLOC_MMAP_THRESHOLD_``
    is set, with which users choose for themselves.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(key, _NEVER) == 1 for key in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)])
