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


@pytest.mark.parametrize("folders", [("data_sets", "layers", "losses", "metrics"), ("deploy", "engine", "test_device.py")])
def test_what_is_marked_gpu_gives_the_numbers_of_the_cpu_with_all_tensors_in_place(python, folders):
    compiled = "tests/deploy/test_optimize.py::test_on_a_gpu[True]"
    done = python(*MARKED, *(f"tests/{folder}" for folder in folders), "--deselect", compiled)
    assert re.fullmatch(r"\d+ passed, \d+ deselected.*", done.stdout.splitlines()[-1]), done.stdout + done.stderr


def test_the_stand_in_refuses_what_a_gpu_refuses(python):
    done = python("-c", STRANGERS)
    assert done.stdout.strip() == "[0.0, 2.0, 4.0] cuda:0"
    assert "Expected all tensors on cuda:0" in done.stderr and done.returncode
