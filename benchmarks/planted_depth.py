"""Evidence that the search of CDNet works: one candidate of twelve is sound, the others are corrupted.

A small network — 1×1 convolution, one MBlock of the combined depth space, a
CBlock as in CDNet another block follows, average pooling, classifier — learns
to tell generated patterns apart. All candidates of the block but one pass on their
output with noise of its own standard deviation, drawn afresh for every image
and channel. Which one is sound is drawn by the seed. The search machinery of
the package runs on it, weights on one set of images and architecture on
another of the same classes, with the paper's optimisers except that the step
of α is larger (0.02 for 3e-4), for the search is hundreds of times shorter. The
candidate that is chosen at the end must be the sound one; one choice in twelve
is chance. The row "none" corrupts all, and counts the same candidate.

The shortcut of the CBlock matters: a convolution with BatchNorm alone would
undo the scale of what it is given, and with it all that a single computed
candidate (top-1, GDAS) can tell α about itself.

    python benchmarks/planted_depth.py [--seeds 10] [--first-seed 0] [--steps 80]
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

from torchreid_nas.genotypes import CANDIDATES, COMBINED_DEPTH_SPACE
from torchreid_nas.layers import CBlock, ConvBN
from torchreid_nas.search import BilevelOptimizer
from torchreid_nas.search.depth_space import MBlock
from torchreid_nas.search.relaxation import RELAXATIONS, Relaxation, relaxation

NAMES = CANDIDATES[COMBINED_DEPTH_SPACE]
STEPS = 80
CHANNELS, INPUT_CHANNELS, SIZE = 16, 8, 4
CLASSES, BATCH = 16, 32
IMAGE_NOISE = 1.0  # standard deviation; that of the classes' patterns is 1
CORRUPTION = 1.0  # in standard deviations of a candidate's output
ARCH_LR = 0.02
GDAS_TEMPERATURES = 10.0, 0.1  # first and last, linear in between, as in its paper


class Corrupted(nn.Module):
    """A candidate whose output carries noise: per image and channel, so that pooling does not average it away."""

    def __init__(self, op: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        self.op, self.generator = op, generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.op(x)
        noise = torch.randn(*y.shape[:2], 1, 1, generator=self.generator)
        return y + CORRUPTION * y.detach().std() * noise


class PlantedNetwork(nn.Module):
    """The network of the experiment; ``sound`` is the index of the candidate without noise, None for none."""

    def __init__(self, sound: int | None, method: Relaxation, generator: torch.Generator) -> None:
        super().__init__()
        self.stem = ConvBN(INPUT_CHANNELS, CHANNELS)
        self.block = MBlock(CHANNELS, CHANNELS, NAMES, method)
        for index, name in enumerate(NAMES):
            if index != sound:
                self.block.ops[name] = Corrupted(self.block.ops[name], generator)
        self.head = CBlock(CHANNELS, CHANNELS, 3, 5)
        self.classifier = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.head(self.block(self.stem(x))).mean((2, 3)))


class Patterns:
    """Generated classes: a pattern each, seen through noise. ``batch`` returns (BATCH, C, H, W) and labels."""

    def __init__(self, generator: torch.Generator) -> None:
        self.patterns = torch.randn(CLASSES, INPUT_CHANNELS, SIZE, SIZE, generator=generator)
        self.generator = generator

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(CLASSES, (BATCH,), generator=self.generator)
        noise = torch.randn(BATCH, INPUT_CHANNELS, SIZE, SIZE, generator=self.generator)
        return self.patterns[labels] + IMAGE_NOISE * noise, labels


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One search: the sound candidate (or what stands for it), the chosen one, and softmax(α) of the former."""

    sound: str
    chosen: str
    probability: float

    @property
    def found(self) -> bool:
        return self.sound == self.chosen


def search(method: Relaxation, seed: int, steps: int = STEPS, plant: bool = True) -> Outcome:
    """Search once. ``plant=False`` corrupts every candidate."""
    generator = torch.Generator().manual_seed(seed)
    sound = int(torch.randint(len(NAMES), (1,), generator=generator))
    data = Patterns(generator)
    torch.manual_seed(seed)
    model = PlantedNetwork(sound if plant else None, method, generator)
    block = model.block
    weights = [parameter for name, parameter in model.named_parameters() if name != "block.alpha"]
    optimizer = torch.optim.SGD(weights, 0.025, momentum=0.9, weight_decay=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-4)
    bilevel = BilevelOptimizer(
        optimizer, torch.optim.Adam([block.alpha], ARCH_LR, (0.5, 0.999), weight_decay=1e-3), grad_clip=5.0
    )

    def loss() -> torch.Tensor:
        images, labels = data.batch()
        return F.cross_entropy(model(images), labels)

    for step in range(steps):
        if isinstance(method, RELAXATIONS["gumbel"]):
            first, last = GDAS_TEMPERATURES
            temperature = first + (last - first) * step / max(1, steps - 1)
            block.relaxation = dataclasses.replace(block.relaxation, temperature=temperature)
        block.noise = block.relaxation.draw(len(NAMES), generator)
        bilevel.step_weights(loss())
        bilevel.step_architecture(loss)
        scheduler.step()
    return Outcome(NAMES[sound], block.choice(), torch.softmax(block.alpha.detach(), 0)[sound].item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="searches per row (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first search (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a search (default: %(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    torch.set_num_threads(1)  # faster than more: the tensors are tiny
    rows = {
        "top-1": (relaxation("topk", k=1), True), "top-2": (relaxation("topk"), True),
        "top-3": (relaxation("topk", k=3), True), "softmax (DARTS)": (relaxation("softmax"), True),
        "gumbel (GDAS)": (relaxation("gumbel"), True), "top-2, none": (relaxation("topk"), False),
    }
    table = []
    for name, (method, plant) in rows.items():
        start = time.perf_counter()
        outcomes = [search(method, seed, arguments.steps, plant) for seed in seeds]
        seconds = (time.perf_counter() - start) / arguments.seeds
        probabilities = [outcome.probability for outcome in outcomes]
        found = f"{sum(outcome.found for outcome in outcomes)}/{arguments.seeds}"
        table.append([
            name, found, f"{statistics.mean(probabilities):.3f}", f"{min(probabilities):.3f}", f"{seconds:.2f}",
        ])
    with Report(machine(), arguments.json) as report:
        report.table(table, ["relaxation", "found", "probability of the sound one", "least", "s/search"])
        report.text(f"All even: probability {1 / len(NAMES):.3f}.")


if __name__ == "__main__":
    main()
