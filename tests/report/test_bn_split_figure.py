"""The picture of the BN space: what it shows, and that nothing overlaps."""
from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
from histories import RESNET18, RESNET50, RESNET101, search, torchreid_slots
from matplotlib.colors import to_rgb

from torchreid_nas import report
from torchreid_nas.architecture import SHARE, SPLIT, Architecture
from torchreid_nas.errors import InputError


@pytest.mark.parametrize(
    ("slots", "epochs", "warmup"),
    [
        (RESNET18, 1, 0), (RESNET18, 8, 2), (RESNET50, 61, 10), (RESNET101, 95, 1), ("osnet_x0_25", 3, 3),
        ("mobilenetv2_x1_0", 240, 5), ("densenet121", 2, 0), ("xception", 5, 1),
    ],
)
def test_every_word_of_the_architecture_is_inside_and_none_overlaps(tmp_path, drawn, words, slots, epochs, warmup):
    slots = torchreid_slots(slots) if isinstance(slots, str) else slots
    history, architecture = search(slots, epochs, warmup, step=0.05)
    path = tmp_path / "figures" / "architecture.png"
    report.draw_bn_split(history, architecture, path)
    (figure,) = drawn
    written = words(figure)
    assert f"{sum(choice == SPLIT for _, choice in architecture.choices)} of {len(slots)} norms split" in written
    assert set(report.short_names(slots)) <= set(written)
    width, height = figure.canvas.get_width_height()
    assert matplotlib.image.imread(path).shape[:2] == (height, width)
    assert sorted(file.name for file in path.parent.iterdir()) == ["architecture.png"]


def test_the_picture_shows_the_history(tmp_path, drawn):
    history, architecture = search(RESNET18, 12, 3)
    report.draw_bn_split(history, architecture, tmp_path / "architecture.png")
    heat, strip, changes, _ = drawn[0].axes

    mesh = heat.collections[0]
    expected = [[row["probabilities"][slot][SPLIT] for slot in RESNET18] for row in history]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(12, 20), expected)
    assert heat.get_ylim() == (12, 0), "time runs downwards"

    bars = next(lines for lines in heat.collections[1:] if to_rgb(lines.get_color()[0]) == (0, 0, 0))
    marks = {int(segment[0][0]): segment[0][1] for segment in bars.get_segments()}
    decided = report.decision_epochs(history, RESNET18)
    assert marks == {slot: epoch - 1 for slot, epoch in enumerate(decided) if epoch is not None}

    oranges = [bar.get_facecolor()[0] > bar.get_facecolor()[2] for bar in strip.patches]
    assert oranges == [choice == SPLIT for _, choice in architecture.choices]
    assert [bar.get_width() for bar in changes.patches] == [row["changed"] for row in history]
    headings = {text.get_text() for text in heat.texts}
    split = [choice == SPLIT for _, choice in architecture.choices]
    stem, first, last = split[0], sum(split[1:5]), sum(split[15:])
    assert {f"stem\n{stem:d} of 1", f"layer1\n{first} of 4", f"layer4\n{last} of 5"} <= headings
    assert "warm-up: weights only" in headings


@pytest.mark.parametrize("generated", [True, False])
def test_the_picture_says_its_scale_and_that_images_are_generated(tmp_path, drawn, words, generated):
    history, architecture = search(RESNET18, 2, 0)
    found = Architecture(architecture.space, architecture.choices, {"data": {"synthetic": generated}})
    report.draw_bn_split(history, found, tmp_path / "architecture.png")
    written = words(drawn[0])
    assert ("searched on generated images" in written) == generated
    assert "square root of the distance from 0.5" in written


def test_a_thin_warm_up_moves_into_the_legend(tmp_path, drawn):
    for warmup in (0, 1):
        history, architecture = search(RESNET18, 90, warmup)
        report.draw_bn_split(history, architecture, tmp_path / "architecture.png")
    without, thin = ([text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn)
    assert "warm-up" not in without and "warm-up" in thin


@pytest.mark.parametrize(("largest", "reach"), [(0.5, 0.01), (0.513, 0.02), (0.31, 0.2), (0.999, 0.5)])
def test_the_colour_scale_is_symmetric_and_follows_the_range(tmp_path, drawn, largest, reach):
    history, architecture = search(RESNET18, 2, 0, step=0.0)
    history[1]["probabilities"]["bn1"] = {SPLIT: largest, SHARE: 1 - largest}
    report.draw_bn_split(history, architecture, tmp_path / "architecture.png")
    heat, *_, bar = drawn[0].axes
    norm = heat.collections[0].norm
    assert (norm.vmin, norm.vmax) == (0.5 - reach, 0.5 + reach)
    assert norm(0.5) == pytest.approx(0.5)
    # A hundredth of the reach is a tenth of the colour range.
    assert [norm(0.5 - reach / 100), norm(0.5 + reach / 100)] == pytest.approx([0.45, 0.55])
    labels = [float(text.get_text()) for text in bar.get_xticklabels()]
    assert labels == pytest.approx([0.5 + part * reach for part in (-1, -0.2, 0, 0.2, 1)], abs=1e-9)
    assert bar.get_xticks() == pytest.approx(labels)


def test_the_colours_are_safe_for_the_colour_blind(tmp_path, drawn):
    report.draw_bn_split(*search(RESNET18, 2, 0), tmp_path / "architecture.png")
    colours = drawn[0].axes[0].collections[0].cmap(np.linspace(0, 1, 101))[:, :3]
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness[:51]) > 0).all() and (np.diff(lightness[50:]) < 0).all(), "lightest in the middle"
    # Blue against yellow is what red-green blindness leaves: the sides must differ in it.
    yellow = colours[:, :2].mean(axis=1) - colours[:, 2]
    assert (yellow[:43] < -0.05).all() and (yellow[58:] > 0.05).all()


def test_architectures_that_cannot_be_drawn(tmp_path):
    history, architecture = search(RESNET18, 2, 0)
    path = tmp_path / "architecture.png"
    with pytest.raises(InputError, match="holds no epoch"):
        report.draw_bn_split([], architecture, path)
    with pytest.raises(InputError, match='no "probabilities" in epoch 1;.*not of a training'):
        report.draw_bn_split([{"epoch": 1, "ce": 1.0}], architecture, path)
    with pytest.raises(InputError, match='another backbone.*epoch 1 has not "layer1.0.bn3"'):
        report.draw_bn_split(history, Architecture.preset("share", RESNET50), path)
    with pytest.raises(InputError, match="another backbone.*20 slots instead of 5"):
        report.draw_bn_split(history, Architecture.preset("share", RESNET18[:5]), path)
    with pytest.raises(InputError, match='space "depth" cannot be drawn as one of "norm_split"'):
        report.draw_bn_split(history, Architecture("depth", architecture.choices), path)
    assert list(tmp_path.iterdir()) == []
