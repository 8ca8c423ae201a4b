"""The bilevel search as a layer over any engine of this package: weights and architecture in turn."""
from __future__ import annotations

__all__ = ["BalanceNeckSearchEngine", "BilevelSearch", "ClassificationSearchEngine", "CrossModalitySearchEngine", "SearchOptions"]

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.interface import DataManager
from torchreid_nas.data.walk import Walk
from torchreid_nas.distributed import agree
from torchreid_nas.engine.balance import BalanceNeckEngine
from torchreid_nas.engine.base import ResumableEngine, total
from torchreid_nas.engine.classification import ClassificationEngine
from torchreid_nas.engine.cross_modality import CrossModalityEngine
from torchreid_nas.engine.interface import BatchLoader
from torchreid_nas.errors import InputError
from torchreid_nas.search import BilevelOptimizer, SearchSpace


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The schedule of a search. CM-NAS publishes none; the ``search`` section of the config says where the defaults come from.

    Args:
        warmup_epochs: epochs in which only the weights are trained.
        interval: an architecture step after every n-th weight step.
        order: 1, or 2 with DARTS's finite differences.
        grad_clip: largest norm of the weights' gradient, 0 for none.
        sample: draw the space's noise (Gumbel, jitter of ties) anew at every step.
        temperature: of the relaxation after warm-up.
        temperature_decay: its factor per epoch after warm-up.
        metric_only: the validation part has other identities, so the
            architecture loss leaves cross-entropy out.
        cost_weight: weight of the space's expected cost in the architecture loss.
        arch_stepsize: epochs at which the architecture's learning rate is multiplied by ``arch_gamma``.
        arch_gamma: see ``arch_stepsize``.
        patience: stop when the architecture has not changed for n epochs; 0 for never.

    Example:
        >>> SearchOptions(order=2).interval
        2
    """

    warmup_epochs: int = 10
    interval: int = 2
    order: int = 1
    grad_clip: float = 5.0
    sample: bool = False
    temperature: float = 5.0
    temperature_decay: float = 0.96
    metric_only: bool = True
    cost_weight: float = 0.0
    arch_stepsize: Sequence[int] = ()
    arch_gamma: float = 0.1
    patience: int = 0


class BilevelSearch(ResumableEngine):
    """A layer before an engine with ``losses(data, metric_only)``, whose model it trains as a supernet.

    ``forward_backward`` takes a weight step on the batch of torchreid's loop.
    After warm-up every n-th call takes an architecture step too, on the next
    batch of the validation part. Where gradients accumulate, both steps take
    several batches. The engine asks the methods of the space and nothing else.

    Args:
        datamanager: of the part of the data that trains the weights.
        model: the supernet of ``space``.
        optimizer: over the weights, without the logits of the architecture.
        scheduler: of ``optimizer``.
        space: the search space.
        val_loader: batches of the validation part.
        architecture_optimizer: over the logits of the architecture.
        search: see :class:`SearchOptions`.
        kwargs: what the engine behind takes besides.

    Raises:
        InputError: the precision is fp16, or no architecture step fits into an epoch.
    """

    rate_keys = "search.lr or search.arch_lr"

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None = None, *,
        space: SearchSpace, val_loader: BatchLoader, architecture_optimizer: Optimizer,
        search: SearchOptions | None = None, **kwargs: Any,
    ) -> None:
        super().__init__(datamanager, model, optimizer, scheduler, **kwargs)
        self.space, self.val_loader, self.search = space, val_loader, search or SearchOptions()
        self._architecture_rates = [group["lr"] for group in architecture_optimizer.param_groups]
        if self.options.amp == "fp16":
            raise InputError(
                "a search cannot run in fp16, whose gradients of the architecture underflow; set train.amp bf16 or none"
            )
        # An epoch counts its batches anew: a longer interval leaves every logit as it was at the start.
        batches, needed = len(self.train_loader), self.search.interval * self.options.accumulate
        if batches < needed:
            raise InputError(
                f"an epoch of the search has {batches} batches and an architecture step comes after every {needed} "
                f"(search.interval {self.search.interval} × train.accumulate {self.options.accumulate}), so none would come; "
                "lower these or raise train.num_batches"
            )
        self.bilevel = BilevelOptimizer(optimizer, architecture_optimizer, self.search.order, self.search.grad_clip)
        self._stateful_optimizer = self.bilevel
        self.unchanged_epochs = 0
        self._validation: Walk | None = None
        self._step_batches: list[Mapping[str, Any]] = []
        self._choices = space.derive(model).choices

    def begin_epoch(self) -> None:
        """Set temperature, noise, rate and validation batches, which depend on the number of the epoch alone."""
        super().begin_epoch()
        self._searching = self.epoch >= self.search.warmup_epochs
        decays = max(0, self.epoch - self.search.warmup_epochs)
        self._temperature = self.search.temperature * self.search.temperature_decay**decays
        self.space.anneal(self.model, self._temperature)
        self._noise = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.epoch)
        self._validation, self._passes = None, 0
        decay = self.search.arch_gamma ** bisect_right(self.search.arch_stepsize, self.epoch)
        for group, rate in zip(self.bilevel.architecture_optimizer.param_groups, self._architecture_rates):
            group["lr"] = rate * decay

    def forward_backward(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Take one weight step and, where one is due, an architecture step."""
        if self.search.sample:
            self.space.sample(self.model, self._noise)
        terms = self.training_losses(data)
        self._step_batches = [*self._step_batches, data] if self._waiting else [data]
        self.learn(total(terms.values()))
        shown = dict(terms)
        if self._searching and (self.batch_idx + 1) % (self.search.interval * self.options.accumulate) == 0:
            shown["architecture"] = self._step_architecture()
        return self.record(shown)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of ``loss`` to the gradients of the weights alone."""
        self.bilevel.add_gradient(loss)

    def step_optimizer(self) -> None:
        """Step the weights by their clipped gradients."""
        self.bilevel.apply_gradient()

    @torch.no_grad()
    def _refuse_divergence(self, losses: Mapping[str, float]) -> None:
        """Look at the logits first: from logits that are no numbers follow losses and weights that are none."""
        logits = self.space.architecture_parameters(self.model)
        norms = torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in logits])
        if not bool(norms.isfinite().all()):
            raise InputError(
                f"the logits of the architecture are not finite after epoch {self.epoch + 1}; "
                f"{self._way_out_of_divergence('search.arch_lr')}"
            )
        super()._refuse_divergence(losses)

    def _step_architecture(self) -> torch.Tensor:
        def validation(batch: Mapping[str, Any]) -> torch.Tensor:
            loss = total(self.losses(batch, metric_only=self.search.metric_only).values())
            return loss + self.search.cost_weight * self.space.cost(self.model) if self.search.cost_weight else loss

        def training(batch: Mapping[str, Any]) -> torch.Tensor:
            return total(self.losses(batch).values())

        validation_batches = [self._next_validation_batch() for _ in self._step_batches]
        return self.bilevel.step_architecture(
            [partial(validation, batch) for batch in validation_batches],
            [partial(training, batch) for batch in self._step_batches],
        )

    def _next_validation_batch(self) -> Mapping[str, Any]:
        """Return the next batch of the validation part, which is read again and again, each time in another order."""
        batch: Mapping[str, Any] | None = next(self._validation, None) if self._validation is not None else None
        if batch is None:
            self._validation = self._start_validation(self._passes)
            self._passes += 1
            batch = next(self._validation)
        assert batch is not None
        return batch

    def position_within(self) -> dict[str, Any]:
        """Return what the rest of an epoch depends on, the place in the validation part and the noise among it."""
        validation = None if self._validation is None else self._validation.position()
        own = {
            "validation": validation, "passes": self._passes, "noise": self._noise.get_state(),
            "choices": self._choices,
        }
        return {**super().position_within(), **own}

    def go_on_within(self, position: Mapping[str, Any]) -> None:
        """Go on inside an epoch."""
        self._passes, self._choices = position["passes"], position["choices"]
        self._noise.set_state(position["noise"].cpu())
        if position["validation"] is not None:
            self._validation = self._start_validation(self._passes - 1)
            self._validation.go_on(position["validation"])
        super().go_on_within(position)

    def _start_validation(self, number: int) -> Walk:
        """Return a walk through the validation part, in the order of its pass with this number."""
        # torchreid's own samplers draw from the global random state, which the epoch seeds.
        if hasattr(self.val_loader.sampler, "set_epoch"):
            self.val_loader.sampler.set_epoch(self.epoch + 100_003 * number)
        return Walk(self.val_loader)

    def end_of_epoch(self) -> dict[str, Any]:
        """Return temperature and probabilities for the history; stop where the architecture has not changed for long."""
        self.space.sample(self.model, None)
        logits = self.space.architecture_parameters(self.model)
        agree(torch.cat([tensor.detach().flatten() for tensor in logits]), "the logits of the architecture")
        architecture = self.space.derive(self.model)
        changed = sum(a != b for a, b in zip(architecture.choices, self._choices))
        self._choices = architecture.choices
        if self._searching:
            self.unchanged_epochs = 0 if changed else self.unchanged_epochs + 1
            self.stopped = 0 < self.search.patience <= self.unchanged_epochs
        return {
            "temperature": self._temperature, "changed": changed,
            "probabilities": self.space.probabilities(self.model),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the engine, of both optimisers and of the early stop."""
        return {**super().state_dict(), "unchanged_epochs": self.unchanged_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        super().load_state_dict(state)
        self.unchanged_epochs = state["unchanged_epochs"]
        self._choices = self.space.derive(self.model).choices


class ClassificationSearchEngine(BilevelSearch, ClassificationEngine):
    """The search of CDNet on images of classes."""


class BalanceNeckSearchEngine(BilevelSearch, BalanceNeckEngine):
    """The search of CDNet: which kernels and depth each block has."""


class CrossModalitySearchEngine(BilevelSearch, CrossModalityEngine):
    """The search of CM-NAS: which BatchNorms the modalities share."""
