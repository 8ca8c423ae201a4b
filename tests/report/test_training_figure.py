"""The picture of a training: its panels, its curves, its learning rate."""
from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
from histories import RESNET18, search
from matplotlib.text import Text

from torchreid_nas import report
from torchreid_nas.errors import InputError


def test_the_training_has_a_panel_per_loss_the_rate_and_the_scores(tmp_path, drawn):
    history, _ = search(RESNET18, 12, 3)
    for row in history[3::4]:
        row.update(validation_score=row["epoch"] / 40, validation_rank1=row["epoch"] / 20)
    path = tmp_path / "figures" / "training.png"
    report.draw_training(history, path)
    panels = {axes.get_title(loc="left"): axes for axes in drawn[0].axes}
    assert list(panels) == [
        "cross-entropy", "triplet", "C3MMD", "architecture loss (validation part)", "learning rate",
        "held-out identities (%)",
    ]
    (curve,) = panels["cross-entropy"].lines
    np.testing.assert_array_equal(curve.get_xydata(), [(row["epoch"], row["ce"]) for row in history])
    (curve,) = panels["architecture loss (validation part)"].lines
    assert list(curve.get_xdata()) == list(range(4, 13)), "no value in warm-up"
    score, rank1 = panels["held-out identities (%)"].lines
    assert (score.get_label(), rank1.get_label()) == ("score", "Rank-1")
    np.testing.assert_allclose(score.get_xydata(), [(4, 10), (8, 20), (12, 30)])
    np.testing.assert_allclose(rank1.get_ydata(), [20, 40, 60])
    width, height = drawn[0].canvas.get_width_height()
    assert matplotlib.image.imread(path).shape[:2] == (height, width)


@pytest.mark.parametrize(
    ("rates", "scale"),
    [([0.1, 0.05], "linear"), ([0.1, 0.01], "log"), ([0.1, 0.0], "linear"), ([0.0], "linear")],
)
def test_the_rate_is_logarithmic_over_decades_only(tmp_path, drawn, rates, scale):
    history = [{"epoch": index, "lr": rate} for index, rate in enumerate(rates, start=1)]
    report.draw_training(history, tmp_path / "training.png")
    assert drawn[0].axes[0].get_yscale() == scale


@pytest.mark.parametrize("history", [[], [{"epoch": 1}]])
def test_a_training_without_numbers_cannot_be_drawn(tmp_path, history):
    with pytest.raises(InputError, match="nothing to draw"):
        report.draw_training(history, tmp_path / "training.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("losses", "expected"), [(1, [2]), (3, [2, 2]), (4, [3, 2]), (6, [3, 2, 2])])
def test_no_row_of_panels_ends_in_a_hole(tmp_path, drawn, losses, expected):
    row = {"epoch": 1, "lr": 0.1, **{f"loss {index}": 1.0 for index in range(losses)}}
    report.draw_training([row], tmp_path / "training.png")
    boxes = [axes.get_position() for axes in drawn[0].axes]
    rows = sorted({round(box.y0, 3) for box in boxes}, reverse=True)
    assert [sum(round(box.y0, 3) == y for box in boxes) for y in rows] == expected
    for y in rows:
        right = max(box.x1 for box in boxes if round(box.y0, 3) == y)
        assert right > 0.95, "every row reaches the right edge"


def test_a_training_without_scores_says_why_and_a_search_does_not(tmp_path, drawn):
    history, _ = search(RESNET18, 3, 0)
    training = [{key: value for key, value in row.items() if key != "probabilities"} for row in history]
    scored = [{**row, "validation_score": 0.5} for row in training]
    for rows in (training, scored, history):
        report.draw_training(rows, tmp_path / "training.png", "resnet, regdb, on generated images")
    texts = [[text.get_text() for text in figure.findobj(Text)] for figure in drawn]
    without, *others = texts
    assert "No curve of scores: the training held out no identities (train.holdout 0)." in without
    assert "resnet, regdb, on generated images" in without
    assert not any("No curve" in text for found in others for text in found)
    width = drawn[0].canvas.get_width_height()[0]
    for text in drawn[0].findobj(Text):
        if text.get_text().startswith(("resnet, regdb", "No curve")):
            box = text.get_window_extent(drawn[0].canvas.get_renderer())
            assert box.x0 >= 0 and box.x1 <= width
