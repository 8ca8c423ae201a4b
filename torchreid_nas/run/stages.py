"""The stages of a run — search, train, test — for one config: what each stage reads and writes."""
from __future__ import annotations

__all__ = ["Run"]

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

from torchreid_nas import report
from torchreid_nas.config import config_to_yaml
from torchreid_nas.data import ReIDDataManager
from torchreid_nas.distributed import all_gather_object, broadcast_object, is_main, processes
from torchreid_nas.files import read_json, remove_leftovers, write_json, write_text
from torchreid_nas.run import build, guards
from torchreid_nas.run.advice import advised_architecture
from torchreid_nas.run.data_file import keep_data
from torchreid_nas.run.evidence import keep_evidence
from torchreid_nas.run.folder import SEARCHED, RunFolder
from torchreid_nas.run.initial import initial_weights
from torchreid_nas.run.lock import hold
from torchreid_nas.run.pictures import draw_search, draw_training, try_to_draw
from torchreid_nas.run.provenance import provenance
from torchreid_nas.run.published import comparison_table
from torchreid_nas.run.results import result_row
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.run.writers import Writer, make_writer, plain_keys, write_test

logger = logging.getLogger(__name__)


class Run:
    """One config in one folder.

    Args:
        cfg: see :mod:`torchreid_nas.config`.
        resume: go on with what the folder holds; finished stages are taken over.

    Raises:
        InputError: the device or the model does not exist, or they do not suit each other.
    """

    def __init__(self, cfg: CfgNode, resume: bool = False) -> None:
        self.setup, self.resume = RunSetup.of(cfg), resume

    @property
    def folder(self) -> RunFolder:
        """The folder of the run."""
        return self.setup.folder

    def execute(self, stages: Sequence[str]) -> None:
        """Run the stages in their order.

        Raises:
            InputError: a stage lacks what it needs, or would overwrite another run; another process holds the folder.
        """
        with hold(self.folder):
            if processes() > 1:
                logger.info(f"== {processes()} processes train one network, each on its device: {self._devices()}")
            if is_main():
                self.check(stages)
                remove_leftovers(self.folder.path)
            for stage in stages:
                # All processes wait here for the files of the stage before, and do what the process 0 does.
                if broadcast_object(self.resume and guards.is_stage_finished(self.setup, stage)):
                    logger.info(f"== {stage}: finished already, taken over from {self.folder}")
                    continue
                logger.info(f"== {stage}: {self.folder}")
                if stage == "search":
                    self._search()
                elif stage == "train":
                    self._train()
                else:
                    self._test(trains="train" in stages)

    def _devices(self) -> str:
        """Return the devices of all processes."""
        device = self.setup.device
        number = f":{torch.cuda.current_device()}" if device.type == "cuda" else ""
        return ", ".join(all_gather_object(f"{device.type}{number}"))

    def check(self, stages: Sequence[str]) -> None:
        """Refuse what any of the stages would fail on; see :func:`torchreid_nas.run.guards.check`."""
        guards.check(self.setup, stages, self.resume)

    def is_finished(self, stages: Sequence[str]) -> bool:
        """Return whether a resumed run is taken over as it is; see :func:`torchreid_nas.run.guards.is_finished`."""
        return self.resume and guards.is_finished(self.setup, stages)

    def _search(self) -> None:
        """Search; writes the architecture, then its picture."""
        engine, space = build.search_engine(self.setup)
        stage = self.folder.search
        initial = initial_weights(self.setup.cfg, engine.model)
        # A damaged checkpoint is refused before anything is written.
        start = engine.resume(stage.path)
        self._keep_data(engine.datamanager.whole)
        self._keep_config("search")
        write_json(stage.initial, initial)
        with self._writer(stage.path) as engine.writer:
            engine.run(save_dir=stage.path, max_epoch=self.setup.cfg.search.max_epoch, start_epoch=start)
        epochs = len(report.read_history(stage.history))
        architecture = space.derive(engine.model, provenance(self.setup.cfg, epoch=epochs))
        # The presence of this file says that the search is finished; nothing after it can cost the search.
        architecture.save(self.folder.architecture)
        space.export(architecture, self.folder.authors_architecture)
        logger.info(f"found: {architecture}")
        try_to_draw(draw_search, self.folder)

    def _train(self) -> None:
        """Train the network of the architecture; writes its weights, then the picture of the training."""
        advised = advised_architecture(self.setup) if self.setup.asks_for_advice() else None
        engine = build.train_engine(self.setup, advised)
        stage = self.folder.train
        cfg = self.setup.cfg
        kept = cfg.search.keep_weights and cfg.model.architecture == SEARCHED and not cfg.model.load_weights
        initial = initial_weights(cfg, engine.model, from_supernet=kept)
        start = engine.resume(stage.path)
        self._keep_data(engine.datamanager)
        self._keep_config("train")
        write_json(stage.initial, initial)
        if advised is not None:
            advised.save(stage.architecture)
        self.folder.keep_file_architecture(self.setup.cfg.model.architecture)
        with self._writer(stage.path) as engine.writer:
            engine.run(save_dir=stage.path, max_epoch=self.setup.cfg.train.max_epoch, start_epoch=start)
        if engine.best_epoch:
            logger.info(f"best epoch by held-out identities: {engine.best_epoch} (score {engine.best_score:.4f})")
        try_to_draw(draw_training, self.folder)

    def _test(self, trains: bool) -> None:
        """Evaluate under the protocols of the targets; writes the results and shows their table."""
        cfg = self.setup.cfg
        engine = build.evaluation_engine(self.setup, trains)
        engine.keeps_features = cfg.test.keep_features
        self._keep_data(engine.datamanager)
        engine.run(
            save_dir=self.folder.path, test_only=True, dist_metric=cfg.test.dist_metric,
            normalize_feature=cfg.test.normalize_feature, ranks=cfg.test.ranks, rerank=cfg.test.rerank,
            visrank=cfg.test.visrank, visrank_topk=cfg.test.visrank_topk,
        )
        if not is_main():
            return
        rows = [result_row(cfg, engine.datamanager, result) for result in engine.tested]
        results = {
            "results": rows, "processes": processes(), **self.setup.method.describe(engine.model), **provenance(cfg),
        }
        entry = self.setup.zoo_entry(trains)
        if entry is not None:
            results["zoo"] = entry.name
        stage = self.folder.train
        if self.setup.weights(trains) in (stage.weights, stage.raw_weights) and stage.initial.exists():
            results["initial"] = read_json(stage.initial)
        self._keep_config()
        # A test that is killed before its own certificate is written is made again: see guards.is_finished.
        self.folder.certificate.unlink(missing_ok=True)
        write_json(self.folder.results, results)
        keep_evidence(self.setup, engine, results, trains)
        with self._writer(self.folder.stage("test").path) as writer:
            write_test(writer, rows, [self.folder.architecture_figure, self.folder.training_figure])
        logger.info(report.results_table(results))
        if entry is not None:
            logger.info(comparison_table(entry, rows, cfg))

    def _keep_data(self, data: ReIDDataManager) -> None:
        """Write which images a stage reads; a resumed run refuses others."""
        cfg = self.setup.cfg
        keep_data(self.folder, data, cfg.data.root, cfg.data.digest == "contents", self.resume)

    def _writer(self, folder: Path) -> Writer:
        """Return the writer of a stage, to which numbers and pictures go beside the files of the run."""
        # The other processes have the same numbers.
        name = self.setup.cfg.logger if is_main() else "none"
        return make_writer(name, folder, self.folder.path.name, plain_keys(self.setup.cfg))

    def _keep_config(self, stage: str = "") -> None:
        """Write the config for the run, and for a stage, whose resumption is compared with it.

        Called only once all that the stage needs is there: a run that is refused leaves no folder.
        """
        for path in [self.folder.config, *([self.folder.stage(stage).config] if stage else [])]:
            write_text(path, config_to_yaml(self.setup.cfg))
