"""``--dry-run``: what a run would do and cost. Nothing is trained or fetched; only generated and decoded images are written."""
from __future__ import annotations

__all__ = ["dry_run"]

import logging
import resource
import sys
import time
from collections.abc import Sequence

import torch
from tabulate import tabulate
from yacs.config import CfgNode

from torchreid_nas.config import change_config, config_to_yaml
from torchreid_nas.engine import BilevelSearch, DomainAdaptationEngine, ResumableEngine
from torchreid_nas.hub.imagenet import cached_weights, weights_of_model
from torchreid_nas.models.size import model_size
from torchreid_nas.run import build, guards
from torchreid_nas.run.folder import SEARCHED
from torchreid_nas.run.setup import RunSetup

_STEPS = 4
_HEADERS = ["stage", "parameters", "at test time", "MACs per image", "steps per epoch", "s per step", "peak memory"]
logger = logging.getLogger(__name__)


def dry_run(cfg: CfgNode, stages: Sequence[str], verbose: bool = False) -> None:
    """Show the data, the models, and the size, time and memory of a step of each stage.

    Args:
        cfg: see :mod:`torchreid_nas.config`.
        stages: in their order.
        verbose: show the resolved config as well.

    Raises:
        InputError: what would stop the run.
    """
    setup = RunSetup.of(cfg)
    guards.check_needs(setup, stages)
    measured = _without_download(setup) if {"search", "train"} & set(stages) else setup
    rows = []
    if "search" in stages:
        rows.append(["search", *_measure(build.search_engine(measured)[0])])
    if "train" in stages:
        plain = setup.method.plain_architecture
        unknown = setup.asks_for_advice() or setup.cfg.model.architecture == SEARCHED and not setup.folder.is_searched()
        if unknown:
            logger.info(f"the architecture is not known yet: {plain} stands in for the one to be found")
        rows.append(["train", *_measure(build.train_engine(measured, plain if unknown else None))])
    if "test" in stages:
        build.read_data(setup, setup.cfg.data.targets)
    logger.info(tabulate(rows, headers=_HEADERS, disable_numparse=True) if rows else "no stage that trains")
    logger.info(config_to_yaml(setup.cfg) if verbose else "nothing was trained; --verbose shows every key of the config")


def _without_download(setup: RunSetup) -> RunSetup:
    """Return the setup with random weights where ImageNet's are not here yet: a step costs the same, and nothing is fetched."""
    known = weights_of_model(setup.cfg.model.name) if setup.method.pretrained() is True else None
    if known is None or cached_weights(known).exists():
        return setup
    logger.info(
        f'a run fetches "{known.file}" ({known.title}, {known.size / 1e6:.0f} MB) from {known.address} or the package '
        f"{known.package} first; the dry run measures with random weights"
    )
    return RunSetup.of(change_config(setup.cfg, {"model.pretrained": ""}, "the dry run"))


def _first_full_epoch(engine: ResumableEngine) -> int:
    """Return the first epoch that costs all: after the warm-up of a search, and once the target takes part."""
    if isinstance(engine, BilevelSearch):
        return int(engine.search.warmup_epochs)
    return engine.adaptation.target_epoch if isinstance(engine, DomainAdaptationEngine) else 0


def _measure(engine: ResumableEngine) -> list[str]:
    """Time a few steps on real batches without the first one; the engine is thrown away afterwards."""
    images = next(iter(engine.train_loader))["img"]
    with engine.uncompiled():
        in_all, at_test, macs = model_size(engine.model, *images.shape[-2:])
    engine.model.train()
    engine.epoch = _first_full_epoch(engine)
    engine.begin_epoch()
    on_gpu = engine.options.device.type == "cuda"
    times = []
    for index, data in zip(range(_STEPS), engine.train_loader):
        engine.batch_idx = index
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
