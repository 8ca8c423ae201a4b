"""Evidence that the search works: a sensor gap planted at one BatchNorm, which the search must find.

A small network of six conv 1×1 – BatchNorm – ReLU layers sees visible and
infrared feature maps of one distribution. Inside it, right before one
BatchNorm, the infrared half alone goes through a fixed affine map per channel
(gain and offset). Splitting that BatchNorm undoes the map; splitting an earlier
one comes too soon, and after the following ReLU and the mixing of channels a
later one can make up for a part of it only. The search machinery of the package
runs on it with the defaults of config/search.py, its 90 epochs shortened to ``--steps``
iterations; the architecture sees identities that the weights never do. The
planted slot wins when it ends first in preference for split (logit of split
minus logit of share). The row "none" plants nothing: what it prints is noise.

``--method paths`` runs the search by paths instead: as many weight steps through random architectures, then the
retrieval of the held-out identities by :data:`PATHS` architectures, each with running statistics of its own. A slot's
preference is then what splitting takes off the loss.

``--train-affine`` trains the BatchNorms' scales and shifts as well, which
``search.train_affine`` leaves off.

    python benchmarks/planted_split.py [--seeds 10] [--steps 120] [--method paths] [--train-affine]
"""
from __future__ import annotations

import argparse
import dataclasses
import statistics
import time

import torch
from harness import add_json, machine
from results import Report
from torch import nn
from torch.nn import functional as F

from torchreid_nas.config import default_config
from torchreid_nas.layers import modality_context
from torchreid_nas.layers.split_function import parts
from torchreid_nas.losses import C3MMDLoss, CrossModalityTripletLoss
from torchreid_nas.models import TwoStreamNetwork
from torchreid_nas.search import BilevelOptimizer, BNSplitSpace
from torchreid_nas.search.calibration import recalibrate, retrieval_losses
from torchreid_nas.search.paths import additive_effects, draw_paths

SLOTS = 6
POSITIONS = {"beginning": 0, "middle": SLOTS // 2, "end": SLOTS - 1}
STEPS = 120
CHANNELS = 12
INPUT_CHANNELS, SIZE = 8, 4
IDENTITIES, HELD_OUT = 32, 16
BATCH_IDENTITIES, INSTANCES = 16, 4
PATHS = 32
NOISE = 0.2  # standard deviation; that of the identities' patterns is 1
LOG_GAIN, OFFSET = 1.0, 1.0  # standard deviations over the channels


class InfraredDistortion(nn.Module):
    """x -> gain_c · x + offset_c on the infrared half of a joint batch (N, C, H, W); nothing here is trained."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        gain = torch.exp(LOG_GAIN * torch.randn(channels, 1, 1, generator=generator))
        self.register_buffer("gain", gain)
        self.register_buffer("offset", OFFSET * torch.randn(channels, 1, 1, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        visible, infrared = parts(x, len(x) // 2)
        return torch.cat((visible, self.gain * infrared + self.offset))


class PlantedBackbone(nn.Sequential):
    """``SLOTS`` layers of conv 1×1 – BatchNorm – ReLU, with the distortion before one BatchNorm (None: nowhere)."""

    def __init__(self, position: int | None, generator: torch.Generator) -> None:
        super().__init__()
        for index in range(SLOTS):
            conv = nn.Conv2d(CHANNELS if index else INPUT_CHANNELS, CHANNELS, kernel_size=1, bias=False)
            self.add_module(f"conv{index}", conv)
            if index == position:
                self.add_module("distortion", InfraredDistortion(CHANNELS, generator))
            self.add_module(f"bn{index}", nn.BatchNorm2d(CHANNELS))
            self.add_module(f"relu{index}", nn.ReLU())


class Identities:
    """Generated identities: a smooth pattern each, seen through noise, alike in both modalities.

    ``batch`` returns a joint batch (2·P·K, C, H, W) and the identities (P·K,) of each half.
    """

    def __init__(self, first: int, count: int, generator: torch.Generator) -> None:
        coarse = torch.randn(count, INPUT_CHANNELS, 2, 2, generator=generator)
        self.patterns = F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=True)
        self.first, self.generator = first, generator

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randperm(len(self.patterns), generator=self.generator)[:BATCH_IDENTITIES]
        half = chosen.repeat_interleave(INSTANCES)
        images = self.patterns[half.repeat(2)]
        return images + NOISE * torch.randn(images.shape, generator=self.generator), self.first + half


def search(position: int | None, seed: int, steps: int = STEPS, train_affine: bool = False) -> torch.Tensor:
    """Search once and return the preference for split of every slot, (SLOTS,): logit of split minus logit of share."""
    cfg = default_config()
    options = cfg.search
    generator = torch.Generator().manual_seed(seed)
    training = Identities(0, IDENTITIES, generator)
    validation = Identities(IDENTITIES, HELD_OUT, generator)
    torch.manual_seed(seed)
    model = TwoStreamNetwork(PlantedBackbone(position, generator), CHANNELS, IDENTITIES)
    space = BNSplitSpace(train_affine)
    space.build_supernet(model)
    alphas = space.architecture_parameters(model)
    chosen = {id(alpha) for alpha in alphas}
    weights = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    bilevel = BilevelOptimizer(
        torch.optim.SGD(weights, options.lr, options.momentum, weight_decay=options.weight_decay),
        torch.optim.Adam(
            alphas, options.arch_lr, (options.arch_beta1, options.arch_beta2), weight_decay=options.arch_weight_decay
        ),
        options.order, options.grad_clip,
    )
    triplet = CrossModalityTripletLoss(cfg.loss.triplet.margin)
    c3mmd = C3MMDLoss(INSTANCES, cfg.loss.c3mmd.weight_correlation, cfg.loss.c3mmd.weight_mmd)

    def loss(identities: Identities, metric_only: bool) -> torch.Tensor:
        images, pids = identities.batch()
        before, after = model.features(images)
        total = triplet(*before.chunk(2), pids) + c3mmd(*after.chunk(2))
        return total if metric_only else total + F.cross_entropy(model.classifier(after), pids.repeat(2))

    for step in range(steps):
        epoch = step * options.max_epoch // steps
        decays = max(0, epoch - options.warmup_epochs)
        space.anneal(model, options.temperature * options.temperature_decay**decays)
        bilevel.step_weights(loss(training, metric_only=False))
        if epoch >= options.warmup_epochs and (step + 1) % options.interval == 0:
            bilevel.step_architecture(lambda: loss(validation, metric_only=True))
    return torch.stack([alpha.detach()[1] - alpha.detach()[0] for alpha in alphas])


def search_by_paths(position: int | None, seed: int, steps: int = STEPS) -> torch.Tensor:
    """Search once by paths and return what splitting takes off the loss at every slot, (SLOTS,)."""
    cfg = default_config()
    generator = torch.Generator().manual_seed(seed)
    training = Identities(0, IDENTITIES, generator)
    validation = Identities(IDENTITIES, HELD_OUT, generator)
    torch.manual_seed(seed)
    model = TwoStreamNetwork(PlantedBackbone(position, generator), CHANNELS, IDENTITIES)
    space = BNSplitSpace(train_affine=True)
    space.build_supernet(model)
    logits = {id(logit) for logit in space.architecture_parameters(model)}
    optimizer = torch.optim.SGD([p for p in model.parameters() if id(p) not in logits], cfg.search.lr, cfg.search.momentum)
    triplet = CrossModalityTripletLoss(cfg.loss.triplet.margin)
    c3mmd = C3MMDLoss(INSTANCES, cfg.loss.c3mmd.weight_correlation, cfg.loss.c3mmd.weight_mmd)
    for _ in range(steps):
        share = torch.rand((), generator=generator)
        space.choose(model, (torch.rand(SLOTS, generator=generator) < share).tolist())
        images, pids = training.batch()
        before, after = model.features(images)
        loss = triplet(*before.chunk(2), pids) + c3mmd(*after.chunk(2)) + F.cross_entropy(model.classifier(after), pids.repeat(2))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.search.grad_clip)
        optimizer.step()
    calibration = [training.batch()[0] for _ in range(4)]
    images, pids = zip(*(validation.batch() for _ in range(4)))
    visible, infrared = (torch.cat(parts) for parts in zip(*(batch.chunk(2) for batch in images)))
    labels = torch.cat(pids)

    @torch.no_grad()
    def retrieval(path: torch.Tensor) -> torch.Tensor:
        space.choose(model, path.bool().tolist())
        recalibrate(model, model.features, calibration)
        model.eval()
        # The distortion takes the second half of a batch for infrared: both modalities pass together.
        with modality_context("both"):
            features = model.features(torch.cat((visible, infrared)))[1]
        return retrieval_losses(*features.chunk(2), labels, labels).mean()

    paths = draw_paths(PATHS, SLOTS, generator)
    return -additive_effects(paths, torch.stack([retrieval(path) for path in paths])).mean


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the searches of one position came to, one entry per seed.

    Args:
        ranks: place of the planted slot by preference for split, 1 for first.
        preferences: its preference.
        gaps: its preference minus the largest of the other slots, negative where it lost.
    """

    ranks: tuple[int, ...]
    preferences: tuple[float, ...]
    gaps: tuple[float, ...]

    @property
    def wins(self) -> int:
        return sum(rank == 1 for rank in self.ranks)


def run(
    position: int | None, seeds: int, steps: int = STEPS, train_affine: bool = False, method: str = "gradient",
) -> Outcome:
    """Search with ``seeds`` seeds; with nothing planted (None) the slot that ends first stands for it."""
    ranks, preferences, gaps = [], [], []
    for seed in range(seeds):
        found = search_by_paths(position, seed, steps) if method == "paths" else search(position, seed, steps, train_affine)
        slot = int(found.argmax()) if position is None else position
        others = torch.cat((found[:slot], found[slot + 1:]))
        ranks.append(1 + int((others >= found[slot]).sum()))
        preferences.append(found[slot].item())
        gaps.append((found[slot] - others.max()).item())
    return Outcome(tuple(ranks), tuple(preferences), tuple(gaps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="searches per position (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="weight steps of a search (default: %(default)s)")
    parser.add_argument("--train-affine", action="store_true", help="train scale and shift of the BatchNorms too")
    parser.add_argument("--method", choices=("gradient", "paths"), default="gradient", help="as search.method of a config")
    add_json(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # faster than more: the tensors are tiny
    table = []
    for name, position in {**POSITIONS, "none": None}.items():
        start = time.perf_counter()
        outcome = run(position, arguments.seeds, arguments.steps, arguments.train_affine, arguments.method)
        seconds = (time.perf_counter() - start) / arguments.seeds
        wins = f"{outcome.wins}/{arguments.seeds}" if position is not None else "-"
        rank = f"{statistics.mean(outcome.ranks):.1f}" if position is not None else "-"
        table.append([
            name, wins, rank, f"{statistics.mean(outcome.preferences):.2f}", f"{statistics.mean(outcome.gaps):.2f}",
            f"{min(outcome.gaps):.2f}", f"{seconds:.2f}",
        ])
    with Report(machine(), arguments.json) as report:
        headers = ["planted at", "wins", "mean rank", "preference", "gap to the next", "least gap", "s/search"]
        report.table(table, headers)


if __name__ == "__main__":
    main()
