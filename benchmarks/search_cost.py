"""Time and memory of one search step of CDNet, by relaxation, as ratios to one training step of the derived network.

A search step is a weight step on one batch and an architecture step on another
(first order); the training step is one weight step of the published CDNet on a
batch of that size. Every row has the paper's search head, dropout left out, and
cross entropy alone, which next to the network costs nothing. The logits stay as
they start, so that every draw of a row picks its candidates evenly.

Time is the median over turns, in each of which every row takes one step, so
that a machine's moods fall on all alike. Memory is that of activations, the
median over turns too. On a GPU: the peak of a step above what was allocated
before it. On a CPU: the bytes that a weight step's forward pass keeps for its
backward pass, every storage once, parameters and buffers left out; the
architecture step keeps as much, once the first is freed.

    python benchmarks/search_cost.py [--batch 16] [--height 256] [--width 128] [--repeats 10] [--device cpu]
"""
from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from harness import add_json, machine
from results import Report
from torch import nn
from torch.nn import functional as F

from torchreid_nas.models import cdnet
from torchreid_nas.search import BilevelOptimizer, CombinedDepthSpace
from torchreid_nas.search.relaxation import GumbelSample, Softmax, TopK

RELAXATIONS = {
    "top-1": TopK(1), "top-2": TopK(2), "top-3": TopK(3), "softmax (all)": Softmax(), "gumbel (GDAS)": GumbelSample(),
}
TRAINING, FULL = "training step", "softmax (all)"
CLASSES = 100
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass
class Row:
    """One line of the table.

    Args:
        model: what is trained.
        prepare: draws what a step's forward passes share.
        step: one step on two batches.
    """

    model: nn.Module
    prepare: Callable[[], None]
    step: Callable[[Batch, Batch], None]
    seconds: list[float] = dataclasses.field(default_factory=list)
    bytes: list[int] = dataclasses.field(default_factory=list)

    def loss(self, batch: Batch) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images)[0], labels)


def training_row(device: torch.device) -> Row:
    """The published CDNet with the search's head, and plain SGD."""
    model = cdnet(CLASSES, neck="blneck", dropout=0.0).to(device)
    optimizer = _sgd(model.parameters())

    def step(first: Batch, _: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        row.loss(first).backward()
        optimizer.step()

    row = Row(model, lambda: None, step)
    return row


def search_row(method, device: torch.device) -> Row:
    """The supernet under one relaxation, and both levels of its search."""
    space, generator = CombinedDepthSpace(method), torch.Generator().manual_seed(0)
    model = space.build_supernet(cdnet(CLASSES, neck="blneck", dropout=0.0)).to(device)
    alphas = space.architecture_parameters(model)
    ids = {id(alpha) for alpha in alphas}
    weights = _sgd(parameter for parameter in model.parameters() if id(parameter) not in ids)
    bilevel = BilevelOptimizer(weights, torch.optim.Adam(alphas, lr=0.0, betas=(0.5, 0.999)))

    def step(first: Batch, second: Batch) -> None:
        bilevel.step_weights(row.loss(first))
        bilevel.step_architecture(lambda: row.loss(second))

    row = Row(model, lambda: space.sample(model, generator), step)
    return row


def saved_bytes(row: Row, batch: Batch) -> int:
    """Bytes that a forward pass keeps for its backward pass; see the module's docstring."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*row.model.parameters(), *row.model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> None:
        # Holding the storage keeps its address from being given to another. The tensor itself must not be held:
        # one that its own node saved would keep the whole graph alive for ever.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda nothing: nothing):
        row.loss(batch)
    return sum(storage.nbytes() for storage in storages.values())


def turn(row: Row, first: Batch, second: Batch) -> None:
    """One step, timed and its memory taken."""
    row.prepare()
    device = first[0].device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        row.bytes.append(saved_bytes(row, first))
    start = time.perf_counter()
    row.step(first, second)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        row.bytes.append(torch.cuda.max_memory_allocated(device) - before)
    row.seconds.append(time.perf_counter() - start)


def measure(batch: int, height: int, width: int, repeats: int, device: torch.device) -> dict[str, Row]:
    """Take ``repeats`` turns after one that does not count, and return the rows by name."""
    torch.manual_seed(0)
    rows = {TRAINING: training_row(device), **{name: search_row(m, device) for name, m in RELAXATIONS.items()}}
    for index in range(1 + repeats):
        batches = [
            (torch.randn(batch, 3, height, width, device=device), torch.randint(CLASSES, (batch,), device=device))
            for _ in range(2)
        ]
        for row in rows.values():
            turn(row, *batches)
        if index == 0:
            for row in rows.values():
                row.seconds.clear()
                row.bytes.clear()
    return rows


def _sgd(parameters) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, 0.025, momentum=0.9, weight_decay=3e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="images; 64 in the paper (default: %(default)s)")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=10, help="turns (default: %(default)s)")
    default = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--device", type=torch.device, default=default, help="(default: %(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    rows = measure(arguments.batch, arguments.height, arguments.width, arguments.repeats, arguments.device)
    time_of = {name: statistics.median(row.seconds) for name, row in rows.items()}
    memory_of = {name: statistics.median(row.bytes) for name, row in rows.items()}
    table = []
    for name in rows:
        seconds, size = time_of[name], memory_of[name]
        table.append([
            name, f"{seconds:.3f}", f"{seconds / time_of[TRAINING]:.2f}", f"{seconds / time_of[FULL]:.2f}",
            f"{size / 1e6:.0f}", f"{size / memory_of[TRAINING]:.2f}", f"{size / memory_of[FULL]:.2f}",
        ])
    shares = ["of a training step", "of the full mixture"]
    with Report(machine(arguments.device), arguments.json) as report:
        report.table(
            table, ["", "s/step", *shares, "MB", *shares],
            f"{arguments.batch} images of {arguments.height}x{arguments.width}, {arguments.repeats} turns",
        )


if __name__ == "__main__":
    main()
