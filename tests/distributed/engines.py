"""The pieces that are whole trainings: epochs of each engine on generated images.

The numbers of a training are its weights, the states of its optimisers and averages, its memories and its history. In float64
they show that the arithmetic is that of one process. In float32 a network with hard triplets soon goes another way from a
difference in the last digit, on one process, too: there the learning rate is small and losses and weights are compared.
"""
from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from cifar import write_cifar100
from pieces import ONLY_TWO, PIECES, Result
from tiny import EXACT, PLAIN, TINY, TINY_CDNET, TINY_ECN
from torch import Tensor

from torchreid_nas import distributed
from torchreid_nas.config import load_config
from torchreid_nas.data.synthetic import SyntheticSettings, write_dukemtmcreid, write_market1501, write_regdb
from torchreid_nas.engine import domain_adaptation
from torchreid_nas.run.build import search_engine, train_engine
from torchreid_nas.run.setup import RunSetup

# With Adam a weight without a gradient, as a shift before a BatchNorm, moves by what rounding leaves of the gradient.
SGD = {"train.optim": "sgd", "train.lr": 0.02, "train.warmup_epochs": 0}
CMNAS = {
    **TINY, **SGD, "model.architecture": "split", "train.batch_size": 24, "train.num_batches": 2, "train.max_epoch": 2,
    "search.max_epoch": 1, "search.interval": 1, "search.warmup_epochs": 0,
}
CDNET = {
    **TINY_CDNET, **SGD, "model.architecture": "cdnet", "train.batch_size": 12, "train.num_batches": 2, "train.max_epoch": 1,
    "search.max_epoch": 1, "data.height": 32, "data.width": 16,
}
ECN = {
    **TINY_ECN, **SGD, "train.batch_size": 12, "train.max_epoch": 2, "ecn.batch_size_target": 6, "ecn.neighbour_epoch": 1,
    "ecn.momentum_step": 0.3, "data.height": 32, "data.width": 16,
}
CLASSES = {
    **EXACT, **PLAIN, **SGD, "task": "classification", "model.name": "cdnet", "model.architecture": "cdnet",
    "model.width": 0.125, "model.pretrained": False, "model.small_images": True, "data.sources": ["cifar100"],
    "data.targets": ["cifar100"], "data.height": 16, "data.width": 16, "data.workers": 0, "train.batch_size": 12,
    "train.max_epoch": 1, "train.staged_lr": False, "data.transforms": ["random_flip", "pad_crop", "cutout"],
}
FLOAT32 = {"train.lr": 1e-5, "train.max_epoch": 1}
# Time, and a share of neighbours: of entries that are zero still any may be the nearest.
UNLIKE = ("seconds", "neighbour_precision")
DATA: list[Path] = []


class Training(NamedTuple):
    """A training of the table: its stage, its config, and how it is computed."""

    stage: str
    changes: Mapping[str, Any]
    three: bool = False
    resumed: bool = False
    float32: bool = False


TRAININGS = {
    "CM-NAS, split": Training("train", CMNAS, three=True),
    "CM-NAS, two batches a step, fused, held-out identities": Training(
        "train", {**CMNAS, "train.fused": True, "train.accumulate": 2, "train.num_batches": 3, "train.holdout": 0.25,
                  "train.eval_freq": 1},
    ),
    "CM-NAS, resumed after the first epoch of one process": Training("train", CMNAS, resumed=True),
    "AGW with CAJ's [visible; visible; infrared]": Training(
        "train", {**CMNAS, "model.name": "agw_resnet18", "model.architecture": "share", "data.channels.visible": "exchange",
                  "data.channels.second_visible": "exchange", "loss.triplet.kind": "squared_difference"}, three=True,
    ),
    "CM-NAS's search": Training("search", {**CMNAS, "search.method": "gradient"}, three=True),
    "CM-NAS's search, second order, Gumbel": Training(
        "search", {**CMNAS, "search.method": "gradient", "search.order": 2, "search.sampling": "gumbel"},
    ),
    "CM-NAS's search by paths": Training("search", {**CMNAS, "search.method": "paths"}),
    "CDNet": Training("train", CDNET),
    "CDNet's search": Training("search", CDNET),
    "classes, CDNet": Training("train", CLASSES),
    "ECN": Training("train", ECN, three=True),
    "ECN, resumed after the first epoch of one process": Training("train", ECN, resumed=True),
    "ECN, memory from features, after an epoch of the source": Training(
        "train", {**ECN, "ecn.memory_init": "features", "ecn.target_epoch": 1},
    ),
    "ECN++": Training("train", {**ECN, "ecn.positive_prediction": True, "ecn.num_candidates": 12}),
    "CM-NAS, split, float32": Training("train", {**CMNAS, **FLOAT32}, float32=True),
    "ECN, float32": Training("train", {**ECN, **FLOAT32}, float32=True),
}


def numbers_of(state: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the numbers of a nested state by their names."""
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from numbers_of(value, f"{name} {key}".strip())
    elif isinstance(state, (list, tuple)):
        for number, value in enumerate(state):
            yield from numbers_of(value, f"{name} {number}")
    elif isinstance(state, (int, float)):
        # The score before the first look is the smallest that there is.
        yield name, torch.tensor(max(float(state), -1.0))


def in_float64() -> ExitStack:
    """Return a block in which networks, images and losses are in float64."""
    stack = ExitStack()
    torch.set_default_dtype(torch.float64)
    stack.callback(torch.set_default_dtype, torch.float32)
    stack.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
    stack.enter_context(mock.patch.object(torch, "float32", torch.float64))
    stack.enter_context(mock.patch.dict(domain_adaptation._DTYPES, float32=torch.float64))
    return stack


def run(training: Training, folder: Path, epochs: int | None = None) -> dict[str, Any]:
    """Run a training in a folder, from the checkpoint that the folder holds, and return the state of its engine."""
    keys = {
        "data.root": DATA[0], "data.save_dir": folder, "data.cache": "on" if training.float32 else "off",
        **training.changes,
    }
    setup = RunSetup.of(load_config(None, [str(part) for item in keys.items() for part in item]))
    engine = train_engine(setup) if training.stage == "train" else search_engine(setup)[0]
    engine.test_loader = {}
    section = setup.cfg.train if training.stage == "train" else setup.cfg.search
    engine.run(save_dir=folder, max_epoch=epochs or section.max_epoch, start_epoch=engine.resume(folder))
    state: dict[str, Any] = engine.state_dict()
    return state


def train(title: str) -> Result:
    """Run a training as one of the processes, and return its numbers."""
    training = TRAININGS[title]
    with tempfile.TemporaryDirectory() as name, ExitStack() if training.float32 else in_float64():
        folder = Path(name)
        if training.resumed:
            shutil.copytree(DATA[0] / "begun" / title, folder, dirs_exist_ok=True)
        # The process 0 has the entries of all.
        state = distributed.broadcast_object(run(training, folder))
    rows = [json.loads(line) for line in state.pop("history").splitlines()]
    history = [{key: value for key, value in row.items() if key not in UNLIKE} for row in rows]
    state = {"model": state["model"]} if training.float32 else state
    return dict(numbers_of({**state, "history": history}, ""))


def write_data(root: Path) -> None:
    """Write the images of all trainings and the folders of those that are resumed, before the processes start."""
    DATA.append(root)
    write_regdb(root, SyntheticSettings(identities=48, images=2, height=48, width=24))
    small = SyntheticSettings(identities=12, images=2, height=32, width=16)
    write_market1501(root, small)
    write_dukemtmcreid(root, small)
    write_cifar100(root, images=48, classes=8)
    with in_float64():
        for title, training in TRAININGS.items():
            if training.resumed:
                run(training, root / "begun" / title, epochs=1)


for title, training in TRAININGS.items():
    PIECES[f"training: {title}"] = lambda title=title: train(title)
    if not training.three:
        ONLY_TWO.add(f"training: {title}")
