"""What an import of the package adds to torchreid's own: nothing heavy before its first use."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fresh import fresh_processes

CODE = """
import json, sys
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
# What reads configs and shows bars.
LIGHT = {"yacs", "yaml", "_yaml", "tqdm", "filelock"}


@pytest.fixture(scope="module")
def added():
    """A function that returns the modules that an import adds to those that torchreid has imported already."""
    with fresh_processes("torchreid", path=[str(Path(__file__).resolve().parents[1])]) as fresh:

        def added(module: str) -> list[str]:
            done = fresh(CODE.format(module=module))
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield added


def test_the_import_adds_only_light_packages_to_torchreids(added):
    packages = {name.partition(".")[0] for name in added("torchreid_nas")}
    foreign = {name for name in packages if name not in sys.stdlib_module_names and name != "torchreid_nas"}
    assert foreign <= LIGHT


def test_the_import_adds_no_part_of_torch_that_only_a_run_needs(added):
    names = added("torchreid_nas")
    for heavy in ("torchvision.models", "torch.utils.tensorboard", "tensorboard", "torch.onnx", "torch._inductor"):
        assert not [name for name in names if name == heavy or name.startswith(f"{heavy}.")], heavy


@pytest.mark.parametrize("module", ["report", "search", "features.figures", "camstyle.figures", "run.pictures", "cli"])
def test_only_drawing_imports_matplotlib(added, module):
    assert not [name for name in added(f"torchreid_nas.{module}") if name.partition(".")[0] == "matplotlib"]
