"""Where the network looks: activation maps of images of both modalities."""
from __future__ import annotations

__all__ = ["activation_maps", "attention"]

import numpy as np
import torch
from PIL import Image
from torch import nn

from torchreid_nas.data.dataset import read_image
from torchreid_nas.data.display import STRETCHED, stretched
from torchreid_nas.data.transforms import build_cross_modality_transforms
from torchreid_nas.report.html import data_url
from torchreid_nas.report.style import SPLIT_COLOURS
from torchreid_nas.run.page.frame import section
from torchreid_nas.run.page.quality import SIZE, Target
from torchreid_nas.zoo.trained import load_trained

_PERSONS = 4


def attention(target: Target) -> str:
    """Return the section: images of some persons in every modality of the test, each beside its activation map."""
    facts, items = target.facts, target.items
    weights = facts.certificate.get("files", {}).get("weights", {}).get("name", "")
    # Weights from elsewhere are not in the folder.
    if items is None or facts.folder.path / weights not in (facts.folder.train.weights, facts.folder.train.raw_weights):
        return ""
    # The first image of a person and modality, by person. Images of a gallery may show nobody, as some of Market-1501 do.
    images: dict[int, dict[str, str]] = {item[1]: {} for item in items["query"]}
    for item in (item for part in ("query", "gallery") for item in items[part] if item[1] in images):
        images[item[1]].setdefault(target.modality(item), item[0])
    kinds = list(dict.fromkeys(kind for found in images.values() for kind in found))
    whole = [pid for pid, found in images.items() if len(found) == len(kinds)]
    people = [whole[place] for place in np.unique(np.linspace(0, len(whole) - 1, _PERSONS).astype(int))] if whole else []
    trained = load_trained(facts.folder.path)
    transform = build_cross_modality_transforms(
        trained.height, trained.width, None, trained.norm_mean, trained.norm_std, trained.interpolation
    )[1]
    cells: dict[int, list[str]] = {pid: [] for pid in people}
    for kind in kinds:
        pictures = [read_image(images[pid][kind]) for pid in people]
        network = trained.network(kind if trained.modalities else None)
        maps = activation_maps(network, torch.stack([transform(picture) for picture in pictures]))
        for pid, picture, values in zip(people, pictures, maps):
            plain = (stretched(picture) if kind == "infrared" else picture).convert("RGB").resize(SIZE)
            for image, said in ((plain, kind), (_overlaid(plain, values), "activation")):
                what = f"person {pid}, {kind} image" + (", activation map over it" if said == "activation" else "")
                cells[pid].append(target.frame.shot(data_url(image), what, [f"<b>id {pid}</b>" if said == kind else "", said]))
    rows = "".join(f'<div class="row">{"".join(shots)}</div>' for shots in cells.values() if all(shots))
    note = f" {STRETCHED[:1].upper()}{STRETCHED[1:]}." if "infrared" in kinds else ""
    caption = (
        "<b>Activation maps.</b> The sum of the squared activations of the last map of the network, from none (the image) to the "
        f"strongest of the image (orange). They show where the features are strong, not why two images match.{note}"
    )
    title = f"Activation maps of {len(people)} persons, {' and '.join(kinds)}"
    figure = target.frame.figure(f'<div class="pairs">{rows}</div>', title, caption, "rows") if rows else ""
    return section("attention", "Where the network looks", [figure])


@torch.no_grad()
def activation_maps(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the activation map of every image: the sum over channels of the squares of the last map, (B, h, w) in [0, 1].

    The last map is the output (B, C, h, w) with h × w above 1 that the network computes last (as torchreid's
    ``visualize_actmap``, which takes the sum over the output of the backbone).

    Args:
        network: (B, 3, H, W) -> (B, D), in eval mode.
        images: (B, 3, H, W).

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> activation_maps(network.eval(), torch.ones(2, 3, 8, 4)).shape
        (2, 6, 2)
    """
    last = images

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal last
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            last = output

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    sums = last.float().square().sum(dim=1)
    low, high = sums.amin(dim=(1, 2), keepdim=True), sums.amax(dim=(1, 2), keepdim=True)
    maps: np.ndarray = ((sums - low) / (high - low).clamp_min(1e-12)).numpy()
    return maps


def _overlaid(picture: Image.Image, values: np.ndarray) -> Image.Image:
    """Return a picture in grey with a map over it: the stronger, the more orange."""
    smooth = Image.fromarray((255 * values).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    white = Image.new("RGB", picture.size, "white")
    pale = Image.blend(picture.convert("L").convert("RGB"), white, 0.3)
    orange = Image.new("RGB", picture.size, SPLIT_COLOURS[1])
    return Image.composite(orange, pale, smooth.point([int(0.85 * value) for value in range(256)]))
