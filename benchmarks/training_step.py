"""A whole training step of CM-NAS, ours with the config's defaults for the device against the plain one.

ResNet-50 with every BatchNorm split, cross-entropy + triplet + C3MMD, Adam and
the weight average, random images of 256×128; random weights, as no number of
these depends on them. The plain step is benchmarks/plain/training.py. What
makes the difference is added one by one. Then both train a small network on
generated pedestrians, the same batches in the same order, and their losses are
compared with what another seed does to the plain one's.

    python benchmarks/training_step.py [--repetitions 10] [--batch 16] [--steps 200] [--device cpu]
"""
from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from harness import arguments, flops_of, machine, measure_limits, peak_memory, take_turns
from plain.normalization import plain_split
from plain.training import PlainAverage, PlainTraining
from results import Report
from yacs.config import CfgNode

from torchreid_nas.config import load_config
from torchreid_nas.data import CrossModalityDataManager
from torchreid_nas.data.synthetic import SyntheticSettings, write_regdb
from torchreid_nas.device import computes_bfloat16, resolve_config
from torchreid_nas.engine import CrossModalityEngine, CrossModalityLossWeights, TrainingOptions, seed_everything
from torchreid_nas.models import two_stream_resnet18, two_stream_resnet50
from torchreid_nas.optim import build_optimizer

PLAIN = {"train.amp": "none", "train.channels_last": False, "train.fused": False}
INGREDIENTS = (
    ("split BatchNorm and losses of ours", {}),
    ("+ bf16 autocast", ("train.amp",)),
    ("+ channels-last", ("train.channels_last",)),
    ("+ fused optimiser", ("train.fused",)),
    ("+ foreach average: the defaults", ("ema",)),
)
IDENTITIES, INSTANCES = 206, 4
# Steps over which a curve is averaged before it is compared: a single step's loss is that of its batch.
SMOOTH = 20
TARGETS = {"cpu": 2.6, "cuda": 3.0}
Training = PlainTraining | CrossModalityEngine


def configuration(device: torch.device, **changes: Any) -> CfgNode:
    """The defaults, with these keys changed, resolved for the device."""
    return resolve_config(load_config(None, [str(part) for item in changes.items() for part in item]), device)


def training(make: Callable, num_classes: int, cfg: CfgNode, device: torch.device, plain: bool, average: bool = True) -> Training:
    """Return one side, its weights the same for every call.

    Args:
        make: a model factory.
        num_classes: identities.
        cfg: resolved.
        device: where.
        plain: the plain step, in place of ours.
        average: ours with its own weight average, in place of the plain one.
    """
    seed_everything(cfg.train.seed)
    model = make(num_classes, pretrained=False).to(device)
    if plain:
        plain_split(model)
    optimizer = build_optimizer(model, cfg)
    weights = CrossModalityLossWeights()
    if not cfg.train.fused:
        for group in optimizer.param_groups:
            group["foreach"] = False
    if plain:
        return PlainTraining(model, optimizer, cfg.sampler.num_instances, weights, cfg.train.ema)
    data = SimpleNamespace(train_loader=None, test_loader={}, num_train_pids=num_classes)
    options = TrainingOptions(
        device, cfg.train.seed, cfg.train.amp, cfg.train.channels_last, cfg.train.ema if average else 0.0
    )
    engine = CrossModalityEngine(data, model.train(), optimizer, None, options, cfg.sampler.num_instances, weights)
    if not average:
        engine.ema = PlainAverage(model, cfg.train.ema)
    return engine


def batch_of(images: int, height: int, width: int) -> dict[str, torch.Tensor]:
    """A random joint batch."""
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(images // 2 // INSTANCES).repeat_interleave(INSTANCES).repeat(2)
    return {"img": torch.randn(images, 3, height, width, generator=generator), "pid": pids}


def sides(device: torch.device) -> dict[str, Training]:
    """The plain step, then ours with one ingredient after the other."""
    cfg = configuration(device, **PLAIN)
    found: dict[str, Training] = {"plain": training(two_stream_resnet50, IDENTITIES, cfg, device, True)}
    left, average = dict(PLAIN), False
    for name, keys in INGREDIENTS:
        before = cfg, average
        for key in keys:
            left.pop(key, None)
        cfg, average = configuration(device, **left), "ema" in keys
        if keys and (cfg, average) == before:
            continue  # the device does not have it
        found[name] = training(two_stream_resnet50, IDENTITIES, cfg, device, False, average)
    return found


def check_agreement(plain: Training, ours: Training, data: Mapping[str, Any]) -> None:
    """Raise unless both compute the same losses from the same weights."""
    with torch.no_grad():
        expected, found = plain.losses(data), ours.losses(data)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3, msg=f"the losses differ in {name}")


def steps_on(side: Training, data: Mapping[str, Any]) -> Callable[[], Any]:
    """Return the step of one side on one batch."""
    return lambda: side.forward_backward(data)


def time_table(report: Report, device: torch.device, repetitions: int, images: int, height: int, width: int) -> None:
    """Report seconds, ratios, memory and the limit of a step of every side."""
    data, limits, found = batch_of(images, height, width), measure_limits(device), sides(device)
    plain, ours = "plain", INGREDIENTS[-1][0]
    check_agreement(found[plain], found[INGREDIENTS[0][0]], data)
    steps = {name: steps_on(side, data) for name, side in found.items()}
    turns = take_turns(steps, repetitions, 2, device)
    twice = {name: steps_on(found[name], batch_of(2 * images, height, width)) for name in (plain, ours)}
    # Before any profiling: what the profiler keeps lies between the freed tensors, and breaks their memory up.
    larger = take_turns(twice, max(repetitions // 3, 1), 1, device)
    flops = flops_of(steps[plain])
    rows = []
    for name, side in found.items():
        half = name != plain and side.options.amp == "bf16"
        least = limits.seconds(flops, torch.bfloat16 if half else torch.float32)
        rows.append([
            name, f"{turns.median(name):.3f}", f"{images / turns.median(name):.1f}", f"{turns.speedup(name, plain):.2f}",
            f"{peak_memory(steps[name], device) / 1e6:,.0f}", f"{least:.3f}", f"{least / turns.median(name):.0%}",
        ])
    report.table(
        rows, ["step", "s", "images/s", "× faster", "peak MB", "limit s", "of the limit"],
        f"ResNet-50, all split, {images // 2} + {images // 2} images of {height}×{width}; {limits}",
    )
    target, speedup = TARGETS[device.type], turns.speedup(ours, plain)
    verdict = "reached" if speedup >= target else "missed"
    aim = f"target {target} ×: {verdict}" if computes_bfloat16(device) else "no target where bfloat16 is emulated"
    report.text(
        f"The defaults are {speedup:.2f} × faster than the plain step ({aim}), with {images} + {images} images "
        f"{larger.speedup(ours, plain):.2f} × ({larger.median(plain):.3f} and {larger.median(ours):.3f} s). The limit is "
        f"{flops / 1e9:,.0f} GFLOP of convolutions and products at the measured rate of a large product in their dtype."
    )


def curves(device: torch.device, steps: int, root: str) -> dict[tuple[str, int], list[float]]:
    """Train both sides, and the plain one with a second seed, on generated pedestrians; returns the losses by step."""
    write_regdb(root, SyntheticSettings(identities=80, images=6, height=64, width=32, gap=1.0, difficulty=0.3))
    found = {}
    for name, seed in (("plain", 1), ("ours", 1), ("plain", 2), ("ours", 2)):
        own = PLAIN if name == "plain" else {}
        cfg = configuration(device, **own, **{"train.seed": seed, "train.lr": 0.003, "train.base_lr_mult": 1.0})
        data = CrossModalityDataManager(
            root=root, sources="regdb", targets=[], height=64, width=32, transforms=["random_flip"],
            batch_size_train=32, num_instances=INSTANCES, num_batches=steps, workers=0, seed=seed,
        )
        side = training(
            lambda classes, pretrained: two_stream_resnet18(classes, pretrained=pretrained, width=0.25),
            data.num_train_pids, cfg, device, name == "plain",
        )
        if isinstance(side, CrossModalityEngine):
            # What torchreid's meters get trails on a GPU; here every step's own losses are wanted.
            side.record = lambda terms: {name: value.detach() for name, value in terms.items()}
        seed_everything(seed, 0)
        found[name, seed] = [float(sum(side.forward_backward(batch).values())) for batch in data.train_loader]
    return found


def curve_table(report: Report, losses: Mapping[tuple[str, int], Sequence[float]]) -> None:
    """Report how far the curves are apart, by precision and by seed."""
    smooth = {key: _smoothed(values) for key, values in losses.items()}

    def apart(first: tuple[str, int], second: tuple[str, int]) -> float:
        return statistics.mean(abs(a - b) for a, b in zip(smooth[first], smooth[second]))

    pairs = [(f"ours and plain, seed {seed}", ("ours", seed), ("plain", seed)) for seed in (1, 2)]
    pairs.append(("plain and plain, seeds 1 and 2", ("plain", 1), ("plain", 2)))
    rows = [
        [name, f"{apart(*pair):.3f}", *(f"{statistics.mean(losses[key][-SMOOTH:]):.3f}" for key in pair)]
        for name, *pair in pairs
    ]
    steps = len(losses["plain", 1])
    report.table(
        rows, ["curves", "mean difference", "first at the end", "second at the end"],
        f"ResNet-18 at a quarter of its width, all split, 16 + 16 images, {steps} steps from a loss of "
        f"{losses['plain', 1][0]:.2f}; curves averaged over {SMOOTH} steps",
    )
    own, seeds = statistics.mean(apart(*pair[1:]) for pair in pairs[:2]), apart(*pairs[2][1:])
    report.text(
        f"Precision moves the loss by {own / seeds:.2f} of what the seed does (target: within noise, at most 1: "
        f"{'reached' if own <= seeds else 'missed'})."
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    return [statistics.mean(values[start : start + SMOOTH]) for start in range(len(values) - SMOOTH + 1)]


def main() -> None:
    parser = arguments(__doc__, batch=0, height=256, width=128, steps=200)
    given = parser.parse_args()
    on_gpu = given.device.type == "cuda"
    images = given.batch or (128 if on_gpu else 16)
    with Report(machine(given.device), given.json) as report, tempfile.TemporaryDirectory() as root:
        time_table(report, given.device, given.repetitions, images, given.height, given.width)
        curve_table(report, curves(given.device, given.steps, root))


if __name__ == "__main__":
    main()
