"""The picture of a search over CDNet's blocks: what it shows, and that nothing overlaps."""
from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from torchreid_nas import report
from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES

ROWS = {
    "combined": ["3,5", "3,7", "5,7", "3,9", "5,9", "7,9"],
    "combined_depth": [
        "3,5x1", "3,7x1", "5,7x1", "3,9x1", "5,9x1", "7,9x1", "3,5x2", "3,7x2", "5,7x2", "3,9x2", "5,9x2", "7,9x2",
    ],
}


def frames(axes):
    """(epoch index, row, epochs) of every black frame of a panel."""
    return [(*patch.get_xy(), patch.get_width()) for patch in axes.patches
            if isinstance(patch, Rectangle) and not patch.get_fill()]


def triangles(axes):
    return [line.get_ydata()[0] - 0.5 for line in axes.lines if line.get_marker() == "<"]


def uniform(space, epochs=1):
    names = CANDIDATES[space]
    row = {slot: dict.fromkeys(names, 1 / len(names)) for slot in BLOCK_SLOTS}
    return [{"epoch": epoch, "architecture": 1.0, "probabilities": row} for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("space", "epochs", "warmup", "network"),
    [
        ("combined_depth", 60, 5, {}), ("combined_depth", 1, 0, {"neck": "blneck"}), ("combined", 240, 0, {}),
        ("combined", 3, 3, {"model_width": 4.0, "height": 1024, "width": 1024}),
        ("combined_depth", 1000, 10, {"small_images": True, "height": 32, "width": 32}),
    ],
)
def test_every_word_of_the_genotype_is_inside_and_none_overlaps(
    tmp_path, drawn, words, genotype_search, space, epochs, warmup, network,
):
    history, architecture = genotype_search(space, epochs, warmup)
    path = tmp_path / "figures" / "architecture.png"
    report.draw_genotype(history, architecture, path, **network)
    (figure,) = drawn
    written = words(figure)
    for slot, choice in architecture.choices:
        assert written.count(f"{slot}:  {choice}") == 2, "over its panel and over its block"
    parts = report.network_parts(architecture, **network)
    assert {f"{part.parameters:,}" for part in parts} | {f"{part.macs / 1e6:,.1f} M" for part in parts} <= set(written)
    assert {"×".join(map(str, part.output)) for part in parts} <= set(written)
    assert ("warm-up: weights only" in written) == bool(warmup)
    assert ("BLNeck" if network.get("neck") == "blneck" else "FBLNeck") in written
    width, height = figure.canvas.get_width_height()
    assert matplotlib.image.imread(path).shape[:2] == (height, width)
    assert sorted(file.name for file in path.parent.iterdir()) == ["architecture.png"]


@pytest.mark.parametrize("space", ["combined", "combined_depth"])
def test_the_panels_show_the_history(tmp_path, drawn, genotype_search, space):
    history, architecture = genotype_search(space, 20, 3)
    report.draw_genotype(history, architecture, tmp_path / "architecture.png")
    panels = drawn[0].axes[:6]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ROWS[space]
    assert len({axes.collections[0].norm for axes in panels}) == 1, "one scale for all"
    framed = 0
    for axes, (slot, choice) in zip(panels, architecture.choices):
        expected = [[row["probabilities"][slot][name] for row in history] for name in ROWS[space]]
        mesh = axes.collections[0]
        np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(len(ROWS[space]), 20), expected)
        assert axes.get_ylim() == (len(ROWS[space]), 0), "the first candidate on top"
        assert triangles(axes) == [ROWS[space].index(choice)]
        start = None
        for index, row in enumerate(history):
            ranked = sorted(row["probabilities"][slot].items(), key=lambda item: item[1])
            if ranked[-1][0] != choice or ranked[-2][1] == ranked[-1][1]:
                start = None
            elif start is None:
                start = index
        assert frames(axes) == [(start, ROWS[space].index(choice), 20 - start)]
        framed += start > 3
    assert framed, "some block changed its mind after warm-up"


def test_a_choice_that_does_not_end_as_the_likeliest_has_no_frame(tmp_path, drawn):
    history = uniform("combined", 4)
    better = {**history[0]["probabilities"], "stage1.0": dict.fromkeys(CANDIDATES["combined"], 0.1)}
    better["stage1.0"]["7,9"] = 0.5
    history[1]["probabilities"] = history[3]["probabilities"] = better
    chosen = {**dict.fromkeys(BLOCK_SLOTS, "3,5"), "stage1.0": "7,9"}
    report.draw_genotype(history, Architecture("combined", tuple(chosen.items())), tmp_path / "a.png")
    report.draw_genotype(history[:3], Architecture("combined", tuple(chosen.items())), tmp_path / "b.png")
    left, cut = drawn
    assert [frames(axes) for axes in left.axes[:6]] == [[(3, 5, 1)], [], [], [], [], []], "equal ones lead nowhere"
    assert [triangles(axes) for axes in left.axes[:6]] == [[5], [0], [0], [0], [0], [0]]
    assert not any(frames(axes) for axes in cut.axes[:6])


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 1.0), (0.05, 0.05, 0.75), (1 / 6 - 0.001, None, None)])
def test_the_colour_scale_holds_the_even_share_pale_and_follows_the_range(tmp_path, drawn, value, low, high):
    history = uniform("combined", 2)
    first, *others = CANDIDATES["combined"]
    history[1]["probabilities"] = {slot: {first: 1 - 5 * value, **dict.fromkeys(others, value)} for slot in BLOCK_SLOTS}
    low, high = (1 / 6 - 0.02, 1 / 6 + 0.02) if low is None else (low, high)
    architecture = Architecture("combined", tuple((slot, first) for slot in BLOCK_SLOTS))
    report.draw_genotype(history, architecture, tmp_path / "architecture.png")
    panel, bar = drawn[0].axes[0], drawn[0].axes[6]
    norm = panel.collections[0].norm
    assert (norm.vmin, norm.vmax) == pytest.approx((low, high))
    assert [norm(low), norm(1 / 6), norm(high)] == pytest.approx([0, 0.25, 1])
    # A hundredth of the way from the even share to the top is a tenth of the colours that say "preferred".
    assert norm(1 / 6 + (high - 1 / 6) / 100) == pytest.approx(0.25 + 0.75 / 10)
    shares = np.linspace(0, 1, 21)
    np.testing.assert_allclose(norm(norm.inverse(shares)), shares, atol=1e-7)
    assert bar.get_yticks() == pytest.approx([low, 1 / 6, high])
    assert [label.get_text() for label in bar.get_yticklabels()] == [f"{round(low, 3):g}", "1/6", f"{round(high, 3):g}"]
    lightness = panel.collections[0].cmap(np.linspace(0, 1, 101))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) < 0).all(), "darker is likelier"


@pytest.mark.parametrize(("source", "generated"), [({"data": {"synthetic": True}}, True), ({}, False)])
def test_the_picture_says_its_scale_and_that_images_are_generated(tmp_path, drawn, words, source, generated):
    architecture = Architecture("combined", Architecture.genotype("cnet").choices, source)
    report.draw_genotype(uniform("combined"), architecture, tmp_path / "architecture.png")
    written = words(drawn[0])
    assert ("searched on generated images" in written) == generated
    assert "square root\nabove 1/6" in written


def test_the_network_is_the_one_found(tmp_path, drawn):
    architecture = Architecture.genotype("cdnet")
    report.draw_genotype(uniform("combined_depth"), architecture, tmp_path / "architecture.png")
    assert drawn[0].texts[0].get_text() == "1,796,600 parameters, 955.1 M multiply-adds at 256×128"
    network = next(axes for axes in drawn[0].axes if any(text.get_text() == "stem" for text in axes.texts))
    placed = [(text.get_text(), *text.get_position()) for text in network.texts if text.get_text()]
    titles = sorted((x, text) for text, x, _ in placed if text.startswith("stage"))
    assert [text for _, text in titles] == [f"{slot}:  {choice}" for slot, choice in architecture.choices]
    panels = [axes.get_position() for axes in drawn[0].axes[:6]]
    width = drawn[0].get_size_inches()[0]
    kernels = [(text, x, y) for text, x, y in placed if text in ("3×3", "5×5", "7×7", "9×9")]
    found = []
    for panel in panels:
        inside = [(x, y, text) for text, x, y in kernels if panel.x0 * width < x < panel.x1 * width]
        cells = sorted({round(x, 6) for x, *_ in inside})
        pairs = [tuple(text for _, text in sorted((y, t) for x, y, t in inside if abs(x - c) < 1e-3)) for c in cells]
        assert len(set(pairs)) == 1, "all depths of a block have the same pair"
        found.append([int(pairs[0][0][0]), int(pairs[0][1][0]), len(pairs)])
    assert found == architecture.to_layers()
    assert len(kernels) == 2 * sum(depth for *_, depth in found)


def test_genotypes_that_cannot_be_drawn(tmp_path, genotype_search):
    history, architecture = genotype_search("combined_depth", 2)
    path = tmp_path / "architecture.png"
    with pytest.raises(InputError, match='space "norm_split", expected "combined_depth" or "combined"'):
        report.draw_genotype(history, Architecture.preset("share", BLOCK_SLOTS), path)
    with pytest.raises(InputError, match="holds no epoch"):
        report.draw_genotype([], architecture, path)
    with pytest.raises(InputError, match='no "probabilities" in epoch 1;.*not of a training'):
        report.draw_genotype([{"epoch": 1, "ce": 1.0}], architecture, path)
    with pytest.raises(InputError, match='another space.*epoch 1 has no probability of "3,5" for "stage1.0"'):
        report.draw_genotype(history, Architecture.genotype("cnet"), path)
    del history[1]["probabilities"]["stage3.1"]
    with pytest.raises(InputError, match='epoch 2 has not "stage3.1"'):
        report.draw_genotype(history, architecture, path)
    with pytest.raises(InputError, match="images of 8x8 are too small"):
        report.draw_genotype(history[:1], architecture, path, height=8, width=8)
    assert list(tmp_path.iterdir()) == []
