"""The settings of a process of ours: defaults that give way to the user's, and memory that is kept."""
import os
import resource
import subprocess
import sys

import pytest

from torchreid_nas import process


def test_what_the_environment_says_stays(monkeypatch):
    monkeypatch.setattr(process, "keep_freed_memory", lambda: True)
    for name in process.variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    process.prepare_process()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE" and os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    assert os.environ["GOMP_SPINCOUNT"] == "7"


@pytest.mark.parametrize("vendor, flags, expected", [
    ("AuthenticAMD", "avx2 avx512f", True), ("AuthenticAMD", "avx2", False), ("GenuineIntel", "avx2 avx512f", False),
])
def test_numpy_sorts_without_avx512_where_that_is_slow(tmp_path, vendor, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {vendor}\nflags : fpu {flags}\n")
    assert ("NPY_DISABLE_CPU_FEATURES" in process.variables(tmp_path / "cpuinfo")) == expected
    assert "NPY_DISABLE_CPU_FEATURES" not in process.variables(tmp_path / "nowhere")


def test_what_numpy_is_told_is_heeded_in_silence():
    """Each version of NumPy knows some of the names alone, and a processor has some of the instructions alone."""
    script = "import numpy as np; print(np.sort(np.float32([3, 1, 2])).tolist())"
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": process._SORTS_BY_AVX512}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1.0, 2.0, 3.0]\n", "")


def test_a_choice_of_the_user_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    assert not process.keep_freed_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_is_not_cleared_again():
    script = """
import resource, sys
from torchreid_nas.process import keep_freed_memory
if sys.argv[1] == "keep":
    if not keep_freed_memory():
        sys.exit("no glibc")
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    counts = {}
    for how in ("keep", "leave"):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, how], capture_output=True, text=True, env=environment, check=False
        )
        if "no glibc" in done.stderr:
            pytest.skip("no glibc")
        counts[how] = int(done.stdout)
    # 256 MiB are 65,536 pages of 4 KiB, or 128 of 2 MiB where the system makes large ones.
    pages = 2**28 // resource.getpagesize()
    assert counts["keep"] < pages / 100
    assert counts["keep"] <= counts["leave"]
