#!/usr/bin/env python
"""Split and searched BatchNorm inside ResNet-50: ours against the plain implementation, turn by turn.

    python benchmarks/normalization.py                      # 8+8 images at 256x128 on a CPU, 64+64 on a GPU; bf16 where
                                                            # the hardware computes it
    python benchmarks/normalization.py --precision bf16     # channels-last under autocast; "fp32" is NCHW

Plain is what is written first: a split BatchNorm as two layers and a
concatenation, a searched one as three layers and a weighted sum. A step has
cross entropy and the cross-modality triplet loss, the optimisers are those of
the search (SGD with momentum, Adam), gradients are not clipped. The
architecture step sees a batch of its own and the same two losses.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Limits, Turns, arguments, flops_of, machine, measure_limits, peak_memory, take_turns
from plain.mixed_normalization import PlainMixedBatchNorm2d, plain_supernet
from plain.normalization import plain_split
from results import Report
from torch import nn
from torch.nn import functional as F

from torchreid_nas.device import computes_bfloat16, rectify_in_place
from torchreid_nas.layers import MixedBatchNorm2d
from torchreid_nas.losses import CrossModalityTripletLoss
from torchreid_nas.models import two_stream_resnet50
from torchreid_nas.search import BilevelOptimizer, BNSplitSpace

_CLASSES, _HEIGHT, _WIDTH, _INSTANCES = 395, 256, 128, 4
# What is compared: the step, the step it is a ratio to, targets of time in (fp32, bf16), and of memory.
_ROWS = (
    ("split, training step", "shared", 1.03, 1.03, None),
    ("split, plain", "shared", None, None, None),
    ("searched, weight step", "split, training step", 1.0, 1.12, 1.10),
    ("searched, weight step", "split, plain", 1.0, 1.12, 1.10),
    ("searched, plain, weight step", "split, plain", None, None, None),
    ("searched, iteration", "searched, plain, iteration", 0.4, 0.88, 0.6),
)
_STEPS = {"searched": "searched, iteration", "searched, plain": "searched, plain, iteration"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: both, or fp32 where bf16 is emulated")
    chosen = parser.parse_args()
    precisions = ("fp32", "bf16") if computes_bfloat16(chosen.device) else ("fp32",)
    half = 64 if chosen.device.type == "cuda" else 8
    limits = measure_limits(chosen.device)
    rows = []
    for precision in (chosen.precision,) if chosen.precision else precisions:
        rows += _measure(precision == "bf16", half, chosen.repetitions, chosen.device, limits)
    headers = ["ResNet-50", "step", "ms", "of the limit", "MiB", "compared with", "time", "target", "memory", "target"]
    with Report(machine(chosen.device), chosen.json) as report:
        report.table(rows, headers)
        report.text(
            f"{half}+{half} images at {_HEIGHT}x{_WIDTH}, {limits}. Of the limit: what the step's matrix products and "
            "convolutions alone would take at that rate. MiB: peak beyond what is there before the step. A searched iteration "
            "is a weight step and an architecture step."
        )


def steps_by_name(half_precision: bool, half: int, device: torch.device) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the steps that are compared; each returns its loss."""
    trainings = {
        "shared": _Training(two_stream("share"), half_precision, half, device),
        "split, plain": _Training(plain_split(two_stream("split")), half_precision, half, device),
        "split, training step": _Training(two_stream("split"), half_precision, half, device),
        "searched": _Training(supernet(), half_precision, half, device),
        "searched, plain": _Training(plain_supernet(supernet()), half_precision, half, device),
    }
    steps: dict[str, Callable[[], torch.Tensor]] = {}
    for name, training in trainings.items():
        if name in _STEPS:
            # First, for after a weight step the triplets that are hardest may already be others.
            steps[f"{name}, architecture step"] = training.step_architecture
        steps[f"{name}, weight step" if name in _STEPS else name] = training.step_weights
    return steps


def _measure(half_precision: bool, half: int, repetitions: int, device: torch.device, limits: Limits) -> list[list[str]]:
    steps = steps_by_name(half_precision, half, device)
    first = {name: float(step()) for name, step in steps.items()}
    _check(first, "split, training step", "split, plain", half_precision)
    _check(first, "searched, weight step", "searched, plain, weight step", half_precision)
    _check(first, "searched, architecture step", "searched, plain, architecture step", half_precision)

    # Every step ran once by now; the profiler comes last, for what it keeps breaks the freed memory up.
    seconds = dict(take_turns(steps, repetitions, 1, device).seconds)
    peaks = {name: peak_memory(step, device) for name, step in steps.items()}
    # No BatchNorm has products or convolutions, so that all steps of a kind have the same.
    of_weights, of_architecture = flops_of(steps["shared"]), flops_of(steps["searched, architecture step"])
    work = {name: of_architecture if name.endswith("architecture step") else of_weights for name in steps}
    for name, iteration in _STEPS.items():
        parts = [f"{name}, {level} step" for level in ("weight", "architecture")]
        seconds[iteration] = [sum(pair) for pair in zip(*(seconds[part] for part in parts))]
        peaks[iteration], work[iteration] = max(peaks[part] for part in parts), sum(work[part] for part in parts)
    turns = Turns(seconds)
    dtype, label = (torch.bfloat16, "bf16 channels-last") if half_precision else (torch.float32, "fp32 NCHW")
    rows = []
    for name, reference, in_fp32, in_bf16, memory_target in _ROWS:
        target = in_bf16 if half_precision else in_fp32
        time, memory = turns.ratio(name, reference), peaks[name] / peaks[reference]
        rows.append([
            label, name, f"{1000 * turns.median(name):.0f}",
            f"{limits.seconds(work[name], dtype) / turns.median(name):.0%}", f"{peaks[name] / 2**20:.0f}", reference,
            f"{time:.2f}", _verdict(time, target), f"{memory:.2f}", _verdict(memory, memory_target),
        ])
    return rows


def _verdict(value: float, target: float | None) -> str:
    return "" if target is None else f"{target:.2f}, {'reached' if round(value, 2) <= target else 'missed'}"


def _check(losses: dict[str, float], ours: str, plain: str, half_precision: bool) -> None:
    # The features of an untrained network hardly differ, so that bfloat16 moves the hardest triplets of both alike.
    tolerance = 5e-2 if half_precision else 1e-4
    if abs(losses[ours] - losses[plain]) > tolerance * abs(losses[plain]):
        raise RuntimeError(f"{ours} gives the loss {losses[ours]}, {plain} {losses[plain]}")


def two_stream(architecture: str) -> nn.Module:
    """The network of CM-NAS from the same seed every time."""
    torch.manual_seed(0)
    return two_stream_resnet50(_CLASSES, architecture, pretrained=False, loss="triplet")


def supernet() -> nn.Module:
    """Its supernet."""
    return BNSplitSpace().build_supernet(two_stream("share"))


class _Training:
    """A network with its optimisers and two batches."""

    def __init__(self, model: nn.Module, half_precision: bool, half: int, device: torch.device) -> None:
        memory_format = torch.channels_last if half_precision else torch.contiguous_format
        self.model = model.to(device, memory_format=memory_format).train()
        # As the engines do.
        rectify_in_place(model, not (half_precision and device.type == "cpu"))
        self.half_precision, self.device = half_precision, device
        generator = torch.Generator().manual_seed(1)
        images = [torch.randn(2 * half, 3, _HEIGHT, _WIDTH, generator=generator) for _ in range(2)]
        self.batch, self.validation_batch = (x.to(device).contiguous(memory_format=memory_format) for x in images)
        # On the CPU, as the engines keep them: the triplet loss reads them, for which a GPU need not be waited for.
        self.pids = torch.arange(half // _INSTANCES).repeat_interleave(_INSTANCES)
        self.labels = self.pids.repeat(2).to(device)
        self.triplet = CrossModalityTripletLoss()
        searched = [layer for layer in model.modules() if isinstance(layer, (MixedBatchNorm2d, PlainMixedBatchNorm2d))]
        alphas = [layer.logits for layer in searched] or [nn.Parameter(torch.zeros(2))]
        held = {id(alpha) for alpha in alphas}
        weights = [p for p in model.parameters() if p.requires_grad and id(p) not in held]
        self.bilevel = BilevelOptimizer(
            torch.optim.SGD(weights, lr=1e-3, momentum=0.9, weight_decay=5e-4), torch.optim.Adam(alphas, lr=1e-3),
        )

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_precision):
            logits, features = self.model(images)
        return F.cross_entropy(logits.float(), self.labels) + self.triplet(*features.float().chunk(2), self.pids)

    def step_weights(self) -> torch.Tensor:
        """A weight step; returns the loss."""
        loss = self.loss(self.batch)
        self.bilevel.step_weights(loss)
        return loss.detach()

    def step_architecture(self) -> torch.Tensor:
        """An architecture step; returns the loss."""
        return self.bilevel.step_architecture(lambda: self.loss(self.validation_batch))


if __name__ == "__main__":
    main()
