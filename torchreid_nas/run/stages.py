"""The stages of a run — search, train, test — for one config; what each reads and writes."""
from __future__ import annotations

__all__ = ["Run"]

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from yacs.config import CfgNode

import torchreid_nas
from torchreid_nas import report
from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.checkpoints.load import checkpoint_num_classes, classifier_size, load_weights, read_weights, resolve_weights
from torchreid_nas.config import changed_keys, config_to_yaml
from torchreid_nas.data import ReIDDataManager, dataset_facts
from torchreid_nas.data.synthetic import LAYOUTS, SyntheticSettings, write_dataset
from torchreid_nas.device import find_device, resolve_config
from torchreid_nas.engine import BilevelSearch, EvaluationOptions, ResumableEngine, SearchOptions, seed_everything
from torchreid_nas.errors import InputError
from torchreid_nas.files import check_folder, remove_leftovers, write_json, write_text
from torchreid_nas.hub.entry import Entry
from torchreid_nas.methods import make_task
from torchreid_nas.optim import build_lr_scheduler, build_optimizer, check_new_layers, fuse
from torchreid_nas.run.folder import BINDS, DECIDES, SEARCHED, RunFolder
from torchreid_nas.run.published import comparison_table, tested_entry
from torchreid_nas.run.results import result_row
from torchreid_nas.search import SearchSpace
from torchreid_nas.zoo.networks import entry_architecture

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _SearchData:
    """What the search engine asks of a data manager: the weights' part of the training data."""

    train_loader: Any
    num_train_pids: int
    sources: Sequence[str]
    test_loader: dict = dataclasses.field(default_factory=dict)


class Run:
    """One config in one folder.

    Args:
        cfg: see :mod:`torchreid_nas.config`.
        resume: go on with what the folder holds; finished stages are taken over.

    Raises:
        InputError: device, model or architecture that cannot be had.
    """

    def __init__(self, cfg: CfgNode, resume: bool = False) -> None:
        self.device = find_device(cfg.device)
        self.cfg, self.resume = resolve_config(cfg, self.device), resume
        self._trains = False
        self.folder = RunFolder(Path(cfg.data.save_dir))
        self.task = make_task(self.cfg, self.device)
        # Deterministic convolution kernels: the same config and seed give the same numbers on the same machine.
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    # -- the stages -----------------------------------------------------------

    def execute(self, stages: Sequence[str]) -> None:
        """Run the stages in their order.

        Raises:
            InputError: a stage lacks what it needs, or would overwrite another run.
        """
        self.check(stages)
        remove_leftovers(self.folder.path)
        for stage in stages:
            if self.resume and self._finished(stage):
                logger.info(f"== {stage}: finished already, taken over from {self.folder}")
            else:
                logger.info(f"== {stage}: {self.folder}")
                getattr(self, stage)()

    def check(self, stages: Sequence[str]) -> None:
        """Refuse what any of the stages would stumble over, in the folder, config or data, before the first takes its time.

        Raises:
            InputError: see :meth:`execute`.
        """
        check_folder(self.folder.path, "--output")
        for stage in ("search", "train"):
            if stage not in stages or not self.folder.stage(stage).path.exists():
                continue
            if not self.resume:
                raise InputError(
                    f'"{self.folder}" already holds a {stage} stage; add --resume to go on with it, or choose another --output'
                )
            changes = self._changes(stage, DECIDES[stage])
            if changes:
                raise InputError(
                    f'the {stage} stage in "{self.folder}" was made with another setting ({changes[0]}); use the old one '
                    "to resume, or choose another --output"
                )
        if "train" in stages and "search" not in stages:
            self.architecture()
            if self.cfg.model.architecture == SEARCHED:
                self._check_bound("search", f'model.architecture "{self.folder.architecture}"')
        if "test" in stages and "train" not in stages and not self.cfg.model.load_weights:
            self._check_bound("train", f'model.load_weights "{self.folder.train.weights}"')
        self.prepare(stages)

    def prepare(self, stages: Sequence[str]) -> None:
        """Do :meth:`check` but for what the folder holds, which a dry run leaves alone; writes the synthetic stand-in.

        Raises:
            InputError: see :meth:`execute`.
        """
        model = self.cfg.model
        self._trains = "train" in stages
        if "search" in stages:
            if model.architecture != SEARCHED:
                raise InputError(
                    f'model.architecture is "{model.architecture}", so nothing would use what a search finds; '
                    f'leave search out of --stages or set model.architecture {SEARCHED}'
                )
            self.task.check_space()
        self.task.check_batch()
        if self._trains:
            if model.load_weights:
                read_weights(resolve_weights(model.load_weights))
            if isinstance(self.task.pretrained(), Path):
                read_weights(self.task.pretrained())
            if "search" in stages:
                # The names of a network's parts do not depend on what is found.
                check_new_layers(self.task.build_model(1, self.task.plain_architecture, pretrained=False), self.cfg)
        elif "test" in stages:
            self._tested_entry()
            read_weights(self._weights())
        if "test" in stages and not self.cfg.data.targets:
            raise InputError("data.targets names no data set to test on; name one, or leave test out of --stages")
        self.provide_data()
        if "train" in stages[1:]:
            # A search trains on other parts of the data: what held-out identities leave is known here alone.
            self.task.data([], self.cfg.train.holdout)
        if "test" in stages[1:]:
            self.task.data(self.cfg.data.targets)

    def is_finished(self, stages: Sequence[str]) -> bool:
        """Whether a resumed run is taken over as it stands, so that not even its data are needed.

        Its results are then those of this very config, ``test`` section included, and so is every stage before them.
        """
        folder = self.folder
        if not (self.resume and folder.results.exists() and folder.read_results().get("config") == self._fingerprint()):
            return False
        made = [stage for stage in stages if stage != "test"]
        return all(self.folder.stage(stage).path.exists() and not self._changes(stage, DECIDES[stage]) for stage in made)

    def provide_data(self) -> None:
        """Write the synthetic stand-in where the config asks for one."""
        synthetic = self.cfg.synthetic
        if not synthetic.enabled:
            return
        settings = SyntheticSettings(**{key: value for key, value in synthetic.items() if key != "enabled"})
        layouts = {dataset_facts(name).stand_in for name in (*self.cfg.data.sources, *self.cfg.data.targets)}
        for layout in LAYOUTS:
            if layout in layouts:
                logger.info(f"== synthetic stand-in for {layout}: {write_dataset(layout, self.cfg.data.root, settings)}")

    def search(self) -> None:
        """Search; writes ``architecture.json``, the authors' ints and the figure."""
        engine, space = self.search_engine()
        folder = self.folder.search
        self._keep_config("search")
        engine.run(save_dir=folder.path, max_epoch=self.cfg.search.max_epoch, start_epoch=engine.resume(folder.path))
        history = report.read_history(folder.history)
        architecture = space.derive(engine.model, self._source(epoch=len(history)))
        space.draw(history, architecture, self.folder.architecture_figure, **self.task.figure_options())
        space.export(architecture, self.folder.authors_architecture)
        # Last: its presence says that the search is finished.
        architecture.save(self.folder.architecture)
        logger.info(f"found: {architecture}")

    def train(self) -> None:
        """Train the network of the architecture; writes ``train/model.pth``, and a copy of the architecture that a file gave."""
        engine = self.train_engine()
        folder = self.folder.train
        self._keep_config("train")
        self.folder.keep_file_architecture(self.cfg.model.architecture)
        engine.run(save_dir=folder.path, max_epoch=self.cfg.train.max_epoch, start_epoch=engine.resume(folder.path))
        report.draw_training(report.read_history(folder.history), self.folder.training_figure)
        if engine.best_epoch:
            logger.info(f"best epoch by held-out identities: {engine.best_epoch} (score {engine.best_score:.4f})")

    def test(self) -> None:
        """Evaluate under the protocols of the targets; writes ``results.json`` and prints the table."""
        cfg = self.cfg
        entry = self._tested_entry()
        weights = self._weights()
        data = self.test_data()
        from_zoo = entry is not None and cfg.model.architecture == SEARCHED
        architecture = entry_architecture(entry, weights) if from_zoo else self.architecture()
        model = self.task.build_model(checkpoint_num_classes(weights), architecture, pretrained=False)
        load_weights(model, weights)
        # In full precision: a protocol's figures should not depend on what training was cheapest in.
        options = dataclasses.replace(self.task.training_options(), ema=0.0, amp="none", compile=False)
        engine = self.task.train_class(data, model, options=options, **self.task.engine_options())
        engine.evaluation = EvaluationOptions(cfg.test.precision, cfg.test.compile)
        engine.matrix_bytes = cfg.test.matrix_gib * 2**30
        engine.run(
            save_dir=self.folder.path, test_only=True, dist_metric=cfg.test.dist_metric,
            normalize_feature=cfg.test.normalize_feature, ranks=cfg.test.ranks, rerank=cfg.test.rerank,
            visrank=cfg.test.visrank, visrank_topk=cfg.test.visrank_topk,
        )
        rows = [
            result_row(cfg, data, dataset, feature, mean, std)
            for dataset, features in engine.results.items() for feature, (mean, std) in features.items()
        ]
        results = {"results": rows, **self.task.describe(model), **self._source()}
        if entry is not None:
            results["zoo"] = entry.name
        self._keep_config()
        write_json(self.folder.results, results)
        logger.info(report.results_table(results))
        if entry is not None:
            logger.info(comparison_table(entry, rows, cfg))

    # -- what the stages build ------------------------------------------------

    def test_data(self) -> ReIDDataManager:
        """Return the data of the test stage, once their summary is printed."""
        return self._data(self.cfg.data.targets)

    def search_engine(self) -> tuple[BilevelSearch, SearchSpace]:
        """Return the engine of the search, its supernet built, and the space."""
        cfg, search = self.cfg, self.cfg.search
        seed_everything(cfg.train.seed)
        data = self._data(targets=[])
        train_loader, val_loader, num_pids = self.task.search_split(data)
        model = self.task.build_unsearched(num_pids)
        model = self.task.space().build_supernet(model).to(self.device)
        space = self.task.space(model)
        alphas = space.architecture_parameters(model)
        ids = {id(alpha) for alpha in alphas}
        optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad and id(p) not in ids], lr=search.lr,
            momentum=search.momentum, weight_decay=search.weight_decay,
        )
        architecture_optimizer = torch.optim.Adam(
            alphas, lr=search.arch_lr, betas=(search.arch_beta1, search.arch_beta2),
            weight_decay=search.arch_weight_decay,
        )
        if cfg.train.fused:
            optimizer, architecture_optimizer = fuse(optimizer), fuse(architecture_optimizer)
        warmup = min(search.warmup_epochs, search.max_epoch - 1)
        if warmup < search.warmup_epochs:
            logger.info(
                f"search.warmup_epochs {search.warmup_epochs} shortened to {warmup}: search.max_epoch is {search.max_epoch}"
            )
        engine = self.task.search_class(
            _SearchData(train_loader, num_pids, data.sources), model, optimizer,
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, search.max_epoch, search.lr_min), space=space,
            val_loader=val_loader, architecture_optimizer=architecture_optimizer,
            search=SearchOptions(
                warmup_epochs=warmup, interval=search.interval, order=search.order, grad_clip=search.grad_clip,
                temperature=search.temperature, temperature_decay=search.temperature_decay,
                arch_stepsize=search.arch_stepsize, arch_gamma=search.arch_gamma, patience=search.patience,
                **self.task.search_options(),
            ),
            options=dataclasses.replace(self.task.training_options(), ema=0.0), **self.task.engine_options(),
        )
        return engine, space

    def train_engine(self, architecture: ArchitectureSpec | None = None) -> ResumableEngine:
        """Return the engine of the training, its model built with the config's architecture or the one given."""
        cfg = self.cfg
        seed_everything(cfg.train.seed)
        data = self._data(targets=[], holdout=cfg.train.holdout)
        found = architecture is None and cfg.model.architecture == SEARCHED
        architecture = architecture or self.architecture()
        model = self.task.build_model(data.num_train_pids, architecture)
        if cfg.model.load_weights:
            load_weights(model, cfg.model.load_weights)
        elif cfg.search.keep_weights and found:
            self._take_supernet_weights(model)
        logger.info(f"{cfg.model.name}, {architecture}")
        model.to(self.device)
        optimizer = build_optimizer(model, cfg)
        return self.task.train_class(
            data, model, optimizer, build_lr_scheduler(optimizer, cfg), self.task.training_options(),
            **self.task.engine_options(),
        )

    def architecture(self) -> ArchitectureSpec:
        """Return the architecture to train and test: the found one, a preset's name, or a file's.

        Raises:
            InputError: the search's is asked for and there is none.
        """
        spec = self.cfg.model.architecture
        if spec != SEARCHED:
            # That of another training, which its folder may hold, is not asked for.
            same = not self._changes("train", ("model.architecture",))
            return self.folder.kept_architecture(spec) if same else spec
        path = self.folder.architecture
        if not path.exists():
            raise InputError(
                f'model.architecture is "{SEARCHED}" and "{path}" does not exist; run the search stage first, or set '
                "model.architecture to a preset (share, split, first-<k>, last-<k>, random-<seed>) or a file"
            )
        return self.folder.kept_architecture(spec)

    # -- details --------------------------------------------------------------

    def _check_bound(self, stage: str, way_out: str) -> None:
        """Raise InputError where this config would make of a finished stage's work what it is not."""
        changes = self._changes(stage, BINDS[stage])
        if changes:
            raise InputError(
                f'the {stage} stage in "{self.folder}" was made with another setting ({changes[0]}); use the old one, or choose '
                f"another --output and set {way_out}"
            )

    def _changes(self, stage: str, among: Sequence[str]) -> list[str]:
        """Return what of ``among`` differs between this config and the one that a stage in the folder was made with."""
        saved = self.folder.stage(stage).config
        if not saved.exists():
            return []
        return changed_keys(yaml.safe_load(saved.read_text(encoding="utf-8")), self.cfg, among, self.task.harmless)

    def _finished(self, stage: str) -> bool:
        if stage == "search":
            return self.folder.is_searched()
        if stage == "test":
            return False
        return self.folder.is_trained(self.cfg.train.max_epoch)

    def _keep_config(self, stage: str = "") -> None:
        """Remember what the run, and the stage for the check on resumption, is made with.

        Only once all that the stage needs is there: a run that is refused leaves no folder.
        """
        for path in {self.folder.config, *([self.folder.stage(stage).config] if stage else [])}:
            write_text(path, config_to_yaml(self.cfg))

    def _weights(self) -> Path:
        """What to test: the trained weights, or, when nothing is trained, those that the config names."""
        if self.cfg.model.load_weights and not self._trains:
            return resolve_weights(self.cfg.model.load_weights)
        path = self.folder.train.weights
        if not path.exists():
            raise InputError(
                f'there are no weights to test: "{path}" does not exist; run the train stage first or set model.load_weights FILE'
            )
        return path

    def _tested_entry(self) -> Entry | None:
        """The zoo entry whose weights are tested, if they are one's and not trained here."""
        return None if self._trains else tested_entry(self.cfg)

    def _data(self, targets: Sequence[str], holdout: float = 0.0) -> ReIDDataManager:
        data = self.task.data(targets, holdout)
        logger.info(data.summary())
        return data

    def _take_supernet_weights(self, model: nn.Module) -> None:
        """Start from the supernet's weights; a classifier for other identities stays new."""
        folder = self.folder.search
        state = folder.load_state()["model"]
        supernet = self.task.build_unsearched(classifier_size(state, folder.path), pretrained=False)
        space = self.task.space()
        space.build_supernet(supernet).load_state_dict(state)
        derived, own = space.derive_network(supernet).state_dict(), model.state_dict()
        model.load_state_dict(
            {key: value for key, value in derived.items() if key in own and own[key].shape == value.shape}, strict=False
        )

    def _fingerprint(self) -> str:
        """Return what tells configs apart, but for the places of data and run and the device."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.device = cfg.data.root = cfg.data.save_dir = cfg.data.cache_dir = ""
        return hashlib.sha256(config_to_yaml(cfg).encode()).hexdigest()[:12]

    def _source(self, **more: Any) -> dict[str, Any]:
        """Where a result comes from, to be kept beside it."""
        cfg = self.cfg
        return {
            "version": torchreid_nas.__version__,
            "config": self._fingerprint(),
            "seed": cfg.train.seed,
            "data": {"sources": list(cfg.data.sources), "split_id": cfg.data.split_id, "synthetic": cfg.synthetic.enabled},
            "model": cfg.model.name,
            **more,
        }
