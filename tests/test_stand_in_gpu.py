"""The GPU's side of the package on a machine without one: see tests/stand_in_gpu/run.py."""
from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "tests" / "stand_in_gpu" / "run.py"
GPU_TESTS = ("-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--show-capture=no", "--tb=short")

SPLIT_BY_CUDNN = """
import torch
from torch import nn
from torchreid_nas.layers import SplitBatchNorm2d
split = SplitBatchNorm2d(nn.BatchNorm2d(8)).cuda()
with torch.backends.cudnn.flags(enabled=True):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.empty(4, 8, 6, 3, device="cuda").contiguous(memory_format=memory_format).requires_grad_()
        split(x).sum().backward()
"""

STRANGERS = """
import torch
x = torch.arange(3.0, device="cuda")
print((x * 2).tolist(), x.device)
x + torch.ones(3)
"""

WAITING = """
import torch
x = torch.ones(3, device="cuda")
torch.cuda.set_sync_debug_mode("error")
x.sum().item()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A function that runs Python with arguments as beside a GPU."""
    specification = importlib.util.spec_from_file_location("stand_in_gpu", RUN)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    environments = {}

    def run(*arguments: str, host: bool = False) -> subprocess.CompletedProcess:
        if host not in environments:
            try:
                environments[host] = module.environment(tmp_path_factory.mktemp("stand_in"), host)
            except RuntimeError as error:
                pytest.skip(f"the stand-in cannot be built: {error}")
            if run("-c", "import torch; torch.ones(2, device='cuda').cpu()", host=host).returncode:
                pytest.skip("the stand-in was written for calls of another torch into NVIDIA's libraries")
        return subprocess.run(
            [sys.executable, *arguments], env=environments[host], cwd=ROOT, capture_output=True, text=True, timeout=1200
        )

    return run


@pytest.mark.parametrize("folders", [("data_sets", "layers", "losses", "metrics"), ("engine", "models", "test_device.py")])
def test_what_is_marked_gpu_gives_the_numbers_of_the_cpu_with_all_tensors_in_place(python, folders):
    compiled = "tests/models/test_inference.py::test_on_a_gpu[True]"
    done = python(*GPU_TESTS, *(f"tests/{folder}" for folder in folders), "--deselect", compiled)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_no_step_waits_in_torchs_own_cuda_code(python):
    done = python(*GPU_TESTS, "tests/engine/test_synchronisation.py", host=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


def test_a_split_batchnorm_passes_what_torch_and_cudnn_check(python):
    done = python("-c", SPLIT_BY_CUDNN, host=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stand-in cuDNN: forward") == done.stderr.count("stand-in cuDNN: backward") == 4


def test_the_stand_in_refuses_what_a_gpu_refuses(python):
    done = python("-c", STRANGERS)
    assert done.stdout.strip() == "[0.0, 2.0, 4.0] cuda:0"
    assert "Expected all tensors on cuda:0" in done.stderr and done.returncode
    waiting = python("-c", WAITING, host=True)
    assert "called a synchronizing CUDA operation" in waiting.stderr and waiting.returncode


def test_a_searched_step_takes_the_memory_of_a_shared_one(python):
    done = python(str(ROOT / "benchmarks" / "launches.py"), "--repetitions", "1", host=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("|")]
    steps = {(row[0], row[1]): (int(row[2].replace(",", "")), float(row[5])) for row in rows[2:]}
    assert len(steps) == 10
    for precision in ("fp32 NCHW", "bf16 channels-last"):
        for step in ("split", "searched"):
            assert steps[precision, step][1] <= 1.1 < 1.5 < steps[precision, "searched, plain"][1]
        assert 0 < steps[precision, "split"][0] < steps[precision, "split, plain"][0] < steps[precision, "searched"][0]
