"""What the stages of a run are made of: the data and the engines."""
from __future__ import annotations

__all__ = ["evaluation_engine", "path_search_engine", "provide_data", "read_data", "search_engine", "train_engine"]

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.checkpoints.load import checkpoint_num_classes, classifier_size, load_weights
from torchreid_nas.data import ReIDDataManager, dataset_facts
from torchreid_nas.data.synthetic import LAYOUTS, SyntheticSettings, write_attributes, write_dataset
from torchreid_nas.data.synthetic.attributes import ATTRIBUTES
from torchreid_nas.engine import (
    CrossModalityPathSearchEngine,
    EvaluationOptions,
    PathOptions,
    ResumableEngine,
    SearchOptions,
    seed_everything,
)
from torchreid_nas.errors import InputError
from torchreid_nas.optim import build_lr_scheduler, build_optimizer, fuse
from torchreid_nas.run.data_file import quick_summary
from torchreid_nas.run.folder import SEARCHED
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.search import BNSplitSpace, SearchSpace
from torchreid_nas.zoo.networks import entry_architecture

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _SearchData:
    """What the search engine asks of a data manager: the weights' part of the training data."""

    train_loader: Any
    num_train_pids: int
    sources: Sequence[str]
    whole: ReIDDataManager
    test_loader: dict[str, Any] = dataclasses.field(default_factory=dict)


def provide_data(cfg: CfgNode) -> None:
    """Write the synthetic stand-in where the config asks for one."""
    if not cfg.synthetic.enabled:
        return
    settings = SyntheticSettings(**{key: value for key, value in cfg.synthetic.items() if key != "enabled"})
    if cfg.task == "classification":
        if ATTRIBUTES in (*cfg.data.sources, *cfg.data.targets):
            logger.info(f"== generated persons by what they wear: {write_attributes(cfg.data.root, settings)}")
        return
    layouts = {dataset_facts(name).stand_in for name in (*cfg.data.sources, *cfg.data.targets)}
    for layout in LAYOUTS:
        if layout in layouts:
            logger.info(f"== synthetic stand-in for {layout}: {write_dataset(layout, cfg.data.root, settings)}")


def read_data(setup: RunSetup, targets: Sequence[str], holdout: float = 0.0) -> ReIDDataManager:
    """Return the data manager and say what it found.

    Args:
        setup: of the run.
        targets: data sets to test on; empty for a training.
        holdout: share of the training identities that is held out.

    Raises:
        InputError: the data are missing or do not suit the config.
    """
    data = setup.method.data(targets, holdout)
    logger.info(data.summary())
    # The checks of the doctor are about persons and cameras; a search and its training read the same data sets.
    if not targets and setup.cfg.task == "reid" and "quick checks" not in setup.said:
        setup.said.add("quick checks")
        logger.info(quick_summary(data))
    return data


def search_engine(setup: RunSetup) -> tuple[ResumableEngine, SearchSpace]:
    """Return the engine of the search, whose model is the supernet, and the search space.

    Raises:
        InputError: the data, the model or the space do not suit each other.
    """
    if setup.method.searches_paths(setup.cfg):
        by_paths = path_search_engine(setup)
        return by_paths, by_paths.space
    return _gradient_search(setup)


def _search_data(setup: RunSetup) -> tuple[_SearchData, Any]:
    """Return the weights' part of the training data, and the loader of the architecture's part."""
    seed_everything(setup.cfg.train.seed)
    data = read_data(setup, targets=[])
    train_loader, val_loader, num_pids = setup.method.search_split(data)
    return _SearchData(train_loader, num_pids, data.sources, data), val_loader


def _gradient_search(setup: RunSetup) -> tuple[ResumableEngine, SearchSpace]:
    cfg, search, method = setup.cfg, setup.cfg.search, setup.method
    data, val_loader = _search_data(setup)
    model = method.build_unsearched(data.num_train_pids)
    model = method.space().build_supernet(model).to(setup.device)
    space = method.space(model)
    logits = space.architecture_parameters(model)
    ids = {id(tensor) for tensor in logits}
    optimizer: torch.optim.Optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad and id(p) not in ids], lr=search.lr,
        momentum=search.momentum, weight_decay=search.weight_decay,
    )
    architecture_optimizer: torch.optim.Optimizer = torch.optim.Adam(
        logits, lr=search.arch_lr, betas=(search.arch_beta1, search.arch_beta2), weight_decay=search.arch_weight_decay,
    )
    if cfg.train.fused:
        optimizer, architecture_optimizer = fuse(optimizer), fuse(architecture_optimizer)
    warmup = min(search.warmup_epochs, search.max_epoch - 1)
    if warmup < search.warmup_epochs:
        logger.info(f"search.warmup_epochs {search.warmup_epochs} shortened to {warmup}: search.max_epoch is {search.max_epoch}")
    # An engine with the mix-in BilevelSearch, which adds arguments to those of ResumableEngine.
    engine_class: Any = method.search_class
    engine: ResumableEngine = engine_class(
        data, model, optimizer,
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, search.max_epoch, search.lr_min), space=space,
        val_loader=val_loader, architecture_optimizer=architecture_optimizer,
        search=SearchOptions(
            warmup_epochs=warmup, interval=search.interval, order=search.order, grad_clip=search.grad_clip,
            temperature=search.temperature, temperature_decay=search.temperature_decay,
            arch_stepsize=search.arch_stepsize, arch_gamma=search.arch_gamma, patience=search.patience,
            **method.search_options(),
        ),
        options=dataclasses.replace(method.training_options(), ema=0.0), **method.engine_options(),
    )
    return engine, space


def path_search_engine(setup: RunSetup) -> CrossModalityPathSearchEngine:
    """Return the engine of a search by paths, whose weights are trained as ``train`` says, in ``search.max_epoch`` epochs.

    Raises:
        InputError: the data, the model or the space do not suit each other.
    """
    method = setup.method
    data, val_loader = _search_data(setup)
    cfg = setup.cfg.clone()
    cfg.defrost()
    share = cfg.search.max_epoch / cfg.train.max_epoch
    cfg.train.max_epoch = cfg.search.max_epoch
    cfg.train.stepsize = sorted({max(1, round(epoch * share)) for epoch in cfg.train.stepsize})
    # Scales and shifts of the candidates are trained: each path is a network of its own.
    space = BNSplitSpace(train_affine=True)
    model = space.build_supernet(method.build_unsearched(data.num_train_pids)).to(setup.device)
    optimizer = build_optimizer(model, cfg)
    engine_class: Any = method.path_search_class
    engine: CrossModalityPathSearchEngine = engine_class(
        data, model, optimizer, build_lr_scheduler(optimizer, cfg), space=space, val_loader=val_loader,
        paths=PathOptions(cfg.search.paths, margin=cfg.search.margin),
        options=dataclasses.replace(method.training_options(), ema=0.0),
        **method.engine_options(),
    )
    return engine


def train_engine(setup: RunSetup, architecture: ArchitectureSpec | None = None) -> ResumableEngine:
    """Return the engine of the training.

    Args:
        setup: of the run.
        architecture: of the network; None takes the architecture of the config.

    Raises:
        InputError: the data, the model or the architecture cannot be had or do not suit each other.
    """
    cfg, method = setup.cfg, setup.method
    seed_everything(cfg.train.seed)
    data = read_data(setup, targets=[], holdout=cfg.train.holdout)
    found = architecture is None and cfg.model.architecture == SEARCHED
    architecture = architecture or setup.architecture()
    model = method.build_model(data.num_train_pids, architecture)
    if cfg.model.load_weights:
        load_weights(model, cfg.model.load_weights)
    elif cfg.search.keep_weights and found:
        _take_supernet_weights(setup, model)
    logger.info(f"{cfg.model.name}, {architecture}")
    model.to(setup.device)
    optimizer = build_optimizer(model, cfg)
    return method.train_class(
        data, model, optimizer, build_lr_scheduler(optimizer, cfg), method.training_options(), **method.engine_options(),
    )


def evaluation_engine(setup: RunSetup, trains: bool) -> ResumableEngine:
    """Return the engine of the test, its model with the weights to test.

    Args:
        setup: of the run.
        trains: see :meth:`RunSetup.weights`.

    Raises:
        InputError: the data or the weights cannot be had.
    """
    cfg, method = setup.cfg, setup.method
    entry, weights = setup.zoo_entry(trains), setup.weights(trains)
    data = read_data(setup, cfg.data.targets)
    architecture: ArchitectureSpec
    if entry is not None and cfg.model.architecture == SEARCHED:
        architecture = entry_architecture(entry, weights) or "none"
    else:
        architecture = setup.architecture()
    model = method.build_model(checkpoint_num_classes(weights) or 1, architecture, pretrained=False)
    load_weights(model, weights)
    broken = next((name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())), None)
    if broken is not None:
        raise InputError(f'"{weights}" holds numbers that are not finite, as in "{broken}"; train again with a lower train.lr')
    # In full precision: a protocol's figures do not depend on the precision that was cheapest for training.
    options = dataclasses.replace(method.training_options(), ema=0.0, amp="none", compile=False)
    engine = method.train_class(data, model, options=options, **method.engine_options())
    engine.evaluation = EvaluationOptions(cfg.test.precision, cfg.test.compile, cfg.test.flip)
    engine.matrix_bytes = cfg.test.matrix_gib * 2**30
    return engine


def _take_supernet_weights(setup: RunSetup, model: nn.Module) -> None:
    """Start from the weights of the supernet; a classifier for other identities stays new."""
    folder, method = setup.folder.search, setup.method
    state = folder.load_state()["model"]
    supernet = method.build_unsearched(classifier_size(state) or 1, pretrained=False)
    space = method.space()
    space.build_supernet(supernet).load_state_dict(state)
    derived, own = space.derive_network(supernet).state_dict(), model.state_dict()
    model.load_state_dict(
        {key: value for key, value in derived.items() if key in own and own[key].shape == value.shape}, strict=False
    )
