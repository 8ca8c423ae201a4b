"""Price of split and of searched norms on backbones of BatchNorms and of LayerNorms, as ratios to the shared network.

A step is one weight step of a two-stream network on a joint batch, in full precision: cross entropy of all images, the
backward pass and plain SGD. ``split`` splits every norm. ``searched`` is the supernet of the gradient search: all norms are
searched, and the backward pass goes to the weights and to the logits. The images are noise; nothing depends on them.

The three networks of a backbone take a step each in every turn, so that a machine's moods fall on all alike; a ratio is the
median over turns. Targets: 1.05 for split norms, 1.10 for searched ones.

    python benchmarks/backbones.py [--images 8] [--height 128] [--width 64] [--repetitions 15]
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from harness import arguments, machine, take_turns
from results import Report
from torch.nn import functional as F

from torchreid_nas.layers import is_batchnorm, norm_slots
from torchreid_nas.models import TwoStreamNetwork, two_stream
from torchreid_nas.search import BNSplitSpace

BACKBONES = (
    "resnet18", "mobilenetv2_x1_0", "timm:efficientnet_b0",
    "timm:vit_tiny_patch16_224", "timm:convnext_atto", "timm:swin_tiny_patch4_window7_224",
)
CLASSES = 100
TARGETS = {"split": 1.05, "searched": 1.10}


def network(backbone: str, kind: str, size: tuple[int, int], device: torch.device) -> TwoStreamNetwork:
    """Return the shared, the split or the searched network of a backbone."""
    torch.manual_seed(0)
    architecture = "split" if kind == "split" else "share"
    model = two_stream(CLASSES, architecture, pretrained=False, backbone=backbone, image_size=size)
    return (BNSplitSpace().build_supernet(model) if kind == "searched" else model).to(device)


def step(model: TwoStreamNetwork, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return one weight step as a function."""
    optimizer = torch.optim.SGD((p for name, p in model.named_parameters() if p.requires_grad and ".logits" not in name), 1e-3)

    def take() -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return take


def main() -> None:
    chosen = arguments(__doc__, repetitions=15, images=8, height=128, width=64).parse_args()
    size, device = (chosen.height, chosen.width), chosen.device
    images = torch.randn(2 * chosen.images, 3, *size, device=device)
    labels = torch.randint(CLASSES, (chosen.images,), device=device).repeat(2)
    with Report(machine(device), chosen.json) as report:
        rows = []
        for backbone in BACKBONES:
            models = {kind: network(backbone, kind, size, device) for kind in ("shared", *TARGETS)}
            slots = norm_slots(models["shared"].backbone)
            by_batch = is_batchnorm(models["shared"].backbone.get_submodule(slots[0]))
            turns = take_turns(
                {kind: step(model, images, labels) for kind, model in models.items()}, chosen.repetitions, device=device,
            )
            ratios = [turns.ratio(kind, "shared") for kind in TARGETS]
            rows.append([
                backbone, "BatchNorm" if by_batch else "LayerNorm", len(slots), f"{1000 * turns.median('shared'):.0f}",
                *(f"{ratio:.3f}" for ratio in ratios),
                *("yes" if ratio <= target else "no" for ratio, target in zip(ratios, TARGETS.values())),
            ])
        report.table(
            rows,
            ["backbone", "norms", "slots", "shared, ms", "split / shared", "searched / shared", "split ≤ 1.05",
             "searched ≤ 1.10"],
            f"{chosen.images} + {chosen.images} images of {size[0]}x{size[1]}, fp32, {torch.get_num_threads()} thread(s), "
            f"medians of {chosen.repetitions} turns",
        )


if __name__ == "__main__":
    main()
