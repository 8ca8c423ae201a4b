"""``--dry-run``: what a run would do and cost, without training or writing anything."""
from __future__ import annotations

__all__ = ["dry_run", "model_size"]

import resource
import sys
import time
from typing import Sequence

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas.config import config_to_yaml
from torchreid_nas.layers import modality_context
from torchreid_nas.pipeline import Run

_STEPS = 3


def model_size(model: nn.Module, height: int, width: int) -> tuple[int, int, int]:
    """Return parameters in all, parameters used at test time, and MACs of one image of one modality."""
    in_all = sum(p.numel() for p in model.parameters())
    classifier = sum(p.numel() for p in model.classifier.parameters())
    was_training = model.training
    image = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    with torch.no_grad(), modality_context("visible"), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    return in_all, in_all - classifier, counter.get_total_flops() // 2


def dry_run(run: Run, stages: Sequence[str]) -> None:
    """Print the resolved config, the data found, and size, time and memory of each stage's step."""
    print(config_to_yaml(run.cfg))
    run.provide_data()
    rows = []
    if "search" in stages:
        rows.append(["search", *_measure(run.search_engine()[0])])
    if "train" in stages:
        searched = run.cfg.model.architecture == "search" and not (run.folder / "architecture.json").exists()
        if searched:
            print("the architecture is not searched yet: a network that splits all stands in for the one to be found")
        rows.append(["train", *_measure(run.train_engine("split" if searched else None))])
    headers = ["stage", "parameters", "at test time", "MACs per image", "steps per epoch", "s per step", "peak memory"]
    print(tabulate(rows, headers=headers, disable_numparse=True) if rows else "no stage that trains")


def _measure(engine) -> list[str]:
    """Time the median of a few steps on real batches; the engine is thrown away afterwards."""
    images = next(iter(engine.train_loader))["img"]
    in_all, at_test, macs = model_size(engine.model, *images.shape[-2:])
    engine.model.train()
    engine.epoch, engine.batch_idx = 0, 0
    engine.begin_epoch()
    on_gpu = engine.options.device.type == "cuda"
    times = []
    for _, data in zip(range(_STEPS), engine.train_loader):
        start = time.perf_counter()
        engine.forward_backward(data)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    peak = torch.cuda.max_memory_allocated() if on_gpu else (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    )
    return [
        f"{in_all:,}", f"{at_test:,}", f"{macs / 1e6:,.1f} M", str(len(engine.train_loader)),
        f"{sorted(times)[len(times) // 2]:.3f}", f"{peak / 2**30:.2f} GiB",
    ]
