"""The pictures of a training: who is in which row and column of the grid, and the curves."""
from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from torchreid_nas.camstyle.figures import draw_losses, sample_grid, sample_indices
from torchreid_nas.camstyle.images import to_pillow
from torchreid_nas.report.style import SHARE_COLOURS, SPLIT_COLOURS

COLOURS = ((-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, -1.0, -1.0))


class Paint(nn.Module):
    """Fills an image with the colour of the camera."""

    def forward(self, images, cameras):
        return torch.tensor(COLOURS)[cameras][:, :, None, None].expand_as(images)


def test_rows_are_of_one_camera_after_the_other_and_seeded(camera_images):
    images = camera_images(per_camera=4)
    indices = sample_indices(images, seed=1)
    assert len(set(indices)) == 8 and [images.label(index) for index in indices] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert indices == sample_indices(images, seed=1) != sample_indices(images, seed=2)
    assert len(sample_indices(camera_images(per_camera=1), seed=1)) == 3


def test_the_grid_shows_the_real_image_and_then_a_column_per_camera(camera_images, tmp_path):
    images = camera_images()
    indices = sample_indices(images, 1, rows=4)
    sample_grid(Paint(), images, indices, tmp_path / "samples" / "grid.png", torch.device("cpu"))
    sheet = np.asarray(Image.open(tmp_path / "samples" / "grid.png")).astype(int)
    # Columns are at least 56 pixels wide: images of 16 x 32 are shown four times as large.
    size, places = 64 * 128, []
    for colour in COLOURS:
        pixels = (sheet == [0 if c < 0 else 255 for c in colour]).all(-1)
        assert pixels.sum() == size * 4
        rows, columns = np.nonzero(pixels)
        assert columns.max() - columns.min() == 63
        places.append(columns.min())
    assert places == sorted(places)
    tops = np.unique(rows)[np.r_[True, np.diff(np.unique(rows)) > 1]]
    assert len(tops) == 4
    for top, index in zip(tops, indices):
        real = np.asarray(to_pillow(images[index][0])).repeat(4, 0).repeat(4, 1)
        found = [left for left in range(20) if np.array_equal(sheet[top:top + 128, left:left + 64], real)]
        assert len(found) == 1 and found[0] + 64 < places[0]
        # The own camera's column is framed.
        framed = [tuple(sheet[top - 2, place + 10]) for place in places]
        own = images.label(index)
        assert [colour != (250, 250, 250) for colour in framed] == [label == own for label in range(3)]


def test_losses_are_drawn_though_some_rows_lack_the_generator_s(tmp_path):
    rows = [{"iteration": i, "critic": -i, "penalty": 0.1, "camera_real": 1.0, "lr": 1e-4} for i in (1, 2, 3)]
    rows[1]["reconstruction"] = 0.5
    draw_losses(rows, tmp_path / "figures" / "losses.png")
    picture = np.asarray(Image.open(tmp_path / "figures" / "losses.png").convert("RGB")).astype(int)
    near = lambda colour: np.abs(picture - [int(colour[i:i + 2], 16) for i in (1, 3, 5)]).max(-1) < 8
    # Three curves of the discriminator; of the generator one point, in the last panel.
    assert near(SHARE_COLOURS[1]).sum() > 1000
    rows, columns = np.nonzero(near(SPLIT_COLOURS[1]))
    assert 10 < len(rows) < 200 and rows.min() > picture.shape[0] / 2 and columns.min() > picture.shape[1] * 2 / 3
