"""Precision: where channels-last would corrupt memory it is left alone."""
from __future__ import annotations

import logging
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from torchreid_nas.device import endangered_by_channels_last
from torchreid_nas.engine.precision import Precision
from torchreid_nas.models import cdnet, two_stream_resnet18

CPU = torch.device("cpu")


def narrow(width):
    return two_stream_resnet18(2, architecture="share", pretrained=False, width=width)


@pytest.mark.parametrize(("model", "expected"), [
    (lambda: narrow(0.0625), "backbone.layer2.0.downsample.0"), (lambda: narrow(0.125), "backbone.layer2.0.downsample.0"),
    (lambda: narrow(0.25), None), (lambda: cdnet(2, width=0.125), None),
    (lambda: nn.Conv2d(8, 8, 1), None), (lambda: nn.Conv2d(8, 8, 3, stride=2), None),
])
def test_networks_in_danger_are_known_by_their_convolutions(model, expected):
    assert endangered_by_channels_last(model()) == expected


@pytest.mark.parametrize(("amp", "width", "kept"), [
    ("none", 0.0625, False), ("none", 0.25, True), ("bf16", 0.0625, True),
])
def test_channels_last_is_left_with_a_note_where_it_corrupts_memory(caplog, amp, width, kept):
    precision = Precision(CPU, amp, channels_last=True)
    with caplog.at_level(logging.INFO, "torchreid_nas"):
        precision.place(narrow(width))
    assert precision.channels_last == kept
    images = precision.to_device(torch.zeros(2, 3, 8, 4))
    assert images.is_contiguous(memory_format=torch.channels_last if kept else torch.contiguous_format)
    assert ("train.channels_last is left alone" in caplog.text) == (not kept)
    caplog.clear()
    with caplog.at_level(logging.INFO, "torchreid_nas"):
        Precision(CPU, amp, channels_last=True).place(narrow(width), trains=False)
    assert not caplog.text, "a test has no backward pass, so that the note is none of its own"


@pytest.mark.parametrize("width", [0.0625, 0.125])
def test_a_narrow_network_trains_on_a_cpu_without_a_crash(width):
    """In a process of its own, for torch ended it by SIGSEGV."""
    step = textwrap.dedent(f"""
        import torch
        from torchreid_nas.engine.precision import Precision
        from torchreid_nas.models import two_stream_resnet18
        precision = Precision(torch.device("cpu"), "none", channels_last=True)
        model = precision.place(two_stream_resnet18(2, architecture="share", pretrained=False, width={width}))
        for _ in range(2):
            logits = model(precision.to_device(torch.randn(8, 3, 288, 144)))[0]
            logits.float().sum().backward()
    """)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", step], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
