"""``--dry-run``: what a run would do and cost, without training; of what it writes, only generated and decoded images stay."""
from __future__ import annotations

__all__ = ["dry_run"]

import logging
import resource
import sys
import time
from collections.abc import Sequence

import torch
from tabulate import tabulate

from torchreid_nas.config import config_to_yaml
from torchreid_nas.engine import BilevelSearch, DomainAdaptationEngine
from torchreid_nas.models.size import model_size
from torchreid_nas.run.stages import Run

logger = logging.getLogger(__name__)
_STEPS = 4


def dry_run(run: Run, stages: Sequence[str]) -> None:
    """Print the resolved config, the data found, and size, time and memory of each stage's step.

    Raises:
        InputError: what would stop the run.
    """
    logger.info(config_to_yaml(run.cfg))
    run.prepare(stages)
    rows = []
    if "search" in stages:
        rows.append(["search", *_measure(run.search_engine()[0])])
    if "train" in stages:
        searched = run.cfg.model.architecture == "search" and not run.folder.is_searched()
        if searched:
            logger.info(f"the architecture is not searched yet: {run.task.plain_architecture} stands in for the one to be found")
        rows.append(["train", *_measure(run.train_engine(run.task.plain_architecture if searched else None))])
    if "test" in stages:
        run.test_data()
    headers = ["stage", "parameters", "at test time", "MACs per image", "steps per epoch", "s per step", "peak memory"]
    logger.info(tabulate(rows, headers=headers, disable_numparse=True) if rows else "no stage that trains")


def _first_full_epoch(engine) -> int:
    """Past the warm-up of a search, where architecture steps come too; from where the target takes part."""
    if isinstance(engine, BilevelSearch):
        return engine.search.warmup_epochs
    return engine.adaptation.target_epoch if isinstance(engine, DomainAdaptationEngine) else 0


def _measure(engine) -> list[str]:
    """Time a few steps on real batches, the first apart; the engine is thrown away afterwards."""
    images = next(iter(engine.train_loader))["img"]
    with engine.uncompiled():
        in_all, at_test, macs = model_size(engine.model, *images.shape[-2:])
    engine.model.train()
    engine.epoch = _first_full_epoch(engine)
    engine.begin_epoch()
    on_gpu = engine.options.device.type == "cuda"
    times = []
    for engine.batch_idx, data in zip(range(_STEPS), engine.train_loader):
        start = time.perf_counter()
        engine.forward_backward(data)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    steady = times[1:] or times
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    peak = torch.cuda.max_memory_allocated() if on_gpu else (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    )
    return [
        f"{in_all:,}", f"{at_test:,}", f"{macs / 1e6:,.1f} M", str(len(engine.train_loader)),
        f"{sum(steady) / len(steady):.3f}", f"{peak / 2**30:.2f} GiB",
    ]
