"""Pictures of a StarGAN in training: some images in the style of each camera, and the losses."""
from __future__ import annotations

__all__ = ["draw_losses", "sample_grid", "sample_indices"]

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from torchreid_nas.camstyle.images import CameraImages, derived_generator, to_pillow
from torchreid_nas.files import atomic_path
from torchreid_nas.report.style import FAINT, GRID, INK, SHARE_COLOURS, SPLIT_COLOURS, new_figure, save_figure

_MARGIN, _CAPTION = 6, 16
_PAPER, _LETTERS = (250, 250, 250), (70, 70, 70)
# A narrower column has no room for the name of the camera.
_LEAST_WIDTH = 56
_PANELS = {
    "critic": "critic: E[D(fake)] − E[D(real)]",
    "penalty": "gradient penalty",
    "camera_real": "camera of real images",
    "adversarial": "adversarial: −E[D(fake)]",
    "camera_fake": "camera of generated images",
    "reconstruction": "reconstruction",
}
_OF_GENERATOR = ("adversarial", "camera_fake", "reconstruction")


def sample_indices(images: CameraImages, seed: int, rows: int = 8) -> list[int]:
    """Choose the images to show, one camera after the other; the same seed chooses the same images.

    Args:
        images: to choose from.
        seed: of the choice.
        rows: number of images, at most.

    Returns:
        Indices of ``images``.
    """
    order = torch.randperm(len(images), generator=derived_generator(seed, 2)).tolist()
    seen = [0] * len(images.camids)
    ranked = []
    for index in order:
        label = images.label(index)
        ranked.append((seen[label], label, index))
        seen[label] += 1
    return [index for _, _, index in sorted(ranked)[:rows]]


@torch.no_grad()
def sample_grid(
    generator: nn.Module, images: CameraImages, indices: Sequence[int], path: str | os.PathLike, device: torch.device,
) -> None:
    """Draw a PNG with a row per image: the real one, then one column per camera, generated.

    Cameras are numbered from 1, as in file names. The column of an image's own
    camera has a frame: there the generator should give the image itself.

    Args:
        generator: maps (images, labels) to images, on ``device``.
        images: the images that ``indices`` count.
        indices: of the rows, at least one.
        path: the PNG to write. Its folder is created.
        device: of the generator.

    Raises:
        InputError: an image is broken, or the picture cannot be written.
    """
    scale = max(1, -(-_LEAST_WIDTH // images.width))
    width, height = images.width * scale, images.height * scale
    across, down = width + _MARGIN, height + _MARGIN + _CAPTION
    # The caption of a row stands above the real image and names its camera.
    extent = across * (1 + len(images.camids)) + 2 * _MARGIN, down * len(indices) + _CAPTION + _MARGIN
    sheet = Image.new("RGB", extent, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    left = [_MARGIN + column * across + (_MARGIN if column else 0) for column in range(1 + len(images.camids))]
    for column, title in enumerate(["real", *(f"camera {camid + 1}" for camid in images.camids)]):
        draw.text((left[column], 3), title, fill=_LETTERS, font=font)
    labels = torch.arange(len(images.camids), device=device)
    for row, index in enumerate(indices):
        image, own = images[index]
        fakes = generator(image.to(device).expand(len(labels), -1, -1, -1), labels)
        top = _CAPTION + row * down
        draw.text((left[0], top), f"camera {images.camids[own] + 1}", fill=_LETTERS, font=font)
        for column, picture in enumerate([image, *fakes]):
            shown = to_pillow(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(shown, (left[column], top + _CAPTION))
        corner = left[1 + own] - 2, top + _CAPTION - 2
        draw.rectangle((*corner, corner[0] + width + 3, corner[1] + height + 3), outline=_LETTERS)
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def draw_losses(history: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draw the terms of a training over its iterations as PNG, one panel for each term.

    Args:
        history: rows of :class:`~torchreid_nas.camstyle.training.Trainer`, at least one.
        path: the picture. Its folder is created.

    Raises:
        InputError: the picture cannot be written.
    """
    figure = new_figure((11.4, 5.2), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 3).flat, _PANELS.items()):
        points = [(row["iteration"], row[name]) for row in history if name in row]
        if points:
            colour = SPLIT_COLOURS[1] if name in _OF_GENERATOR else SHARE_COLOURS[1]
            marker = "o" if len(points) == 1 else None
            axes.plot(*zip(*points), color=colour, linewidth=1.4, marker=marker, markersize=3.2)
        axes.set_title(title, fontsize=10.5, color=INK, loc="left")
        axes.set_xlabel("iteration", fontsize=9, color=INK)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8.5, colors=INK, color=FAINT, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
    save_figure(figure, path)
