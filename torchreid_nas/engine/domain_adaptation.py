"""Training on a labelled source and an unlabelled target at once, the recipe of ECN (Zhong et al., CVPR 2019)."""
from __future__ import annotations

__all__ = ["AdaptationOptions", "DomainAdaptationEngine"]

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.dataset import as_cross_modality
from torchreid_nas.data.interface import DataManager
from torchreid_nas.data.joint_loader import JointLoader
from torchreid_nas.data.manager import ImageLoader
from torchreid_nas.device import move
from torchreid_nas.distributed import gather_batch, is_main, processes
from torchreid_nas.engine.base import total
from torchreid_nas.engine.interface import EmbeddingModel
from torchreid_nas.engine.options import TrainingOptions
from torchreid_nas.engine.plain_network import eval_dim, has_embedding, train_outputs
from torchreid_nas.engine.positives import SourcePositives
from torchreid_nas.engine.retrieval import RetrievalEngine
from torchreid_nas.errors import InputError
from torchreid_nas.files import save_checkpoint
from torchreid_nas.layers import BOTH, MODALITIES, SplitNorm, modality_context
from torchreid_nas.losses import ExemplarMemory, InvarianceLoss, identity_loss
from torchreid_nas.run.folder import StageFolder

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Number of entries whose neighbours are looked at for the history.
_LOOKED_AT = 512


@dataclasses.dataclass(frozen=True)
class AdaptationOptions:
    """How the target takes part; the defaults are the paper's.

    Args:
        weight_target: λ; the loss is (1 - λ) source + λ target. 0 is source-only
            training (the target is not read), 1 reads no label.
        target_epoch: zero-based epoch in which the target sets in (ours); 0 as in the paper, whose networks start from
            ImageNet. Earlier epochs train on the source alone, with weight 1. A start from random weights needs such
            epochs: exemplar invariance makes a random network tell images apart by their backgrounds.
        temperature: β of the softmax over the entries.
        num_neighbours: k; 0 for none.
        neighbour_epoch: zero-based epoch in which neighbourhood invariance sets in.
        momentum: the memory keeps the part α = ``momentum`` + ``momentum_step`` · epoch of an entry, at most 0.99; epochs
            are zero-based and counted from ``target_epoch`` on. The paper has no constant part.
        momentum_step: see ``momentum``.
        exemplars: ``"memory"``: the entries of all images are the classes of the invariance loss; ``"batch"``: the features of
            the batch, without gradient, are. The second is the control without a memory (how it is made is ours).
        epoch_length: ``"source"``, ``"target"`` or ``"longer"``, see :class:`JointLoader`.
        memory_dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"`` (ours).
        memory_init: ``"zeros"`` (paper), or ``"features"`` of the target under the weights at ``target_epoch`` (ours).
        chunk_size: entries per step of the walk over the memory (ours).
        positive_prediction: ECN++: a graph network that is trained on the source chooses the neighbours.
        num_candidates: entries that the graph network chooses from.
        positive_threshold: probability above which an entry is chosen.
        positive_lr: learning rate of the graph network's Adam (ours).

    Example:
        >>> AdaptationOptions(memory_dtype="bfloat16").weight_target
        0.3
    """

    weight_target: float = 0.3
    target_epoch: int = 0
    temperature: float = 0.05
    num_neighbours: int = 6
    neighbour_epoch: int = 5
    momentum: float = 0.0
    momentum_step: float = 0.01
    exemplars: str = "memory"
    epoch_length: str = "source"
    memory_dtype: str = "float32"
    memory_init: str = "zeros"
    chunk_size: int = 16384
    positive_prediction: bool = False
    num_candidates: int = 100
    positive_threshold: float = 0.9
    positive_lr: float = 1e-3


class DomainAdaptationEngine(RetrievalEngine):
    """torchreid engine for ECN's networks and torchreid's: cross-entropy on the source, invariances on the target.

    A step takes a batch of the source and a batch of the target. Each has a
    forward pass and so batch statistics of its own. The exemplar memory is
    updated after the backward pass. The data manager decides which images of
    the target are shown in the style of another camera. Labels of the target
    are never trained on. Before the target sets in, steps and checkpoints are
    those of source-only training, so that one kind of training can go on from
    the checkpoint of the other kind. Where the target has both modalities,
    each modality gives the same number of neighbours (ours).
    ``neighbour_precision`` in the history, the share of neighbours that show
    the same person, is for the reader: it reads the labels of the target.

    Args:
        datamanager: a :class:`torchreid_nas.data.DomainAdaptationDataManager`, or
            torchreid's ``ImageDataManager`` with ``load_train_targets=True``.
            Without ``train_loader_t`` the engine evaluates only.
        model: see :class:`~torchreid_nas.engine.interface.EmbeddingModel`, or any network that torchreid builds with
            ``loss="triplet"``: its features are the embedding, and L2-normalised what the memory takes (ours).
        optimizer: see :class:`RetrievalEngine`.
        scheduler: see :class:`RetrievalEngine`.
        options: see :class:`RetrievalEngine`.
        adaptation: see :class:`AdaptationOptions`.
        label_smooth: whether the cross-entropy of the source smooths its labels; not in the paper.

    Attributes:
        memory: the :class:`ExemplarMemory`, saved and resumed with the run, of which each of several processes holds a part;
            None without a target.

    Raises:
        InputError: an option out of range, or a loader without a batch.
    """

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None, options: TrainingOptions | None = None,
        adaptation: AdaptationOptions | None = None, label_smooth: bool = False,
    ) -> None:
        super().__init__(datamanager, model, optimizer, scheduler, options)
        self.adaptation = adaptation = adaptation or AdaptationOptions()
        self.criterion_x = identity_loss(label_smooth)
        target = getattr(datamanager, "train_loader_t", None) if adaptation.weight_target else None
        source = self.train_loader if adaptation.weight_target < 1 else None
        self.memory: ExemplarMemory | None = None
        self._positives: SourcePositives | None = None
        self._embeds = has_embedding(model)
        self._splits = any(isinstance(module, SplitNorm) for module in model.modules())
        self._source: Any = source
        if source is not None or target is not None:
            self.train_loader = self._joint = JointLoader(source, target, adaptation.epoch_length)
        if target is not None:
            self._remember(target)

    # -- training -------------------------------------------------------------

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward both batches and return the weighted terms: ``ce`` and ``invariance``."""
        terms: dict[str, torch.Tensor] = {}
        weight = self.adaptation.weight_target if "target" in data else 0.0
        if self._source is not None:
            images, pids = self.parse_data_for_train(data)
            with self.precision.autocast(), self._modality_of(data):
                logits, embedding = self._source_outputs(self.precision.to_device(images))
            labels = move(pids, embedding.device)
            terms["ce"] = (1 - weight) * total([self.criterion_x(branch.float(), labels) for branch in logits])
            if self._positives is not None and "target" in data:
                self._positives.see(F.normalize(embedding.detach().float()), self._positives.entries(data["impath"]))
        if "target" in data:
            target = data["target"]
            with self.precision.autocast(), self._modality_of(target):
                features = self._target_feature(self.precision.to_device(target["img"]))
            # Each process computes the loss of the whole batch and brings the whole batch into the memory.
            parts = _parts(target)
            features = gather_batch(features, parts)
            entries = self._entries_of(features, target["impath"], parts)
            neighbours = self.epoch >= self.adaptation.neighbour_epoch
            terms["invariance"] = weight * self.criterion_t(features.float(), entries, neighbours)
            self._seen = features.detach(), entries
        return terms

    def _source_outputs(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the logits of every branch, and the embedding, of images of the source."""
        if not self._embeds:
            return train_outputs(self.model, images)
        model: EmbeddingModel = self.model
        embedding = model.embedding(images)
        return [model.classify(embedding)], embedding

    def _entries_of(self, features: torch.Tensor, paths: Iterable[str], parts: Sequence[int]) -> torch.Tensor:
        """Return the entries of the whole batch, (B,) int64; without a memory the entries are the batch itself.

        Args:
            features: (B, D), of the whole batch.
            paths: of this process's share of the batch.
            parts: images of each modality in the share.
        """
        if self.adaptation.exemplars == "memory":
            return gather_batch(torch.tensor([self._entries[path] for path in paths]), parts)
        assert self.memory is not None
        self.memory.initialize(features.detach())
        return torch.arange(len(features))

    def _target_feature(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the memory takes, (B, D); of a network without a head for it the features, L2-normalised (ours)."""
        if self._embeds:
            model: EmbeddingModel = self.model
            return model.target_feature(model.embedding(images))
        features = train_outputs(self.model, images)[1] if self.model.training else self.model(images)
        return F.normalize(features.float())

    def forward_backward(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Take one step: both losses, the optimiser, then the memory."""
        shown = super().forward_backward(data)
        if "target" in data:
            assert self.memory is not None
            if self.adaptation.exemplars == "memory":
                self.memory.update(*self._seen, momentum=self._momentum)
            if self._positives is not None:
                self._positives.step(self._momentum)
        return shown

    def begin_epoch(self) -> None:
        """Take the batches of the epoch, of the source alone before ``target_epoch``, and start the memory where it is due."""
        options = self.adaptation
        if self.memory is not None:
            self.train_loader = self._joint if self._adapts else JointLoader(self._source, None)
        super().begin_epoch()
        from_features = (options.exemplars, options.memory_init) == ("memory", "features")
        if self._adapts and self.epoch == options.target_epoch and from_features and self._within is None:
            self._start_from_features()

    def end_of_epoch(self) -> dict[str, Any]:
        """Add the share of neighbours that show the same person, once neighbours take part.

        Raises:
            InputError: a feature of the epoch was not finite, so that the memory did not take the feature.
        """
        for memory in (self.memory, self._positives.memory if self._positives is not None else None):
            if memory is not None:
                memory.refuse_skipped()
        row = super().end_of_epoch()
        options = self.adaptation
        in_memory = options.exemplars == "memory"
        # Without labels nobody knows whom the neighbours show.
        labelled = getattr(getattr(self.datamanager, "trainset_t", None), "labelled", True)
        if labelled and self._adapts and in_memory and options.num_neighbours and self.epoch >= options.neighbour_epoch:
            row["neighbour_precision"] = self._neighbour_precision()
        return row

    @property
    def _adapts(self) -> bool:
        """Whether the target takes part in this epoch."""
        return self.memory is not None and self.epoch >= self.adaptation.target_epoch

    @property
    def _momentum(self) -> float:
        options = self.adaptation
        return min(options.momentum + options.momentum_step * (self.epoch - options.target_epoch), 0.99)

    # -- state ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the engine's state; from ``target_epoch`` on with the memory and the positive prediction."""
        state = super().state_dict()
        if self.epoch < self.adaptation.target_epoch:
            return state
        if self.memory is not None:
            state["memory"] = self.memory.state_dict()
        if self._positives is not None:
            state["positives"] = self._positives.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            InputError: the state is of another model, engine or target.
        """
        super().load_state_dict(state)
        # An epoch from target_epoch on has begun with a memory.
        if self.start_epoch + (self._within is not None) <= self.adaptation.target_epoch:
            return
        try:
            if self.memory is not None:
                self.memory.load_state_dict(state["memory"])
            if self._positives is not None:
                self._positives.load_state_dict(state["positives"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                "the checkpoint holds no exemplar memory of this target; resume with the data and config that it was made with"
            ) from error

    def save_checkpoint(self, folder: StageFolder) -> None:
        """Write the checkpoint; after the last epoch on the source alone write a copy that stays."""
        if self.epoch + 1 == self.adaptation.target_epoch:
            state = self.state_dict()
            if is_main():
                save_checkpoint(folder.source_checkpoint, state)
        super().save_checkpoint(folder)

    # -- details --------------------------------------------------------------

    def _modality_of(self, batch: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Declare the modality of a batch: a frozen split BatchNorm is in eval mode and asks for a declaration.

        A batch without modalities, as torchreid's own data sets give it, is visible, as in evaluation.

        Raises:
            InputError: BatchNorms are split, and the batch is neither of one modality nor ``[visible; infrared]``.
        """
        modalities = _modalities(batch)
        present = modalities.unique().tolist()
        if len(present) == 1:
            return modality_context(MODALITIES[present[0]])
        if self._splits and len(_parts(batch)) == 1:
            raise InputError(
                "a batch has visible and infrared images in no order, expected [visible; infrared] in equal halves for a "
                "network with split BatchNorms; draw the batches as DomainAdaptationDataManager does, or set "
                "model.architecture none"
            )
        return modality_context(BOTH)

    def _remember(self, loader: Any) -> None:
        """Make the memory, with an entry for every training image of the target, and the loss that reads the memory."""
        options, device = self.adaptation, self.options.device
        if options.memory_dtype not in _DTYPES:
            raise InputError(f'ecn.memory_dtype is "{options.memory_dtype}", expected one of {", ".join(_DTYPES)}')
        items = loader.dataset.data
        self._entries = {item[0]: entry for entry, item in enumerate(items)}
        self._pids = torch.tensor([item[1] for item in items])
        manager: Any = self.datamanager
        dim = self.model.embedding_dim if self._embeds else eval_dim(self.model, manager.height, manager.width)
        in_batch = options.exemplars == "batch"
        count = loader.batch_size * processes() if in_batch else len(items)
        self.memory = ExemplarMemory(count, dim, _DTYPES[options.memory_dtype], device, sharded=not in_batch)
        modality_of = getattr(getattr(self.datamanager, "trainset_t", None), "modality_of", lambda camid: 0)
        # Ours: images of the own modality are always nearer, so each modality gives the same number of neighbours.
        modalities = torch.tensor([modality_of(item[2]) for item in items])
        groups = modalities if len(modalities.unique()) > 1 else None
        if groups is not None and in_batch:
            # A batch of both modalities is [visible; infrared] in equal halves.
            groups = torch.arange(2).repeat_interleave(count // 2)
        if options.target_epoch and self._source is None:
            raise InputError(
                f"ecn.target_epoch {options.target_epoch} begins with the source alone, which ecn.weight_target 1 leaves out; "
                "lower the weight or set ecn.target_epoch 0"
            )
        if options.positive_prediction and self._source is None:
            raise InputError(
                "ecn.positive_prediction learns from the source's labels, which ecn.weight_target 1 leaves out; "
                "lower the weight or set ecn.positive_prediction False"
            )
        if options.positive_prediction:
            self._positives = SourcePositives(
                self._source.dataset.data, dim, options.num_candidates, options.positive_threshold, options.positive_lr, device
            )
        self.criterion_t = InvarianceLoss(
            self.memory, options.temperature, options.num_neighbours, options.chunk_size, groups,
            self._positives.network if self._positives is not None else None,
        ).to(device)

    @torch.no_grad()
    def _start_from_features(self) -> None:
        def forward(images: torch.Tensor, modality: str) -> tuple[torch.Tensor]:
            with modality_context(modality):
                return (self._target_feature(images),)

        self.model.eval()
        assert self.memory is not None
        features = [self.by_modality(data, forward)[0] for data in self._target_images()]
        self.memory.initialize(torch.cat(features))

    def _target_images(self) -> Iterable[Mapping[str, Any]]:
        """Return a loader of the training images of the target in test transforms, in the order of their entries."""
        if hasattr(self.datamanager, "target_images"):
            return self.datamanager.target_images()
        # torchreid's own data managers have no such method.
        loader = self.datamanager.train_loader_t
        dataset = as_cross_modality(loader.dataset).view(loader.dataset.data, self.datamanager.transform_te)
        return ImageLoader(dataset, loader.batch_size, num_workers=loader.num_workers)

    @torch.no_grad()
    def _neighbour_precision(self) -> float:
        """Return the share of the neighbours of an entry, without itself, that have its label, over a fixed sample of entries."""
        assert self.memory is not None
        chosen = torch.linspace(0, len(self._pids) - 1, min(len(self._pids), _LOOKED_AT)).long()
        features = self.memory.rows(chosen.to(self.options.device)[None], torch.float32)[0]
        nearest, others = (part.cpu() for part in self.criterion_t.neighbours(features))
        others &= nearest != chosen[:, None]
        same = self._pids[nearest] == self._pids[chosen][:, None]
        return float((same & others).sum() / others.sum().clamp(min=1))


def _modalities(batch: Mapping[str, Any]) -> torch.Tensor:
    return torch.as_tensor(batch.get("modality", torch.zeros(len(batch["img"]), dtype=torch.int64)))


def _parts(batch: Mapping[str, Any]) -> list[int]:
    """Return the images of each modality where a batch is ``[visible; infrared]`` in equal halves, else of the one part."""
    modalities = _modalities(batch)
    half = len(modalities) // 2
    return [half, half] if torch.equal(modalities, torch.arange(2).repeat_interleave(half)) else [len(modalities)]
