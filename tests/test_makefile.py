"""``make demo``: the start from ImageNet, and the small network from scratch where there are no ImageNet weights."""
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def make_demo(folder, weights_code, run_code=0, target="demo"):
    """Run the target with a stand-in for the command line; return exit code, output and the calls."""
    tool, calls = folder / "torchreid-nas", folder / "calls"
    calls.write_text("")
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1" != weights ] && exit {run_code}\nexit {weights_code}\n')
    tool.chmod(0o755)
    # --old-file: the environment is not set up.
    done = subprocess.run(
        ["make", "--old-file=setup", target, f"BIN={folder}"], cwd=ROOT, capture_output=True, text=True,
    )
    return done.returncode, done.stdout, calls.read_text().splitlines()


def test_make_demo_starts_from_imagenet(tmp_path):
    code, output, calls = make_demo(tmp_path, weights_code=0)
    assert code == 0 and calls == ["weights fetch mobilenetv2", "--config demo --resume"]
    assert "from scratch" not in output


def test_without_imagenet_weights_make_demo_says_so_and_trains_from_scratch(tmp_path):
    code, output, calls = make_demo(tmp_path, weights_code=2)
    assert code == 0 and calls == ["weights fetch mobilenetv2", "--config demo_scratch --resume"]
    assert "without ImageNet weights a small network learns from scratch" in output


@pytest.mark.parametrize("weights_code", [0, 2])
def test_a_demo_that_fails_fails_make_and_starts_no_other(tmp_path, weights_code):
    code, _, calls = make_demo(tmp_path, weights_code, run_code=2)
    assert code != 0 and len(calls) == 2


def test_make_demo_scratch_is_the_demo_of_before(tmp_path):
    assert make_demo(tmp_path, weights_code=0, target="demo-scratch")[2] == ["--config demo_scratch --resume"]
