"""What is marked gpu, and computed by the CPU's kernels, on a machine without a GPU."""
from __future__ import annotations

import re

import pytest

MARKED = ("-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--show-capture=no", "--tb=short")

STRANGERS = """
import torch
x = torch.arange(3.0, device="cuda")
print((x * 2).tolist(), x.device)
x + torch.ones(3)
"""

COMPILED = "tests/deploy/test_optimize.py::test_on_a_gpu[True]"
FOLDERS = ("data_sets", "layers", "losses", "metrics", "deploy", "engine", "test_device.py")
# Tens of thousands of calls into the stand-in: half of the time of all the others.
ALL_CANDIDATES = (
    "tests/engine/test_on_a_gpu.py::test_losses_and_weights_are_those_of_the_cpu[search of blocks, all candidates]",
    "tests/engine/test_synchronisation.py::test_no_step_waits_for_a_gpu[search of blocks, all candidates]",
)


@pytest.mark.parametrize("left_out", [ALL_CANDIDATES, pytest.param((), marks=pytest.mark.long)], ids=["short", "all"])
def test_what_is_marked_gpu_gives_the_numbers_of_the_cpu_with_all_tensors_in_place(python, left_out):
    deselected = [word for name in (COMPILED, *left_out) for word in ("--deselect", name)]
    done = python(*MARKED, *(f"tests/{folder}" for folder in FOLDERS), *deselected)
    assert re.fullmatch(r"\d+ passed, \d+ deselected.*", done.stdout.splitlines()[-1]), done.stdout + done.stderr


def test_the_stand_in_refuses_what_a_gpu_refuses(python):
    done = python("-c", STRANGERS)
    assert done.stdout.strip() == "[0.0, 2.0, 4.0] cuda:0"
    assert "Expected all tensors on cuda:0" in done.stderr and done.returncode
