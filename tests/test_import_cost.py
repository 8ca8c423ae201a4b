"""What an import of the package adds to torchreid's own: nothing heavy before its first use."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys
import torchreid
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
# What reads configs and shows bars.
LIGHT = {"yacs", "yaml", "_yaml", "tqdm", "filelock"}


def added(module):
    """Return the modules that an import adds to those that torchreid has imported already."""
    call = [sys.executable, "-W", "ignore", "-c", CODE.format(module=module)]
    return json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def test_the_import_adds_only_light_packages_to_torchreids():
    packages = {name.partition(".")[0] for name in added("torchreid_nas")}
    foreign = {name for name in packages if name not in sys.stdlib_module_names and name != "torchreid_nas"}
    assert foreign <= LIGHT


def test_the_import_adds_no_part_of_torch_that_only_a_run_needs():
    names = added("torchreid_nas")
    for heavy in ("torchvision.models", "torch.utils.tensorboard", "tensorboard", "torch.onnx", "torch._inductor"):
        assert not [name for name in names if name == heavy or name.startswith(f"{heavy}.")], heavy


@pytest.mark.parametrize("module", ["report", "search", "features.figures", "camstyle.figures", "run.pictures", "cli"])
def test_only_drawing_imports_matplotlib(module):
    assert not [name for name in added(f"torchreid_nas.{module}") if name.partition(".")[0] == "matplotlib"]
