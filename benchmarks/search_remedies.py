#!/usr/bin/env python
"""Try remedies of the search of CM-NAS, and keep the steps of each and the architecture that it found.

A remedy searches MobileNetV2 from its ImageNet weights on generated persons, as benchmarks/bn_split_bench trains; it
gives every slot a preference for split. ``--retrain`` trains what it found from the same start, beside all split and a
random draw of as many split slots, and tests them on persons that no search sees. Finished runs are lines of --output;
the same command goes on where it was stopped. ``--summary`` prints the table of --output.

    python benchmarks/search_remedies.py --remedies gradient paths --seeds 1
    python benchmarks/search_remedies.py --remedies paths --seeds 1 2 3 4 5 --persons report --retrain
"""
from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
import types
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "bn_split_bench"))

from training import DATA, Trainer

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.engine import CrossModalityEngine
from torchreid_nas.engine.base import ResumableEngine
from torchreid_nas.layers import bn_slots
from torchreid_nas.run.build import search_engine
from torchreid_nas.search.calibration import retrieval_losses
from torchreid_nas.slots import stages

OUTPUT = Path(__file__).with_suffix(".jsonl")
# The present search as the demo ran it: one epoch of warm-up, an architecture step at every iteration.
_GRADIENT = {
    "search.method": "gradient", "search.lr": 0.05, "search.arch_lr": 0.05, "search.temperature": 1.0,
    "search.temperature_decay": 1.0, "search.interval": 1, "search.warmup_epochs": 1, "search.max_epoch": 5,
}
_LATE = {**_GRADIENT, "search.warmup_epochs": 3}
_PATHS = {"search.method": "paths", "search.max_epoch": 4}
# As many steps as a long training of the table has, by its recipe.
_LONG_PATHS = {"search.method": "paths", "search.max_epoch": 16, "train.max_epoch": 16, "train.stepsize": "[12, 14]"}
_FEWEST = {"search.paths": 4}  # where the paths' own scores are not used
Read = tuple[torch.Tensor, dict[str, Any]]


def start_at_split(engine: Any) -> None:
    """Start the logits at split: preference 1 for every slot."""
    engine.space.prefer(engine.model, torch.ones(len(engine.space.architecture_parameters(engine.model))))


def validate_as_tested(engine: Any) -> None:
    """Take the gradient of the logits from retrieval in eval mode, by the running statistics of either modality."""

    def validation(batch: Mapping[str, Any]) -> torch.Tensor:
        images, pids = engine.parse_data_for_train(batch)
        engine.model.eval()
        features = [engine.model.features(part, name)[1] for part, name in zip(images.chunk(2), ("visible", "infrared"))]
        engine.model.train()
        return retrieval_losses(*features, *pids.chunk(2)).mean()

    engine._step_architecture = lambda: engine.bilevel.step_architecture(
        [partial(validation, engine._next_validation_batch()) for _ in engine._step_batches]
    )


def train_all_split(engine: Any) -> None:
    """Train all slots split, so that the only path ever seen is the one that slots are then shared from."""
    choose = engine.space.choose
    engine.space.choose = lambda model, split: choose(model, [True] * len(split) if split and model.training else split)


def train_stages(engine: Any) -> None:
    """Train random architectures that split whole stages, instead of random slots."""
    groups = stage_groups(engine)

    def forward_backward(self: Any, data: Mapping[str, Any]) -> dict[str, float]:
        share = torch.rand((), generator=self._paths)
        gene = (torch.rand(len(groups), generator=self._paths) < share).double()
        self.space.choose(self.model, (gene @ groups).bool().tolist())
        return CrossModalityEngine.forward_backward(self, data)

    engine.forward_backward = types.MethodType(forward_backward, engine)


def stage_groups(engine: Any) -> torch.Tensor:
    """Return which slots each stage holds, (stages, slots) of 0 and 1."""
    slots = [slot for slot, _ in engine.space.derive(engine.model).choices]
    groups = torch.zeros(len(stages(slots)), len(slots), dtype=torch.float64)
    for row, (_, first, end) in zip(groups, stages(slots)):
        row[first:end] = 1
    return groups


def stage_effects(engine: Any) -> Read:
    """Score all architectures that split whole stages; a slot's preference is what its stage takes off the loss, in errors."""
    images, groups = engine.held_out(), stage_groups(engine)
    genes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(groups))), dtype=torch.float64)
    losses = torch.stack([engine.identity_losses(gene @ groups, *images).mean() for gene in genes]).double()
    design = torch.cat([torch.ones(len(genes), 1), genes - 0.5], dim=1).double()
    effects = torch.linalg.lstsq(design, losses[:, None]).solution[:, 0]
    noise = (losses - design @ effects).square().sum() / (len(genes) - design.shape[1])
    preferences = -effects[1:] / (4 * noise / len(genes)).sqrt()
    names = ["".join(str(int(bit)) for bit in gene) for gene in genes]
    return preferences @ groups, {"stages": {name: round(float(loss), 5) for name, loss in zip(names, losses)}}


def merge_one_by_one(engine: Any) -> Read:
    """Score each slot by sharing it alone in the network that was trained all split, with the mean of its parameters."""
    with torch.no_grad():
        for layer in engine.space._mixed(engine.model).values():
            layer.share.weight.copy_((layer.visible.weight + layer.infrared.weight) / 2)
            layer.share.bias.copy_((layer.visible.bias + layer.infrared.bias) / 2)
    images = engine.held_out()
    split = torch.ones(engine.slots)
    shared = [*torch.eye(engine.slots), torch.zeros(engine.slots)]
    losses = [engine.identity_losses(split - one, *images).mean() for one in shared]
    return torch.stack(losses[:-1]) - losses[-1], {}


def logits(engine: Any) -> Read:
    """Return what the search itself came to: logit of split minus logit of share."""
    return torch.stack([one.detach()[1] - one.detach()[0] for one in engine.space.architecture_parameters(engine.model)]), {}


REMEDIES: dict[str, tuple[str, Mapping[str, Any], list[Callable[[Any], None]], Callable[[Any], Read]]] = {
    "gradient": ("present search", _GRADIENT, [], logits),
    "prior": ("logits start at split", _GRADIENT, [start_at_split], logits),
    "as tested": ("validation by retrieval, running statistics", _GRADIENT, [validate_as_tested], logits),
    "affine": ("trained scales and shifts", {**_GRADIENT, "search.train_affine": True}, [], logits),
    "second order": ("second order", {**_GRADIENT, "search.order": 2}, [], logits),
    "gumbel": ("Gumbel noise", {**_GRADIENT, "search.sampling": "gumbel"}, [], logits),
    "all three": (
        "prior, as tested, affine, 3 epochs of warm-up", {**_LATE, "search.train_affine": True},
        [start_at_split, validate_as_tested], logits,
    ),
    "merge": (
        "all split trained, then each slot shared alone", {**_PATHS, "search.paths": 4}, [train_all_split], merge_one_by_one,
    ),
    "paths": (
        "random paths, additive model of their retrieval", {**_PATHS, "search.margin": 0.0}, [], logits,
    ),
    "paths, margin 1": ("the same, shared only where splitting is shown to harm", _PATHS, [], logits),
    "paths, 512 steps": ("the same after four times the steps", _LONG_PATHS, [], logits),
    "stages": ("random paths, the retrieval of all splits of whole stages", {**_PATHS, **_FEWEST}, [], stage_effects),
    "stages, 512 steps": ("the same after four times the steps", {**_LONG_PATHS, **_FEWEST}, [], stage_effects),
    "stages, trained": (
        "the same with random splits of whole stages in training", {**_LONG_PATHS, **_FEWEST}, [train_stages], stage_effects,
    ),
}
"""Title, config keys, changes of the engine, and what reads the preferences, by the name of a remedy."""


def run(trainer: Trainer, name: str, seed: int) -> dict[str, Any]:
    """Search once; return the preferences for split, the architecture as bits, the steps and the processor's seconds."""
    _, keys, changes, read = REMEDIES[name]
    started = time.process_time()
    overrides = [str(item) for pair in {"model.architecture": "search", **keys}.items() for item in pair]
    setup = trainer.setup(seed, overrides)
    engine: ResumableEngine = search_engine(setup)[0]
    for change in changes:
        change(engine)
    engine.max_epoch = setup.cfg.search.max_epoch
    for epoch in range(engine.max_epoch):
        engine.epoch = epoch
        engine.train()
    preferences, extra = read(engine)
    validated = max(0, engine.max_epoch - keys["search.warmup_epochs"]) if "search.warmup_epochs" in keys else 0
    # The second order's finite differences pass through the network three times more for a step of the logits.
    validated *= 4 if keys.get("search.order") == 2 else 1
    return {
        "preferences": [round(value, 5) for value in preferences.tolist()],
        "bits": "".join("1" if value > 0 else "0" for value in preferences),
        "steps": (engine.max_epoch + validated) * len(engine.train_loader),
        "processor_seconds": round(time.process_time() - started, 1),
        **extra,
    }


def retrain(trainer: Trainer, bits: str, seed: int) -> dict[str, Any]:
    """Train an architecture from the start and test it: mean of both directions, in percent."""
    slots = bn_slots(trainer.setup(seed).method.build_unsearched(1, pretrained=False).backbone)
    choices = tuple((slot, SPLIT if bit == "1" else SHARE) for slot, bit in zip(slots, bits))
    trained = trainer.train(Architecture(BN_SPACE, choices), seed)
    return {"bits": bits, "mAP": float(np.mean(trained.scores.mean_ap)), "rank1": float(np.mean(trained.scores.rank1))}


def drawn_like(bits: str, seed: int) -> str:
    """Return a random architecture with as many split slots."""
    drawn = list(bits)
    random.Random(seed).shuffle(drawn)
    return "".join(drawn)


class Log:
    """Finished runs, a line each, by what was run, on which persons, by which seed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def once(self, what: str, persons: str, seed: int, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the row of a run, which is made and appended where it is missing."""
        key = {"what": what, "persons": persons, "seed": seed}
        for row in self.rows:
            if key.items() <= row.items():
                return row
        row = {**key, **work()}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = {name: value for name, value in row.items() if name not in ("preferences", "stages")}
        print(time.strftime("%H:%M:%S"), json.dumps(shown), flush=True)
        return row

    def summary(self) -> str:
        """Return the table of the runs: slots split, and retrained scores with their differences to the controls."""
        lines = []
        for what in dict.fromkeys(row["what"] for row in self.rows):
            for persons in ("choice", "report"):
                rows = {row["seed"]: row for row in self.rows if row["what"] == what and row["persons"] == persons}
                if not rows:
                    continue
                split = np.mean([row["bits"].count("1") for row in rows.values()])
                line = f"{what} ({persons}, {len(rows)} seeds): {split:.1f} split"
                if all("mAP" in row for row in rows.values()):
                    line += f", mAP {np.mean([row['mAP'] for row in rows.values()]):.2f}"
                    line += f", Rank-1 {np.mean([row['rank1'] for row in rows.values()]):.2f}"
                else:
                    line += f", {np.mean([row['processor_seconds'] for row in rows.values()]):.0f} s of a processor"
                lines.append(line)
        return "\n".join([*lines, *self._differences()])

    def _differences(self) -> list[str]:
        """Return the paired differences of found architectures to the controls of the same seeds, with 95 % intervals."""
        from scipy import stats

        lines = []
        for persons in ("choice", "report"):
            by_name: dict[str, dict[int, float]] = {}
            for row in self.rows:
                if row["persons"] == persons and "mAP" in row:
                    by_name.setdefault(row["what"], {})[row["seed"]] = row["mAP"]
            for found in (name for name in by_name if name.startswith("found by ")):
                for control in ("all split", found.replace("found by", "drawn like")):
                    seeds = sorted(set(by_name[found]) & set(by_name.get(control, {})))
                    if len(seeds) > 1:
                        values = np.array([by_name[found][seed] - by_name[control][seed] for seed in seeds])
                        reach = stats.t.ppf(0.975, len(seeds) - 1) * values.std(ddof=1) / len(seeds) ** 0.5
                        lines.append(
                            f"{found} − {control} ({persons}, {len(seeds)} seeds): mAP {values.mean():+.2f} "
                            f"[{values.mean() - reach:+.2f}, {values.mean() + reach:+.2f}]"
                        )
        return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--remedies", nargs="+", choices=REMEDIES, default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--persons", choices=("choice", "report"), default="choice")
    parser.add_argument("--retrain", action="store_true", help="train what was found, all split and a random draw too")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the generated images")
    parser.add_argument("--weights", default="imagenet", help="ImageNet weights of MobileNetV2: a file, or imagenet")
    parser.add_argument("--summary", action="store_true", help="print the table of --output")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    log = Log(arguments.output)
    if arguments.remedies:
        trainer = Trainer("imagenet", arguments.persons, arguments.data, ["model.pretrained", arguments.weights])
        for seed in arguments.seeds:
            for name in arguments.remedies:
                row = log.once(name, arguments.persons, seed, partial(run, trainer, name, seed))
                if arguments.retrain:
                    bits = row["bits"]
                    for what, tried in (
                        (f"found by {name}", bits), ("all split", "1" * len(bits)),
                        (f"drawn like {name}", drawn_like(bits, seed)),
                    ):
                        log.once(what, arguments.persons, seed, partial(retrain, trainer, tried, seed))
    if arguments.summary:
        print(log.summary())


if __name__ == "__main__":
    main()
