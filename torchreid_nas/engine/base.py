"""What every engine of this package adds to torchreid's: precision, resume, held-out choice of the best epoch."""
from __future__ import annotations

__all__ = ["ResumableEngine", "total"]

import contextlib
import functools
import logging
import math
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torchreid
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.interface import DataManager
from torchreid_nas.data.walk import Walk
from torchreid_nas.distributed import processes
from torchreid_nas.engine.checkpoint import Stateful
from torchreid_nas.engine.divergence import refuse_broken_losses, refuse_broken_weights, way_out_of_divergence
from torchreid_nas.engine.ema import ExponentialMovingAverage
from torchreid_nas.engine.interface import BatchLoader
from torchreid_nas.engine.options import TrainingOptions, seed_everything
from torchreid_nas.engine.parallel import ParallelLosses, as_one_process
from torchreid_nas.engine.precision import Precision
from torchreid_nas.engine.progress import EpochProgress
from torchreid_nas.engine.readings import Readings
from torchreid_nas.engine.resuming import Resuming
from torchreid_nas.engine.scoring import ProtocolResult, ScoredFeatures, result_lines, results_that_count
from torchreid_nas.errors import InputError
from torchreid_nas.files import save_checkpoint
from torchreid_nas.layers import average_statistics
from torchreid_nas.log import plain_lines
from torchreid_nas.metrics import RankingResult
from torchreid_nas.preemption import Preempted, listen, requested
from torchreid_nas.run.folder import StageFolder

_LOGGER = logging.getLogger(__name__)


def total(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of scalar losses, at least one.

    Example:
        >>> total([torch.tensor(1.0), torch.tensor(2.0)])
        tensor(3.)
    """
    return functools.reduce(torch.add, terms)


class ResumableEngine(Resuming, torchreid.engine.Engine):
    """torchreid's engine, whose loop (``run``) goes on exactly where a killed run stopped.

    ``save_dir`` is a :class:`~torchreid_nas.run.folder.StageFolder`: every epoch
    ends with one checkpoint that holds all state, and a line of the history. The
    best epoch is chosen on ``datamanager.validation_loader`` (held-out
    training identities) where there is such a loader, never on a test set.

    Subclasses implement :meth:`losses` and :meth:`score`, and :meth:`validate`
    for the choice of the best epoch. After :meth:`test`, ``tested`` holds a
    :class:`~torchreid_nas.engine.scoring.ProtocolResult` per target, protocol and feature.

    Args:
        datamanager: any data manager of torchreid's form, see :class:`~torchreid_nas.data.interface.DataManager`.
        model: the network; the engine moves it to ``options.device``.
        optimizer: over the parameters of the network; None for an engine that evaluates only.
        scheduler: stepped once per epoch, or None.
        options: see :class:`TrainingOptions`.

    Attributes:
        rate_keys: what a user lowers when the training diverges.
    """

    train_loader: BatchLoader
    rate_keys: ClassVar[str] = "train.lr"

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None, options: TrainingOptions | None = None,
    ) -> None:
        options = options or TrainingOptions()
        super().__init__(datamanager, use_gpu=options.device.type == "cuda")
        self.options = options
        self.precision = Precision(options.device, options.amp, options.channels_last)
        self.model: Any = self.precision.place(model, trains=optimizer is not None)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.register_model("model", self.model, optimizer, scheduler)
        self.ema = ExponentialMovingAverage(self.model, options.ema) if options.ema else None
        if options.compile:
            # In place: the names of the state dict stay. Copies (the average, a derived network) are not compiled.
            getattr(self.model, "backbone", self.model).compile()
        self.start_epoch, self.best_score, self.best_epoch = 0, -math.inf, 0
        self.stopped, self._waiting = False, 0
        self.save_dir: Path | None = None
        self._trainable = {name: p.requires_grad for name, p in self.model.named_parameters()}
        self._progress = EpochProgress()
        self._readings = Readings()
        self._parallel_losses = ParallelLosses(())
        self._walk = Walk(())
        self._saved = time.monotonic()
        self._within: dict[str, Any] | None = None
        self._saves_within, self._begun_at = False, 0
        self._history = ""
        self._stateful_optimizer: Any = optimizer
        self.tested: list[ProtocolResult] = []
        self.scored: list[ScoredFeatures] = []

    # -- what torchreid's loop calls ------------------------------------------

    def train(self, print_freq: int = 10, fixbase_epoch: int = 0, open_layers: Any = None) -> None:
        """Run one epoch of torchreid's loop, seeded by its number, then the held-out look; write history and checkpoint."""
        if not self.stopped:
            self._train_epoch(fixbase_epoch, open_layers)
            if self.save_dir is not None and self._agreed(bool(self._requested))[0]:
                raise Preempted(f"{self._requested or 'a signal'} came at the end of epoch {self.epoch + 1}")
        if self.epoch + 1 == self.max_epoch and not self.test_loader and self.save_dir is not None:
            self._end_untested(self.save_dir)

    def _train_epoch(self, fixbase_epoch: int, open_layers: Any) -> None:
        start = time.monotonic()
        self.begin_epoch()
        loader = self.train_loader
        self._walk = Walk(loader, after=self._after_step)
        if self._within is not None:
            self.go_on_within(self._within)
            self._within = None
        self._begun_at = self._walk.done
        # The bar replaces torchreid's printed lines.
        self._requested = ""
        with listen(), self._progress.bar(self._walk, self.epoch, self.max_epoch) as bar:
            self.train_loader = bar
            try:
                with self.precision.explained_layout(self.model), as_one_process(self.model, self.options.sync_bn):
                    super().train(print_freq=sys.maxsize, fixbase_epoch=fixbase_epoch, open_layers=open_layers)
            finally:
                self.train_loader = loader
                self._requested = requested()
        if not self.options.sync_bn:
            average_statistics(self.model, *([self.ema.module] if self.ema else []))
        if not len(loader):
            raise InputError("the training loader is empty; lower train.batch_size")
        row = self._readings.means()
        self._refuse_divergence(row)
        row = {"epoch": self.epoch + 1, **row, "lr": self._lr, "seconds": round(time.monotonic() - start, 2)}
        row.update(self.end_of_epoch())
        self._progress.report(row, self.max_epoch, self.writer, (self.epoch + 1) * self.num_batches)
        if self.save_dir is not None:
            folder = StageFolder(self.save_dir)
            # A first epoch replaces the history of an earlier training.
            self._history = (self._history if self.epoch else "") + folder.history_line(row)
            folder.write_history(self._history)
            self.save_checkpoint(folder)
            self._saved = time.monotonic()

    def forward_backward(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Take a batch of torchreid's loop: its gradient and, where a step is due, the step; returns losses for the meters."""
        terms = self.training_losses(data)
        self.learn(total(terms.values()))
        return self.record(terms)

    def training_losses(self, data: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of a batch for :meth:`learn`, whose gradient is then the mean over all processes."""
        waits = processes() > 1 and self._waiting + 1 < self.options.accumulate and self.batch_idx + 1 < self.num_batches
        return self._parallel_losses(self.losses, data, not waits)

    def learn(self, loss: torch.Tensor) -> None:
        """Add the gradient of the loss of a batch; every ``accumulate``-th call steps the optimiser."""
        if not self._waiting:
            self._trained_by().zero_grad(set_to_none=True)
        self.backward(loss)
        self._waiting += 1
        if self._waiting == self.options.accumulate:
            self._step()

    def update_lr(self, names: Any = None) -> None:
        """Step the optimiser by the batches that wait at the end of an epoch, note the rate, then step the schedules."""
        if self._waiting:
            self._step()
        self._lr = self.get_current_lr(names)
        super().update_lr(names)

    def two_stepped_transfer_learning(
        self, epoch: int, fixbase_epoch: int, open_layers: Any, model: nn.Module | None = None,
    ) -> None:
        """Open and close layers as torchreid does; parameters that the model itself froze stay frozen."""
        super().two_stepped_transfer_learning(epoch, fixbase_epoch, open_layers, model)
        if epoch + 1 > fixbase_epoch or open_layers is None:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(self._trainable[name])
        # Which weights are trained is known here, and changes with the epoch.
        self._parallel_losses = ParallelLosses(p for p in self._trained_weights() if p.requires_grad)

    def save_model(self, epoch: int, rank1: float, save_dir: str | Path, is_best: bool = False) -> None:
        """Write the weights to test with into the folder of the stage: the averaged weights where there is an average.

        With held-out identities the weights of the best epoch stand there already.
        """
        if self.best_epoch == 0:
            self._save_weights(Path(save_dir), max(epoch + 1, self.start_epoch))

    def test(self, **kwargs: Any) -> float:
        """Evaluate every target as torchreid does, and return the Rank-1 of the last target; 0 without targets."""
        return float(super().test(**kwargs)) if self.test_loader else 0.0

    @torch.no_grad()
    def _evaluate(
        self, dataset_name: str = "", query_loader: Any = None, gallery_loader: Any = None, dist_metric: str = "euclidean",
        normalize_feature: bool = False, visrank: bool = False, visrank_topk: int = 10, save_dir: str = "",
        use_metric_cuhk03: bool = False, ranks: Sequence[int] = (1, 5, 10, 20), rerank: bool = False,
    ) -> tuple[float, float]:
        """Score one target and report the result, as torchreid's loop asks; the last feature of :meth:`score` counts.

        Raises:
            InputError: CUHK03's single-gallery-shot metric is asked for, which no protocol here has.
        """
        if use_metric_cuhk03:
            raise InputError(
                f"{type(self).__name__} has no single-gallery-shot metric (use_metric_cuhk03) for {dataset_name}; leave it "
                "out, or test with torchreid's ImageSoftmaxEngine or ImageTripletEngine"
            )
        with self.precision.explained_layout(self.model):
            distmat = self.score(dataset_name, query_loader, gallery_loader, dist_metric, normalize_feature, rerank, visrank)
        if visrank:
            # Own images are named by their path.
            name = re.sub(r"[^\w.-]", "_", dataset_name)
            torchreid.utils.visualize_ranked_results(
                distmat, self.datamanager.fetch_test_loaders(dataset_name), self.datamanager.data_type,
                width=self.datamanager.width, height=self.datamanager.height,
                save_dir=f"{save_dir}/visrank_{name}", topk=visrank_topk,
            )
        for line in result_lines([result for result in self.tested if result.dataset == dataset_name], ranks):
            _LOGGER.info(line)
        counts, _ = list(self.results[dataset_name].values())[-1]
        return float(counts.cmc[0]), counts.mAP

    def run(self, save_dir: str | Path = "log", max_epoch: int = 0, start_epoch: int = 0, **kwargs: Any) -> None:
        """Run torchreid's loop; ``save_dir`` gets the checkpoints, from which :meth:`resume` goes on.

        A script that has set up no logging sees the lines of this package among those that torchreid prints.
        """
        self.save_dir = Path(save_dir)
        if 0 < max_epoch <= start_epoch and not self.test_loader:
            self.epoch = start_epoch - 1
            self._end_untested(self.save_dir)
            return
        silent = not _LOGGER.isEnabledFor(logging.INFO) and logging.getLogger("torchreid_nas").level == logging.NOTSET
        with plain_lines() if silent else contextlib.nullcontext():
            super().run(save_dir=str(save_dir), max_epoch=max_epoch, start_epoch=start_epoch, **kwargs)

    def _end_untested(self, save_dir: Path) -> None:
        """Write the weights, and keep torchreid's loop from announcing a final test where there is nothing to test."""
        self.save_model(self.epoch, 0.0, str(save_dir))
        self.max_epoch = 0

    # -- for subclasses -------------------------------------------------------

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward a batch and return the weighted terms of the loss by name."""
        raise NotImplementedError

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of ``loss`` to the gradients of the parameters."""
        self.precision.scaler.scale(loss).backward()

    def step_optimizer(self) -> None:
        """Step by the gradients that the parameters have."""
        self.precision.scaler.step(self._trained_by())
        self.precision.scaler.update()

    def score(
        self, dataset_name: str, query_loader: Any, gallery_loader: Any, dist_metric: str, normalize_feature: bool,
        rerank: bool, visrank: bool = False,
    ) -> np.ndarray | None:
        """Add the results of a target to ``tested``; return its distance matrix, if any, for pictures."""
        raise NotImplementedError

    def begin_epoch(self) -> None:
        """Make the epoch depend on its number: random states and the order of the sampler."""
        seed_everything(self.options.seed, self.epoch)
        self._readings, self._waiting = Readings(), 0
        if hasattr(self.train_loader.sampler, "set_epoch"):
            self.train_loader.sampler.set_epoch(self.epoch)

    def validate(self) -> dict[str, float] | None:
        """Score the held-out identities: ``{"score": …, …}``, or None where there are none."""
        return None

    def end_of_epoch(self) -> dict[str, Any]:
        """Return what the epoch adds to the history: the scores of the held-out identities, where a look at them is due."""
        last = self.epoch + 1 == self.max_epoch
        if not (last or (self.epoch + 1) % self.options.eval_freq == 0):
            return {}
        with self.uncompiled():
            scores = self.validate()
        if scores is None:
            return {}
        if scores["score"] > self.best_score:
            self.best_score, self.best_epoch = scores["score"], self.epoch + 1
            if self.save_dir is not None:
                self._save_weights(self.save_dir, self.best_epoch)
        return {f"validation_{name}": value for name, value in scores.items()}

    @property
    def results(self) -> dict[str, dict[str, tuple[RankingResult, dict[str, Any]]]]:
        """Per target and feature the mean over the galleries of the first protocol, the one that counts, and its deviation."""
        return results_that_count(self.tested)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that evaluation uses: the average where there is one."""
        return self.ema.module if self.ema else self.model

    @staticmethod
    def uncompiled() -> contextlib.AbstractContextManager[Any]:
        """Return a context in which compiled networks run as they are written: other batch sizes are not compiled for."""
        # torch before 2.6 has no such context and compiles.
        return torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else contextlib.nullcontext()

    def record(self, values: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Add the losses of a step to the means of the epoch; show the newest known losses and return them for torchreid.

        On a GPU the newest known losses are those of a step or two before, or none yet: see :class:`Readings`.
        """
        self._readings.add(values)
        shown = self._readings.newest()
        self._progress.show(shown)
        return shown

    def _step(self) -> None:
        """Step by the mean gradient of the batches that wait."""
        if self._waiting > 1:
            torch._foreach_div_([p.grad for p in self._trained_weights() if p.grad is not None], self._waiting)
        self._waiting = 0
        self.step_optimizer()
        if self.ema:
            self.ema.update()

    def _trained_by(self) -> Optimizer:
        if self.optimizer is None:
            raise InputError(f"this {type(self).__name__} has no optimizer and can only evaluate; give it one to train")
        return self.optimizer

    def _trained_weights(self) -> list[nn.Parameter]:
        return [parameter for group in self._trained_by().param_groups for parameter in group["params"]]

    # -- state ----------------------------------------------------------------

    def parts(self) -> dict[str, Stateful | None]:
        """Return the parts that have a state, by their names in the checkpoint."""
        return {
            "model": self.model, "optimizer": self._stateful_optimizer, "scheduler": self.scheduler,
            "ema": self.ema.module if self.ema else None, "scaler": self.precision.scaler,
        }

    def _save_weights(self, save_dir: Path, epoch: int) -> None:
        save_checkpoint(StageFolder(save_dir).weights, {"state_dict": self.evaluated_model.state_dict(), "epoch": epoch})

    def _refuse_divergence(self, losses: Mapping[str, float]) -> None:
        """Refuse losses and weights that are not finite."""
        refuse_broken_losses(losses, self.epoch + 1, self._way_out_of_divergence())
        refuse_broken_weights(self.model, self.epoch + 1, self._way_out_of_divergence())

    def _way_out_of_divergence(self, rate_keys: str = "") -> str:
        kept = self.save_dir is not None and StageFolder(self.save_dir).checkpoint.exists()
        return way_out_of_divergence(rate_keys or self.rate_keys, self.options.amp, self.epoch if kept else 0)
