"""The search by paths: one supernet trained on random architectures, then slots scored by retrieval as at test time."""
from __future__ import annotations

__all__ = ["CrossModalityPathSearchEngine", "PathOptions"]

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.interface import DataManager
from torchreid_nas.distributed import agree, gather, processes
from torchreid_nas.engine.cross_modality import CrossModalityEngine, part_lengths
from torchreid_nas.engine.interface import BatchLoader
from torchreid_nas.layers import MODALITIES, joint_lengths
from torchreid_nas.search.bn_space import BNSplitSpace
from torchreid_nas.search.calibration import mean_by_identity, recalibrate, retrieval_losses
from torchreid_nas.search.paths import SlotEffects, additive_effects, draw_paths


@dataclasses.dataclass(frozen=True)
class PathOptions:
    """How many paths score the slots, and on how many images.

    Args:
        paths: architectures that are scored.
        calibration: images of the weights' part that count the running statistics of an architecture, in whole batches.
        validation: images of the architecture's part that are retrieved, in whole batches, at most one pass over it.

        margin: standard deviations of its effect by which splitting must raise the loss before a slot is shared.

    Example:
        >>> PathOptions(paths=64).calibration
        128
    """

    paths: int = 80
    calibration: int = 128
    validation: int = 384
    margin: float = 1.0


class CrossModalityPathSearchEngine(CrossModalityEngine):
    """The search of CM-NAS by paths (ours): which BatchNorms the modalities share.

    Every weight step goes through one random architecture: its share of split
    slots is uniform, then its slots are drawn. After the last epoch
    :func:`draw_paths` draws architectures. Each gets running statistics of its
    own and retrieves identities that the weights never saw, each image through
    the branch of its modality. :func:`additive_effects` fits what each slot
    changes of the loss. A slot is split until splitting is shown to
    raise the loss, by ``margin`` standard deviations of its effect; its
    preference for split is the effect in these standard deviations.

    Args:
        datamanager: of the part of the data that trains the weights.
        model: the supernet of ``space``.
        optimizer: over the weights.
        scheduler: of ``optimizer``.
        space: the search space.
        val_loader: batches of the validation part, not augmented.
        paths: see :class:`PathOptions`.
        kwargs: what :class:`CrossModalityEngine` takes besides.

    Attributes:
        effects: of the slots, None before the last epoch has ended.
        lengths: of the two parts of the batches of :meth:`held_out` that count running statistics.
    """

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler | None = None, *,
        space: BNSplitSpace, val_loader: BatchLoader, paths: PathOptions | None = None, **kwargs: Any,
    ) -> None:
        super().__init__(datamanager, model, optimizer, scheduler, **kwargs)
        self.space, self.val_loader, self.paths = space, val_loader, paths or PathOptions()
        self.slots = len(space.architecture_parameters(model))
        self.effects: SlotEffects | None = None
        self.lengths = (1, 1)

    def begin_epoch(self) -> None:
        """Draw the paths of the epoch from its number alone."""
        super().begin_epoch()
        self._paths = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.epoch)

    def position_within(self) -> dict[str, Any]:
        """Return what the rest of an epoch depends on, the generator of the paths among it."""
        return {**super().position_within(), "paths": self._paths.get_state()}

    def go_on_within(self, position: Mapping[str, Any]) -> None:
        """Go on inside an epoch."""
        self._paths.set_state(position["paths"].cpu())
        super().go_on_within(position)

    def forward_backward(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Take a weight step through one random architecture."""
        share = torch.rand((), generator=self._paths)
        self.space.choose(self.model, (torch.rand(self.slots, generator=self._paths) < share).tolist())
        return super().forward_backward(data)

    def end_of_epoch(self) -> dict[str, Any]:
        """Score the slots after the last epoch; return the probabilities for the history."""
        before = self.space.derive(self.model)
        loss = {}
        if self.epoch + 1 == self.max_epoch:
            with self.uncompiled():
                loss = {"architecture": self._score_slots()}
        changed = sum(a != b for a, b in zip(self.space.derive(self.model).choices, before.choices))
        return {**loss, "changed": changed, "probabilities": self.space.probabilities(self.model)}

    def held_out(self) -> tuple[list[torch.Tensor], list[Mapping[str, Any]]]:
        """Return the images that count running statistics, and the batches that are retrieved."""
        calibration = _first_batches(self.train_loader, self.paths.calibration)
        self.lengths = part_lengths(calibration[0])
        return [batch["img"] for batch in calibration], _first_batches(self.val_loader, self.paths.validation)

    def _score_slots(self) -> float:
        """Set the logits by the effects of the slots; return the mean loss of the scored architectures."""
        images = self.held_out()
        paths = draw_paths(self.paths.paths, self.slots, torch.Generator().manual_seed(self.options.seed))
        losses = torch.stack([self.identity_losses(path, *images).mean() for path in paths])
        self.space.choose(self.model, None)
        self.effects = additive_effects(paths, losses)
        preferences = self.paths.margin - self.effects.mean / self.effects.error.clamp(min=1e-12)
        self.space.prefer(self.model, preferences)
        agree(preferences, "the logits of the architecture")
        return float(losses.mean())

    @torch.no_grad()
    def identity_losses(
        self, path: torch.Tensor, calibration: list[torch.Tensor], validation: list[Mapping[str, Any]],
    ) -> torch.Tensor:
        """Return the loss of retrieval of every validation identity, (K,), with the architecture ``path`` (S,), 1 for split.

        The running statistics are those of the architecture on ``calibration`` afterwards.
        """
        self.space.choose(self.model, path.bool().tolist())
        with joint_lengths(*self.lengths):
            recalibrate(self.model, lambda images: self._forward(self.precision.to_device(images), metric_only=True), calibration)
        self.model.eval()
        features: list[list[torch.Tensor]] = [[], []]
        pids: list[list[torch.Tensor]] = [[], []]
        for batch in validation:
            images, labels = self.parse_data_for_train(batch)
            lengths = part_lengths(batch)
            for index, (part, own, modality) in enumerate(zip(images.split(lengths), labels.split(lengths), MODALITIES)):
                features[index].append(self.test_features(self.model, self.precision.to_device(part), modality)[-1].float().cpu())
                pids[index].append(own)
        # The gallery is that of one process: the images of all processes.
        visible, infrared = (gather(torch.cat(parts)) for parts in features)
        of_visible, of_infrared = (gather(torch.cat(parts)) for parts in pids)
        losses = retrieval_losses(visible, infrared, of_visible, of_infrared)
        return mean_by_identity(losses, torch.cat([of_visible, of_infrared]))


def _first_batches(loader: BatchLoader, images: int) -> list[Mapping[str, Any]]:
    """Return the first batches of a loader that hold at least as many images together, or all of its batches.

    The images of all processes count, which have equally many each.
    """
    batches, count = [], 0
    for batch in loader:
        batches.append(batch)
        count += len(batch["img"]) * processes()
        if count >= images:
            break
    return batches
