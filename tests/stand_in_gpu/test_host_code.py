"""Steps in torch's own CUDA code up to the launch of each kernel, on a machine without a GPU."""
from __future__ import annotations

import re

SPLIT_BY_CUDNN = """
import torch
from torch import nn
from torchreid_nas.layers import SplitBatchNorm2d
split = SplitBatchNorm2d(nn.BatchNorm2d(8)).cuda()
with torch.backends.cudnn.flags(enabled=True):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.empty(4, 8, 6, 3, device="cuda").contiguous(memory_format=memory_format).requires_grad_()
        split(x).sum().backward()
print("done", flush=True)
"""

COMPILED = """
import torch
from torchreid_nas.models import two_stream_resnet18
model = two_stream_resnet18(8, "split", pretrained=False, width=0.125).eval()
network = model.deploy("infrared").optimize("bf16", compile=True, device="cuda")
for count in (8, 3):
    features = network(torch.zeros(count, 3, 64, 32, device="cuda"))
    print(features.device, features.dtype, tuple(features.shape))
"""

WAITING = """
import torch
x = torch.ones(3, device="cuda")
torch.cuda.set_sync_debug_mode("error")
x.sum().item()
"""


def test_no_step_waits_in_torchs_own_cuda_code(python):
    done = python("-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests/engine/test_synchronisation.py", host=True)
    assert re.fullmatch(r"\d+ passed.*", done.stdout.splitlines()[-1]), done.stdout + done.stderr


def test_a_split_batchnorm_passes_what_torch_and_cudnn_check(python):
    done = python("-c", SPLIT_BY_CUDNN, host=True)
    assert done.stdout == "done\n", done.stderr
    assert done.stderr.count("stand-in cuDNN: forward") == done.stderr.count("stand-in cuDNN: backward") == 4


def test_a_network_is_compiled_for_a_gpu(python):
    done = python("-c", COMPILED, host=True)
    assert done.stdout.splitlines() == ["cuda:0 torch.float32 (8, 64)", "cuda:0 torch.float32 (3, 64)"], done.stderr


def test_waiting_is_found(python):
    done = python("-c", WAITING, host=True)
    assert "called a synchronizing CUDA operation" in done.stderr and done.returncode


def test_a_searched_step_takes_the_memory_of_a_shared_one(python):
    done = python("benchmarks/launches.py", "--repetitions", "1", host=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("|")]
    steps = {(row[0], row[1]): (int(row[2].replace(",", "")), float(row[5])) for row in rows[2:]}
    assert len(steps) == 14, done.stderr
    for precision in ("fp32 NCHW", "bf16 channels-last"):
        for step in ("split, training step", "searched, weight step"):
            assert steps[precision, step][1] <= 1.1 < 1.5 < steps[precision, "searched, plain, weight step"][1]
        ours, plain = (steps[precision, f"{name}, architecture step"][1] for name in ("searched", "searched, plain"))
        assert ours <= 0.6 * plain
        split, plain, searched = (
            steps[precision, step][0] for step in ("split, training step", "split, plain", "searched, weight step")
        )
        assert 0 < split < plain < searched
