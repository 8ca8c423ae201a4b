"""How the processes of this package use a CPU: how threads wait, how large pages are, how NumPy sorts, who keeps freed memory."""
from __future__ import annotations

__all__ = ["keep_freed_memory", "prepare_process", "variables"]

import ctypes
import itertools
import os
import sys
from pathlib import Path

# libgomp reads the first two variables when torch loads it. On a shared machine, threads that spin while they wait made a
# step five times slower, and threads that sleep at once wake up late. A short spin costs little on busy cores and wins
# back most of the time on idle cores. torch reads the third variable: with huge pages for tensors above 2 MB the
# processor looks up fewer pages (docs/benchmarks.md, "Waiting threads").
_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "6000", "THP_MEM_ALLOC_ENABLE": "1"}
# The names of NumPy's sorts by AVX-512, in versions up to 2.3 and in later ones. On AMD's Zen 4 the sorts by AVX2 are 3.7
# times as fast, because Zen 4 is slow at the AVX-512 instruction that packs chosen numbers.
_SORTS_BY_AVX512 = "AVX512_SKX AVX512_ICL X86_V4"

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def variables(cpuinfo: str | os.PathLike[str] = "/proc/cpuinfo") -> dict[str, str]:
    """Return the environment variables that suit this machine.

    Args:
        cpuinfo: file in which Linux describes the processor; without the file the sorts stay as they are.
    """
    try:
        with Path(cpuinfo).open(encoding="utf-8", errors="replace") as file:
            # The processors are alike; an empty line ends the first one.
            processor = "".join(itertools.takewhile(str.strip, file))
    except OSError:
        processor = ""
    if "AuthenticAMD" in processor and "avx512f" in processor:
        return {**_VARIABLES, "NPY_DISABLE_CPU_FEATURES": _SORTS_BY_AVX512}
    return dict(_VARIABLES)


def prepare_process() -> None:
    """Set the variables before NumPy and torch are imported, and keep freed memory; variables that are set already stay."""
    for name, value in variables().items():
        os.environ.setdefault(name, value)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have glibc keep the memory of freed tensors for the next tensors; return whether glibc does.

    By default glibc gives large freed blocks back to the system, and the system
    clears every page of the next block: 50,000 pages in a training step of
    ResNet-50. The peak of the memory hardly changes (2,430 against 2,400 MB there).
    The function does nothing on other systems than Linux with glibc, and where the
    user has set ``MALLOC_MMAP_THRESHOLD_``.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    accepted = [mallopt(key, _NEVER) == 1 for key in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)]
    return all(accepted)
