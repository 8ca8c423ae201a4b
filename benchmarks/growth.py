#!/usr/bin/env python
"""How cost grows with the batch, the identities of a batch, the slots of ECN's memory and the gallery: one curve each.

    python benchmarks/growth.py                       # tables, and figures/*.png beside this script
    python benchmarks/growth.py --curves gallery      # some of them
    python benchmarks/growth.py --largest 100000      # leave the large memories and galleries out

Every point is the median of ``--repetitions`` turns, ours and the plain
implementation in turn; above ten seconds a single turn is taken, and the plain
implementation stops where it would need more memory than the machines of the
field have. The last column is the exponent of growth from one point to the
next: 1 is proportional.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import memory as memory_benchmark
import torch
from harness import Step, arguments, machine, take_turns
from plain.normalization import plain_split
from plain.training import PlainTraining, plain_c3mmd, plain_triplet
from results import Report
from torch.nn import functional as F

from torchreid_nas.device import computes_bfloat16, suits_channels_last
from torchreid_nas.engine import CrossModalityLossWeights
from torchreid_nas.losses import C3MMDLoss, CrossModalityTripletLoss, ExemplarMemory
from torchreid_nas.metrics import rank_features
from torchreid_nas.models import two_stream_resnet50
from torchreid_nas.report.style import FAINT, GRID, INK, SHARE_COLOURS, SPLIT_COLOURS, new_figure, save_figure

_FIGURES = Path(__file__).resolve().parent / "figures"
_SLOW = 10.0
_MOST_PLAIN = 100_000
_INSTANCES = 4
_COLOURS = (SPLIT_COLOURS[1], SHARE_COLOURS[1], SHARE_COLOURS[0])


def main() -> None:
    parser = arguments(__doc__, repetitions=10, largest=1_000_000)
    parser.add_argument("--curves", nargs="+", choices=sorted(_CURVES), default=list(_CURVES))
    options = parser.parse_args()
    with Report(machine(options.device), options.json) as report:
        for name in options.curves:
            title, unit, sizes, steps_of = _CURVES[name]
            seconds: dict[str, dict[int, float]] = {}
            for size in (size for size in sizes if size <= options.largest):
                for step, median in _medians(steps_of(size, options.device), options.repetitions, options.device).items():
                    seconds.setdefault(step, {})[size] = median
            report.table(_rows(seconds), ["", unit, "ms", "exponent"], f"{title}, milliseconds")
            picture = _FIGURES / f"{name}.png"
            _draw(seconds, title, unit, picture)
            report.image(picture, title)


def _medians(steps: Mapping[str, Step], repetitions: int, device: torch.device) -> dict[str, float]:
    first = take_turns(steps, 1, 1, device)
    if sum(map(first.median, steps)) > _SLOW:
        return {name: first.median(name) for name in steps}
    turns = take_turns(steps, repetitions, 0, device)
    return {name: turns.median(name) for name in steps}


def _batch(batch: int, device: torch.device) -> Mapping[str, Step]:
    """A training step of CM-NAS, two-stream ResNet-50 at 128×64, without its optimiser."""
    half = computes_bfloat16(device)
    memory_format = torch.channels_last if suits_channels_last(device) else torch.contiguous_format
    images, pids = torch.randn(batch, 3, 128, 64, device=device), _pids(batch // 2)
    own_images, labels = images.contiguous(memory_format=memory_format), pids.repeat(2).to(device)
    ours = two_stream_resnet50(100, "split", pretrained=False).to(device, memory_format=memory_format).train()
    plain = plain_split(two_stream_resnet50(100, "split", pretrained=False)).to(device).train()
    triplet, c3mmd, weights = CrossModalityTripletLoss(), C3MMDLoss(_INSTANCES), CrossModalityLossWeights()
    naive = PlainTraining(plain, torch.optim.SGD(plain.parameters(), 0.01), _INSTANCES, weights, 0.99)

    def our_step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            before, after = ours.features(own_images)
            logits = ours.classifier(after)
        loss = F.cross_entropy(logits.float(), labels) + triplet(*before.chunk(2), pids)
        ours.zero_grad(set_to_none=True)
        (loss + c3mmd(*after.chunk(2))).backward()

    def plain_step() -> None:
        plain.zero_grad(set_to_none=True)
        sum(naive.losses({"img": images, "pid": labels}).values()).backward()

    return {"ours": our_step, "plain": plain_step}


def _identities(identities: int, device: torch.device) -> Mapping[str, Step]:
    """C3MMD and the cross-modality triplet loss, forward and backward, 4 + 4 images per identity, 2048 numbers each."""
    pids = _pids(identities * _INSTANCES)
    on_device = pids.to(device)
    halves = [torch.randn(len(pids), 2048, device=device, requires_grad=True) for _ in range(2)]
    triplet, c3mmd = CrossModalityTripletLoss(), C3MMDLoss(_INSTANCES)
    return {
        "ours": _backward(lambda: triplet(*halves, pids) + c3mmd(*halves), halves),
        "plain": _backward(
            lambda: plain_triplet(*halves, on_device, 0.4) + plain_c3mmd(*halves, _INSTANCES, 5.0, 0.05), halves
        ),
    }


def _memory(slots: int, device: torch.device) -> Mapping[str, Step]:
    """A step of ECN's memory (loss, backward, update), slots of 2048 numbers, 128 images."""
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(128, 2048, generator=generator)).to(device)
    indices = torch.randint(slots, (128,), generator=generator)
    half = memory_benchmark.filled_memory(slots, 2048, torch.bfloat16, device)
    steps = {"ours, bf16": memory_benchmark.our_step(half, features, indices)}
    if slots <= _MOST_PLAIN:
        single = ExemplarMemory(slots, 2048, device=device)
        single.features.copy_(half.features)
        steps["ours, fp32"] = memory_benchmark.our_step(single, features, indices)
        steps["plain"] = memory_benchmark.plain_step(single.features.clone(), features, indices)
    return steps


def _gallery(size: int, device: torch.device) -> Mapping[str, Step]:
    """Ranking from features of 512 numbers, 500 queries, ten images per identity, in blocks."""
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(size // 10).repeat_interleave(10)
    gallery = F.normalize(torch.randn(size, 512, generator=generator)).to(device)
    q_pids = torch.randint(size // 10, (500,), generator=generator)
    query = F.normalize(gallery[10 * q_pids] + torch.randn(500, 512, generator=generator).to(device))
    steps: dict[str, Step] = {"ours, in blocks": lambda: rank_features(query, gallery, q_pids, pids)}
    if size <= _MOST_PLAIN:
        steps["plain"] = lambda: _sort_all(query, gallery, q_pids, pids)
    return steps


def _sort_all(query: torch.Tensor, gallery: torch.Tensor, q_pids: torch.Tensor, pids: torch.Tensor) -> float:
    """All distances, all of them sorted, the average precision query by query."""
    order = torch.cdist(query, gallery).argsort(dim=1).cpu()
    precisions = []
    for row, pid in zip(order, q_pids):
        places = (pids[row] == pid).nonzero().flatten()
        precisions.append((torch.arange(1, len(places) + 1) / (places + 1)).mean())
    return float(torch.stack(precisions).mean())


_CURVES: dict[str, tuple[str, str, tuple[int, ...], Callable[[int, torch.device], Mapping[str, Step]]]] = {
    "batch": ("Forward and backward of a CM-NAS step by batch", "images", (16, 32, 64, 128), _batch),
    "identities": ("C3MMD and triplet loss by identities in a batch", "identities", (2, 4, 8, 16, 32, 64), _identities),
    "memory": ("A step of ECN's memory by slots", "slots", (1_000, 10_000, 100_000, 1_000_000), _memory),
    "gallery": ("Ranking 500 queries by gallery", "gallery images", (1_000, 10_000, 100_000, 1_000_000), _gallery),
}


def _pids(count: int) -> torch.Tensor:
    # On the CPU, as the engines keep them: our triplet loss reads them, for which a GPU need not be waited for.
    return torch.arange(count // _INSTANCES).repeat_interleave(_INSTANCES)


def _backward(loss: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> Step:
    return lambda: torch.autograd.grad(loss(), inputs)


def _rows(seconds: Mapping[str, Mapping[int, float]]) -> list[list[str]]:
    rows = []
    for name, points in seconds.items():
        before = None
        for size, value in points.items():
            growth = f"{math.log(value / before[1]) / math.log(size / before[0]):.2f}" if before else ""
            rows.append([name, f"{size:,}", f"{1000 * value:.1f}", growth])
            before = size, value
    return rows


def _draw(seconds: Mapping[str, Mapping[int, float]], title: str, unit: str, path: Path) -> None:
    figure = new_figure((5.2, 3.4))
    axes = figure.add_axes((0.15, 0.15, 0.6, 0.72))
    for (name, points), colour in zip(sorted(seconds.items()), _COLOURS):
        sizes, values = list(points), [1000 * value for value in points.values()]
        axes.plot(sizes, values, marker="o", markersize=4, color=colour, linewidth=1.8, clip_on=False)
        axes.annotate(
            name, (sizes[-1], values[-1]), xytext=(8, 0), textcoords="offset points", va="center", color=colour,
            annotation_clip=False,
        )
    axes.set(xscale="log", yscale="log", xlabel=unit)
    axes.set_title(f"{title}, milliseconds", loc="left", color=INK, fontsize=10)
    axes.grid(color=GRID, linewidth=0.6)
    lowest, highest = axes.get_ylim()
    axes.set_ylim(10 ** math.floor(math.log10(lowest)), 10 ** math.ceil(math.log10(highest)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value / 1e6:g} million")
    axes.set_xticks(sorted(set().union(*seconds.values())))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.tick_params(which="both", colors=FAINT)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
