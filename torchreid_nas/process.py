"""How processes of ours compute on a CPU: how threads wait, how large pages are, how NumPy sorts, where freed memory goes."""
from __future__ import annotations

__all__ = ["keep_freed_memory", "prepare_process", "variables"]

import ctypes
import itertools
import os
import sys

# libgomp reads the first two when torch loads it. On a shared machine threads that wait by spinning made a step five
# times slower; threads that sleep at once wake up late. A short spin costs little where cores are busy and wins back
# most of it where they are not. torch reads the third: huge pages for tensors above 2 MB spare the processor looking
# up thousands of small ones (benchmarks/RESULTS.md, "Waiting threads").
_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "6000", "THP_MEM_ALLOC_ENABLE": "1"}
# What NumPy's sorts by AVX-512 are called, in versions up to 2.3 and since. They are made for Intel: on AMD's Zen 4 those
# by AVX2 are 3.7 times as fast, for the instruction that packs chosen numbers is slow there.
_SORTS_BY_AVX512 = "AVX512_SKX AVX512_ICL X86_V4"

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def variables(cpuinfo: str | os.PathLike = "/proc/cpuinfo") -> dict[str, str]:
    """Return the variables of the environment that settle it on this machine.

    Args:
        cpuinfo: where Linux describes the processor; elsewhere there is none, and sorts stay as they are.
    """
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            # The first of many alike, up to an empty line.
            processor = "".join(itertools.takewhile(str.strip, file))
    except OSError:
        processor = ""
    if "AuthenticAMD" in processor and "avx512f" in processor:
        return {**_VARIABLES, "NPY_DISABLE_CPU_FEATURES": _SORTS_BY_AVX512}
    return dict(_VARIABLES)


def prepare_process() -> None:
    """Settle it, before NumPy and torch are imported; variables of the environment that are set already stay."""
    for name, value in variables().items():
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
