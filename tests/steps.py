"""Steps of every engine, for tests."""
from __future__ import annotations

from tiny import TINY_CDNET, TINY_ECN
from torch import nn

from torchreid_nas.run.build import search_engine, train_engine
from torchreid_nas.run.setup import RunSetup

ENGINES = {
    "cross-modality": ("train", {"model.architecture": "split"}),
    "cross-modality, half precision": (
        "train", {"model.architecture": "split", "train.amp": "bf16", "train.channels_last": True, "train.accumulate": 2}
    ),
    "balance neck": ("train", {**TINY_CDNET, "model.architecture": "cdnet"}),
    "domain adaptation": ("train", {**TINY_ECN, "ecn.neighbour_epoch": 0, "ecn.momentum_step": 0.1}),
    "positive prediction": (
        "train", {**TINY_ECN, "ecn.neighbour_epoch": 0, "ecn.momentum_step": 0.1, "ecn.positive_prediction": True,
                  "ecn.num_candidates": 12}
    ),
    "search of BatchNorms": ("search", {"search.method": "gradient", "search.interval": 1}),
    "search of BatchNorms by paths": ("search", {"search.method": "paths"}),
    "search of BatchNorms, second order": (
        "search", {"search.method": "gradient", "search.interval": 1, "search.order": 2, "search.sampling": "gumbel"},
    ),
    "search of blocks, all candidates": ("search", {**TINY_CDNET, "search.relaxation": "softmax"}),
}


def prepared(tiny_config, kind, **more):
    """Return an engine in the middle of training, two batches for it, and what it keeps beside its model."""
    stage, changes = ENGINES[kind]
    setup = RunSetup.of(tiny_config(**{**changes, **more}))
    engine = train_engine(setup) if stage == "train" else search_engine(setup)[0]
    engine.epoch = 2
    engine.begin_epoch()
    engine.model.train()
    memories = [part for part in (getattr(engine, "memory", None), getattr(engine, "_positives", None)) if part is not None]
    modules = [part if isinstance(part, nn.Module) else part.network for part in memories]
    return engine, list(zip(range(2), engine.train_loader)), modules
