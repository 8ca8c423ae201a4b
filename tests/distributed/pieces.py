"""The pieces of distributed training: each computes its share of one fixed batch, and is the same function in one process.

A piece returns tensors by name. Those of each of several processes must equal those of one process: losses and gradients
averaged over the processes, as DistributedDataParallel averages them, and statistics as they are.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from torchreid_nas import distributed
from torchreid_nas.engine.ema import ExponentialMovingAverage
from torchreid_nas.engine.parallel import ParallelLosses
from torchreid_nas.engine.positives import SourcePositives
from torchreid_nas.errors import InputError
from torchreid_nas.layers import (
    BNNeck,
    MixedBatchNorm1d,
    MixedBatchNorm2d,
    SplitBatchNorm2d,
    average_statistics,
    joint_lengths,
    modality_context,
    synchronized_norms,
    whole_dropout,
)
from torchreid_nas.losses import (
    BatchHardTripletLoss,
    C3MMDLoss,
    ClassMMDLoss,
    CorrelationConsistencyLoss,
    CrossModalityTripletLoss,
    EnhancedSquaredDifferenceLoss,
    ExemplarMemory,
    InvarianceLoss,
    WeightedRegularizedTripletLoss,
    memory_walk,
)

Result = dict[str, Tensor]
PIECES: dict[str, Callable[[], Result]] = {}
# Names of pieces that three processes leave out.
ONLY_TWO: set[str] = set()
# Identities × images of an identity: shares of 1, 2 and 3 processes hold whole identities.
IDENTITIES, INSTANCES = 6, 2
PART = IDENTITIES * INSTANCES
PIDS = torch.arange(IDENTITIES).repeat_interleave(INSTANCES)


def piece(name: str) -> Callable[[Callable[[], Result]], Callable[[], Result]]:
    """Enter a piece into the table."""
    def enter(function: Callable[[], Result]) -> Callable[[], Result]:
        assert name not in PIECES
        PIECES[name] = function
        return function
    return enter


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Return random numbers that do not depend on the process."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def share(x: Tensor, parts: Sequence[int]) -> Tensor:
    """Return this process's rows of each part of ``x``."""
    own = []
    for part in x.split(list(parts)):
        length = len(part) // distributed.processes()
        own.append(part[distributed.rank() * length :][:length])
    return torch.cat(own)


def averaged(model: nn.Module) -> Result:
    """Return the gradients of the weights as DistributedDataParallel leaves them, and the buffers."""
    gradients = {f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients
    distributed.average(gradients.values())
    return {**gradients, **{f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}}


def mean_over_processes(loss: Tensor) -> Tensor:
    loss = loss.detach().clone()
    distributed.average([loss])
    return loss


def network(dim: int = 5) -> nn.Module:
    model = nn.Linear(4, dim).double()
    with torch.no_grad():
        model.weight.copy_(numbers(dim, 4, seed=1))
        model.bias.copy_(numbers(dim, seed=2))
    return model


# -- losses over the batch of all processes ---------------------------------------------------------------------------


def of_batch(loss: nn.Module, copies: int) -> Result:
    """Return the loss of [visible × copies; infrared] and the gradients of the network before the loss."""
    model, parts = network(), [PART] * (copies + 1)
    images = numbers((copies + 1) * PART, 4, seed=3)
    own_parts = [PART // distributed.processes()] * (copies + 1)
    features = distributed.gather_batch(model(share(images, parts)), own_parts)
    pids = distributed.gather_batch(share(PIDS.repeat(copies + 1), parts), own_parts)
    visible, infrared = features.split([copies * PART, PART])
    if isinstance(loss, (ClassMMDLoss, CorrelationConsistencyLoss)):
        value = loss(visible, infrared)
    elif isinstance(loss, C3MMDLoss):
        value = loss(visible, infrared, pids[: copies * PART], pids[copies * PART :])
    elif isinstance(loss, CrossModalityTripletLoss):
        value = loss(visible, infrared, pids[copies * PART :])
    else:
        value = loss(features, pids)
    value.backward()
    return {"loss": value.detach(), "features": features.detach(), **averaged(model)}


for title, make in {
    "batch-hard triplets within and across the modalities": lambda: CrossModalityTripletLoss(margin=1.5),
    "batch-hard triplets of one set": lambda: BatchHardTripletLoss(margin=1.5),
    "weighted regularised triplets": WeightedRegularizedTripletLoss,
    "enhanced squared difference": EnhancedSquaredDifferenceLoss,
    "class MMD": lambda: ClassMMDLoss(INSTANCES),
    "correlation consistency": CorrelationConsistencyLoss,
    "C3MMD": lambda: C3MMDLoss(INSTANCES),
}.items():
    for copies, suffix in ((1, ""), (2, ", two visible copies")):
        piece(title + suffix)(lambda make=make, copies=copies: of_batch(make(), copies))


@piece("cross-entropy, the mean over own images")
def cross_entropy() -> Result:
    model = network(IDENTITIES)
    own = share(PIDS, [PART])
    loss = nn.functional.cross_entropy(model(share(numbers(PART, 4, seed=3), [PART])), own)
    loss.backward()
    return {"loss": mean_over_processes(loss), **averaged(model)}


@piece("sums over all processes, and rows of unequal lengths")
def sums() -> Result:
    model = network(3)
    lengths = [PART // distributed.processes()] * distributed.processes()
    if len(lengths) > 1:
        lengths[0], lengths[-1] = lengths[0] - 1, lengths[-1] + 1
    own = model(numbers(PART, 4, seed=3).split(lengths)[distributed.rank()])
    loss = distributed.all_sum(own.square().sum(0)).sin().sum() + distributed.gather(own, lengths).prod(1).cos().sum()
    loss.backward()
    return {"loss": loss.detach(), **averaged(model)}


# -- BatchNorm ----------------------------------------------------------------------------------------------------------


def of_norm(norm: nn.Module, shape: Sequence[int], parts: Sequence[int], modality: str | None = None) -> Result:
    """Return the output of two steps through a norm, whole, the gradients of norm and input, and the running statistics."""
    norm = norm.double()
    for number, parameter in enumerate(norm.parameters()):
        parameter.data = numbers(*parameter.shape, seed=10 + number)
    found: Result = {}
    own_parts = [length // distributed.processes() for length in parts]
    for step in range(2):
        whole = numbers(sum(parts), *shape, seed=20 + step).mul(1 + step).add(3)
        whole[parts[0] :] = whole[parts[0] :] * 2 - 1
        images = share(whole, parts).requires_grad_()
        weights = share(numbers(*whole.shape, seed=30 + step), parts)
        with synchronized_norms(norm), joint_lengths(own_parts[0], own_parts[-1]):
            with modality_context(modality or "both"):
                output = norm(images)
            # The mean over own images, whose mean over the processes is that over the batch.
            (output * weights).flatten(1).sum(1).mean().backward()
        # A process has W times the gradient of its rows, since the mean over its images is W times as steep.
        gradient = images.grad / distributed.processes()
        found[f"output {step}"] = distributed.gather_batch(output.detach(), own_parts)
        found[f"gradient x {step}"] = distributed.gather_batch(gradient, own_parts)
    return {**found, **averaged(norm)}


def mixed(norm: nn.Module) -> nn.Module:
    norm.temperature = 0.5
    return norm


HALVES, THIRDS = (PART, PART), (2 * PART, PART)
for title, make, shape, parts, modality in (
    ("shared BatchNorm2d", lambda: nn.BatchNorm2d(3), (3, 4, 2), HALVES, None),
    ("shared BatchNorm2d, mean over all batches", lambda: nn.BatchNorm2d(3, momentum=None), (3, 4, 2), HALVES, None),
    ("BatchNorm2d without parameters", lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)),
     (3, 4, 2), HALVES, None),
    ("BatchNorm1d", lambda: nn.BatchNorm1d(3), (3,), HALVES, None),
    ("BatchNorm1d of sequences", lambda: nn.BatchNorm1d(3), (3, 5), HALVES, None),
    ("BNNeck", lambda: BNNeck(3), (3,), THIRDS, None),
    ("split BatchNorm2d", lambda: SplitBatchNorm2d(3), (3, 4, 2), HALVES, None),
    ("split BatchNorm2d, two visible copies", lambda: SplitBatchNorm2d(3), (3, 4, 2), THIRDS, None),
    ("split BatchNorm2d, infrared alone", lambda: SplitBatchNorm2d(3), (3, 4, 2), (PART,), "infrared"),
    ("mixed BatchNorm2d", lambda: mixed(MixedBatchNorm2d(3)), (3, 4, 2), HALVES, None),
    ("mixed BatchNorm2d, two visible copies", lambda: mixed(MixedBatchNorm2d(3)), (3, 4, 2), THIRDS, None),
    ("mixed BatchNorm2d, visible alone", lambda: mixed(MixedBatchNorm2d(3)), (3, 4, 2), (PART,), "visible"),
    ("mixed BatchNorm1d", lambda: mixed(MixedBatchNorm1d(nn.BatchNorm1d(3))), (3,), THIRDS, None),
):
    piece(title)(lambda make=make, shape=shape, parts=parts, modality=modality: of_norm(make(), shape, parts, modality))


@piece("shared BatchNorm2d, shares of unequal lengths")
def unequal_shares() -> Result:
    count = distributed.processes()
    lengths = [[6], [1, 5], [1, 2, 3]][count - 1]
    norm = nn.BatchNorm2d(3).double()
    # The first process has one value per channel, which alone has no variance.
    images = numbers(6, 3, 1, 1, seed=40).split(lengths)[distributed.rank()].clone().requires_grad_()
    weights = numbers(6, 3, 1, 1, seed=41).split(lengths)[distributed.rank()]
    with synchronized_norms(norm):
        output = norm(images)
    ((output * weights).sum() * count).backward()
    return {
        "output": distributed.gather(output.detach(), lengths), "gradient x": distributed.gather(images.grad / count, lengths),
        **averaged(norm),
    }


# -- the memory of ECN, in parts ----------------------------------------------------------------------------------------------

ENTRIES, DIM = 17, 5
# Entries that occur several times, in one share and in several.
OCCURRING = torch.tensor([3, 16, 3, 0, 5, 9, 3, 9, 11, 12, 3, 0])


class EveryOther:
    """Judges candidates by their own values, as a network of positives does."""

    num_candidates = 7

    def positives(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        return (anchors[:, None] * candidates).sum(2) > candidates.mean(2)


def of_memory(start: bool, dtype: torch.dtype = torch.float64, **options: object) -> Result:
    """Return the losses, gradients and entries of three steps with an update after each, and what a state restores."""
    memory = ExemplarMemory(ENTRIES, DIM, dtype, sharded=True)
    if start:
        memory.initialize(numbers(ENTRIES, DIM, seed=60))
    criterion = InvarianceLoss(memory, temperature=0.3, chunk_size=4, **options)
    model, own_parts, found = network(DIM), [PART // distributed.processes()], {}
    own = share(OCCURRING, [PART])
    for step in range(3):
        local = nn.functional.normalize(model(share(numbers(PART, 4, seed=61 + step), [PART])))
        features, entries = distributed.gather_batch(local, own_parts), distributed.gather_batch(own, own_parts)
        loss = criterion(features, entries, neighbours=step > 0)
        loss.backward()
        memory.update(features, entries, momentum=0.4)
        found[f"loss {step}"] = loss.detach()
        found[f"entries {step}"] = memory.rows(torch.arange(ENTRIES)[None], torch.float64)[0]
    nearest, order = criterion.neighbours(features.detach())[0].sort(dim=1)
    positive = criterion.neighbours(features.detach())[1].gather(1, order)
    state = distributed.broadcast_object(memory.state_dict())
    restored = ExemplarMemory(ENTRIES, DIM, dtype, sharded=True)
    restored.load_state_dict(state)
    assert len(restored.features) < ENTRIES or distributed.processes() == 1
    return {
        **found, **averaged(model), "neighbours": nearest, "positive": positive, "state": state["features"],
        "restored": restored.rows(torch.arange(ENTRIES)[None], torch.float64)[0],
    }


GROUPS = (torch.arange(ENTRIES) > 11).long()
for title, options in {
    "ECN's memory: invariance, updates, state": {"start": True, "num_neighbours": 6},
    "ECN's memory from zeros": {"start": False, "num_neighbours": 0},
    "ECN's memory of two modalities": {"start": True, "num_neighbours": 6, "groups": GROUPS},
    "ECN's memory, all entries neighbours": {"start": True, "num_neighbours": ENTRIES},
    "ECN++'s memory, positives chosen": {"start": True, "num_neighbours": 6, "positive_prediction": EveryOther()},
}.items():
    piece(title)(lambda options=options: of_memory(**options))


@piece("ECN's memory in bfloat16, multiplied in bfloat16")
def half_memory() -> Result:
    with mock.patch.object(memory_walk, "computes_bfloat16", lambda device: True):
        found = of_memory(start=True, dtype=torch.bfloat16, num_neighbours=4)
    # The mean entry is a sum in bfloat16, relative to the peak of each part: the gradient differs by that rounding.
    return {name: value for name, value in found.items() if not name.startswith("gradient")}


@piece("ECN++'s graph network and its memory of the source")
def source_positives() -> Result:
    torch.manual_seed(0)
    items = [(f"{entry}.jpg", entry % 4) for entry in range(ENTRIES)]
    positives = SourcePositives(items, DIM, num_candidates=6, threshold=0.5, lr=0.01, device=torch.device("cpu"))
    positives.network.double()
    # Of entries that are zero any may be the nearest.
    positives.memory.double().initialize(numbers(ENTRIES, DIM, seed=69))
    entries = positives.entries([f"{entry}.jpg" for entry in OCCURRING.tolist()])
    losses = []
    for step, momentum in enumerate((0.0, 0.3, 0.3)):
        features = nn.functional.normalize(numbers(PART, DIM, seed=70 + step))
        positives.see(share(features, [PART]), share(entries, [PART]))
        loss = positives.step(momentum)
        losses += [] if loss is None else [mean_over_processes(loss)]
    return {
        "losses": torch.stack(losses), "entries": positives.memory.rows(torch.arange(ENTRIES)[None], torch.float64)[0],
        **positives.network.state_dict(),
    }


# -- dropout ------------------------------------------------------------------------------------------------------------------


class DropPath(nn.Module):
    """Drops whole images, as timm's layer of this name."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(0.5) if self.training else x


def of_dropout(layer: nn.Module, shape: Sequence[int], parts: Sequence[int], layout: torch.memory_format) -> Result:
    """Return what is left of a batch, whole, and the gradient of the batch."""
    torch.manual_seed(0)
    own_parts = [length // distributed.processes() for length in parts]
    found: Result = {}
    for step in range(2):
        images = share(numbers(sum(parts), *shape, seed=80 + step), parts).contiguous(memory_format=layout).requires_grad_()
        declared = modality_context("both") if len(parts) > 1 else contextlib.nullcontext()
        with whole_dropout(layer), joint_lengths(sum(own_parts[:-1]) or 1, own_parts[-1]), declared:
            output = layer(images)
        output.square().sum().backward()
        found[f"output {step}"] = distributed.gather_batch(output.detach(), own_parts)
        found[f"gradient {step}"] = distributed.gather_batch(images.grad, own_parts)
    return found


ROWS, LAST = torch.contiguous_format, torch.channels_last
for title, layer, shape, parts, layout in (
    ("dropout", nn.Dropout(0.5), (5,), (PART,), ROWS),
    ("dropout of [visible; infrared]", nn.Dropout(0.3), (5,), HALVES, ROWS),
    ("dropout of two visible copies, channels last", nn.Dropout(0.3), (3, 4, 2), (PART, PART, PART), LAST),
    ("dropout of channels", nn.Dropout2d(0.5), (7, 2, 2), HALVES, ROWS),
    ("stochastic depth", DropPath(), (3, 2, 2), HALVES, ROWS),
):
    piece(title)(
        lambda layer=layer, shape=shape, parts=parts, layout=layout: of_dropout(layer, shape, parts, layout)
    )


# -- the step -------------------------------------------------------------------------------------------------------------


@piece("three steps of two accumulated batches, with an average of the weights")
def steps() -> Result:
    # A shift before a BatchNorm has no gradient, and Adam would divide what rounding leaves of it by its own size.
    model = nn.Sequential(nn.BatchNorm1d(4).double(), network(6))
    average = ExponentialMovingAverage(model, decay=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    own_parts = [PART // distributed.processes()]
    criterion = BatchHardTripletLoss(margin=1.5)
    for step in range(3):
        optimizer.zero_grad()
        for batch in range(2):
            images = share(numbers(PART, 4, seed=50 + 2 * step + batch), [PART])
            with synchronized_norms(model):
                features = model(images)
            own = share(PIDS, [PART])
            loss = nn.functional.cross_entropy(features, own) + criterion(
                distributed.gather_batch(features, own_parts), distributed.gather_batch(own, own_parts)
            )
            (loss / 2).backward()
        distributed.average([parameter.grad for parameter in model.parameters()])
        optimizer.step()
        average.update()
    return {**model.state_dict(), **{f"average {name}": value for name, value in average.module.state_dict().items()}}


@piece("the scale of fp16: a step that overflows on one process is left out on all")
def overflow() -> Result:
    model = network(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    losses, scales = ParallelLosses(model.parameters()), []
    for step in range(4):
        images = numbers(PART, 4, seed=90 + step)
        images[-1] *= float("inf") if step == 1 else 1.0
        optimizer.zero_grad()
        loss = losses(lambda batch: {"ce": model(batch).square().mean()}, share(images, [PART]))["ce"]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert scales == [8.0, 4.0, 4.0, 8.0]
    return {**averaged(model), **model.state_dict(), "scales": torch.tensor(scales)}


# -- the processes ----------------------------------------------------------------------------------------------------------


@piece("agreement, objects and averages")
def agreement() -> Result:
    distributed.agree(torch.tensor([float("nan"), 1.0]), "the logits")
    count, number = distributed.processes(), distributed.rank()
    if count > 1:
        with pytest.raises(InputError, match=f"the logits of the process 1{', 2' if count == 3 else ''} differ from those of"):
            distributed.agree(torch.tensor(min(number, 1)), "the logits")
    assert distributed.all_gather_object(f"{number}") == [str(other) for other in range(count)]
    assert distributed.is_main() == (number == 0)
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(number - (count - 1) / 2)
    average_statistics(norm)
    distributed.barrier()
    return {
        "of the first process": torch.tensor(distributed.broadcast_object(number)),
        "whether rows are": distributed.gather(torch.tensor([True] * (6 // count))), "statistics": norm.running_mean,
    }
