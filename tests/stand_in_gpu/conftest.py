"""Python beside a stand-in for a GPU."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stand_in_gpu.run import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A function that runs Python with arguments as beside a GPU.

    What is printed tells how it went, not the exit code: now and then torch's threads for a device that is none end the
    process by a signal when all is done.
    """
    environments = {}

    def run(*arguments: str, host: bool = False) -> subprocess.CompletedProcess:
        if host not in environments:
            try:
                environments[host] = environment(tmp_path_factory.mktemp("stand_in"), host)
            except RuntimeError as error:
                pytest.skip(f"the stand-in cannot be built: {error}")
            if "cuda:0" not in run("-c", "import torch; print(torch.ones(2, device='cuda').device)", host=host).stdout:
                pytest.skip("the stand-in was written for calls of another torch into NVIDIA's libraries")
        return subprocess.run(
            [sys.executable, *arguments], env=environments[host], cwd=ROOT, capture_output=True, text=True, timeout=1200
        )

    return run
