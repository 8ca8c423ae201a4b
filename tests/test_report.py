"""The pictures and tables of a run: what they show, that nothing overlaps, and what a failure leaves behind."""
from __future__ import annotations

import errno
import itertools
import json
import math
import random

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import torchreid
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import nn

from torchreid_nas import report
from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.errors import InputError

RESNET18 = Architecture.from_ints([0] * 20).slots
RESNET50 = Architecture.from_ints([0] * 53).slots
RESNET101 = Architecture.from_ints([0] * 104).slots


def torchreid_slots(name):
    model = torchreid.models.build_model(name, num_classes=2, pretrained=False)
    return tuple(slot for slot, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d))


def search(slots, epochs, warmup, seed=0, step=0.15):
    """A history as the search engine writes it: logits on a random walk after warm-up, temperature falling."""
    generator = random.Random(seed)
    drift = {slot: generator.gauss(0.9 - 2.2 * index / len(slots), 0.8) for index, slot in enumerate(slots)}
    logits, before, history = dict.fromkeys(slots, 0.0), dict.fromkeys(slots, False), []
    for epoch in range(1, epochs + 1):
        temperature = max(0.2, 5 * 0.96 ** max(0, epoch - 1 - warmup))
        row = {"epoch": epoch, "ce": 5 * math.exp(-epoch / 20), "triplet": 0.4 / epoch, "c3mmd": 0.3 / (1 + epoch / 9)}
        if epoch > warmup:
            row["architecture"] = 1.2 * math.exp(-epoch / 40)
            for slot in slots:
                logits[slot] += step * (drift[slot] + generator.gauss(0, 1.6))
        now = {slot: logits[slot] > 0 for slot in slots}
        row.update(lr=0.1 * min(1.0, epoch / 10), seconds=12.5, temperature=temperature)
        row["changed"] = sum(now[slot] != before[slot] for slot in slots)
        split = {slot: 1 / (1 + math.exp(-logits[slot] / temperature)) for slot in slots}
        row["probabilities"] = {slot: {SHARE: 1 - p, SPLIT: p} for slot, p in split.items()}
        history.append(row)
        before = now
    choices = tuple((slot, SPLIT if before[slot] else SHARE) for slot in slots)
    return history, Architecture(BN_SPACE, choices)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, as they were when they were saved."""
    figures = []
    savefig = Figure.savefig

    def keep(self, *args, **kwargs):
        figures.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def boxes(figure):
    """(text, bounding box in pixels) of all that is written in the figure."""
    renderer = figure.canvas.get_renderer()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


# -- history.jsonl ------------------------------------------------------------


def test_history_is_read_line_by_line(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 1, "ce": 2.5}\n\n{"epoch": 2, "ce": 1.5}\n', encoding="utf-8")
    assert report.read_history(path) == [{"epoch": 1, "ce": 2.5}, {"epoch": 2, "ce": 1.5}]


@pytest.mark.parametrize("line", [b'{"epoch": 2, "ce"', b"[1, 2]", b"null", b'{"ce": 1.0}', b"\xff\xfe"])
def test_a_broken_line_of_the_history_is_named(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
    with pytest.raises(InputError, match=r'history\.jsonl", line 2,.*restore'):
        report.read_history(path)


def test_a_missing_history_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.jsonl.*check the path"):
        report.read_history(tmp_path / "nowhere.jsonl")


# -- what the pictures show ---------------------------------------------------


def naive_decision(history, slot):
    """Walk forwards and note every epoch whose sign differs from the one before."""
    decided, before = history[0]["epoch"], None
    for row in history:
        p = row["probabilities"][slot]
        sign = "split" if p[SPLIT] > p[SHARE] else "share" if p[SHARE] > p[SPLIT] else "none"
        if sign != before and before is not None:
            decided = row["epoch"]
        before = sign
    return None if before == "none" else decided


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (1, 1), (12, 3), (60, 10)])
def test_decision_epochs_equal_a_naive_walk(epochs, warmup):
    history, _ = search(RESNET50, epochs, warmup, seed=epochs)
    assert report.decision_epochs(history, RESNET50) == [naive_decision(history, slot) for slot in RESNET50]


def test_decision_epochs_by_hand():
    courses = {
        "stays": [0.5, 0.6, 0.6, 0.9], "turns": [0.5, 0.6, 0.4, 0.3], "last": [0.5, 0.4, 0.4, 0.6],
        "never": [0.5, 0.5, 0.5, 0.5], "back": [0.5, 0.6, 0.4, 0.5], "shares": [0.5, 0.5, 0.4, 0.2],
        "born": [0.6, 0.7, 0.8, 0.9],
    }
    history = [
        {"epoch": epoch, "probabilities": {slot: {SPLIT: p, SHARE: 1 - p} for slot, p in zip(courses, at)}}
        for epoch, at in enumerate(zip(*courses.values()), start=11)
    ]
    expected = {"stays": 12, "turns": 13, "last": 14, "never": None, "back": None, "shares": 13, "born": 11}
    assert report.decision_epochs(history, list(courses)) == list(expected.values())


def test_stages_of_a_resnet():
    assert report.stages(RESNET50) == [
        ("stem", 0, 1), ("layer1", 1, 11), ("layer2", 11, 24), ("layer3", 24, 43), ("layer4", 43, 53),
    ]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("osnet_x0_25", "conv1", "conv5"), ("mobilenetv2_x1_0", "conv1", "conv9"), ("densenet121", "stem", "norm5")],
)
def test_stages_partition_the_slots_of_other_backbones(name, first, last):
    slots = torchreid_slots(name)
    found = report.stages(slots)
    assert (found[0][0], found[-1][0]) == (first, last)
    assert [index for _, start, stop in found for index in range(start, stop)] == list(range(len(slots)))
    assert all(a[0] != b[0] for a, b in itertools.pairwise(found))


def test_short_names():
    slots = ("bn1", "layer3.0.bn2", "layer3.0.downsample.1", "conv2.1.conv2d.0.bn", "layer4.0.shortcut")
    assert report.short_names(slots) == ["bn1", "3.0.bn2", "3.0.ds", "2.1.conv2d.0", "4.0.ds"]


def test_short_names_that_would_collide_stay_whole():
    assert report.short_names(["layer1.0.bn", "stage1.0.bn", "layer2.0.bn"]) == ["layer1.0.bn", "stage1.0.bn", "2.0"]


@pytest.mark.parametrize("name", ["osnet_x0_25", "mobilenetv2_x1_0", "densenet121"])
def test_short_names_of_other_backbones_are_unique(name):
    slots = torchreid_slots(name)
    short = report.short_names(slots)
    assert len(set(short)) == len(slots) and max(map(len, short)) < max(map(len, slots))


# -- the architecture ---------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "epochs", "warmup"),
    [
        (RESNET18, 1, 0), (RESNET18, 8, 2), (RESNET50, 61, 10), (RESNET101, 95, 1), ("osnet_x0_25", 3, 3),
        ("mobilenetv2_x1_0", 240, 5), ("densenet121", 2, 0), ("xception", 5, 1),
    ],
)
def test_every_word_of_the_architecture_is_inside_and_none_overlaps(tmp_path, drawn, slots, epochs, warmup):
    slots = torchreid_slots(slots) if isinstance(slots, str) else slots
    history, architecture = search(slots, epochs, warmup, step=0.05)
    path = tmp_path / "figures" / "architecture.png"
    report.draw_architecture(history, architecture, path)
    (figure,) = drawn
    written = boxes(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in written:
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, text
    for (a, first), (b, second) in itertools.combinations(written, 2):
        # Fonts keep air above and below their letters; a pixel of shared air is none of ink.
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        along = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 1 or along <= 1, (a, b)
    words = [text for text, _ in written]
    assert f"{sum(choice == SPLIT for _, choice in architecture.choices)} of {len(slots)} BatchNorms split" in words
    assert set(report.short_names(slots)) <= set(words)
    assert matplotlib.image.imread(path).shape[:2] == (height, width)
    assert sorted(file.name for file in path.parent.iterdir()) == ["architecture.png"]


def test_the_picture_shows_the_history(tmp_path, drawn):
    history, architecture = search(RESNET18, 12, 3)
    report.draw_architecture(history, architecture, tmp_path / "architecture.png")
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


def test_a_thin_warm_up_moves_into_the_legend(tmp_path, drawn):
    for warmup in (0, 1):
        history, architecture = search(RESNET18, 90, warmup)
        report.draw_architecture(history, architecture, tmp_path / "architecture.png")
    without, thin = ([text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn)
    assert "warm-up" not in without and "warm-up" in thin


@pytest.mark.parametrize(("largest", "reach"), [(0.5, 0.01), (0.513, 0.02), (0.31, 0.2), (0.999, 0.5)])
def test_the_colour_scale_is_symmetric_and_follows_the_range(tmp_path, drawn, largest, reach):
    history, architecture = search(RESNET18, 2, 0, step=0.0)
    history[1]["probabilities"]["bn1"] = {SPLIT: largest, SHARE: 1 - largest}
    report.draw_architecture(history, architecture, tmp_path / "architecture.png")
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
    report.draw_architecture(*search(RESNET18, 2, 0), tmp_path / "architecture.png")
    colours = drawn[0].axes[0].collections[0].cmap(np.linspace(0, 1, 101))[:, :3]
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness[:51]) > 0).all() and (np.diff(lightness[50:]) < 0).all(), "lightest in the middle"
    # Blue against yellow is what red-green blindness leaves: the sides must differ in it.
    yellow = colours[:, :2].mean(axis=1) - colours[:, 2]
    assert (yellow[:43] < -0.05).all() and (yellow[58:] > 0.05).all()


def test_drawing_leaves_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    report.draw_architecture(*search(RESNET18, 2, 0), tmp_path / "architecture.png")
    report.draw_training(search(RESNET18, 2, 0)[0], tmp_path / "training.png")
    assert dict(matplotlib.rcParams) == before
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_architectures_that_cannot_be_drawn(tmp_path):
    history, architecture = search(RESNET18, 2, 0)
    path = tmp_path / "architecture.png"
    with pytest.raises(InputError, match="holds no epoch"):
        report.draw_architecture([], architecture, path)
    with pytest.raises(InputError, match='no "probabilities" in epoch 1;.*not of a training'):
        report.draw_architecture([{"epoch": 1, "ce": 1.0}], architecture, path)
    with pytest.raises(InputError, match='another backbone.*epoch 1 has not "layer1.0.bn3"'):
        report.draw_architecture(history, Architecture.preset("share", RESNET50), path)
    with pytest.raises(InputError, match="another backbone.*20 slots instead of 5"):
        report.draw_architecture(history, Architecture.preset("share", RESNET18[:5]), path)
    with pytest.raises(InputError, match='space "depth"'):
        report.draw_architecture(history, Architecture("depth", architecture.choices), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["architecture", "training"])
def test_a_full_disk_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch, what):
    def fail(self, path, **kwargs):
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    history, architecture = search(RESNET18, 2, 0)
    draw = {
        "architecture": lambda: report.draw_architecture(history, architecture, path),
        "training": lambda: report.draw_training(history, path),
    }
    with pytest.raises(InputError, match=r"picture\.png.*No space left"):
        draw[what]()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("picture.png", b"old")]


# -- the training -------------------------------------------------------------


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


# -- the results --------------------------------------------------------------


def entry(**changes):
    return {
        "dataset": "regdb", "direction": "visible → infrared", "feature": "after BNNeck", "ranks": [1, 5, 10, 20],
        "cmc": [0.5, 0.75123, 0.9, 1.0], "cmc_std": [0.0123, 0.01, 0.005, 0.0], "mAP": 0.456789, "mAP_std": 0.02,
        "mINP": 0.3, "mINP_std": 0.03, "num_valid_queries": 2060, "num_trials": 1, **changes,
    }


def cells(table):
    """The columns of tabulate's "simple" format stand at least two spaces apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]


def test_the_table_of_one_trial():
    header, _, row = cells(report.results_table({"results": [entry()], "config": "demo"}))
    assert header == [
        "data set", "direction", "feature", "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP",
        "queries", "trials",
    ]
    assert row == [
        "regdb", "visible → infrared", "after BNNeck", "50.00", "75.12", "90.00", "100.00", "45.68", "30.00",
        "2,060", "1",
    ]


def test_the_table_of_several_trials_and_features():
    results = json.loads(json.dumps({"results": [entry(num_trials=10), entry(feature="before BNNeck")]}))
    _, _, mean, single = cells(report.results_table(results))
    assert mean[3:] == [
        "50.00 ± 1.23", "75.12 ± 1.00", "90.00 ± 0.50", "100.00 ± 0.00", "45.68 ± 2.00", "30.00 ± 3.00",
        "2,060", "10",
    ]
    assert single[2:4] == ["before BNNeck", "50.00"]


def test_ranks_that_an_entry_lacks_stay_empty():
    other = entry(dataset="sysu_mm01", ranks=[1, 15], cmc=[0.4, 0.8])
    header, _, first, second = cells(report.results_table({"results": [entry(), other]}))
    assert header[3:8] == ["Rank-1", "Rank-5", "Rank-10", "Rank-15", "Rank-20"]
    assert first[3:7] == ["50.00", "75.12", "90.00", "100.00"]
    assert second[3:6] == ["40.00", "80.00", "45.68"]


def test_results_that_are_no_table():
    with pytest.raises(InputError, match='no entry under "results"'):
        report.results_table({"results": []})
    broken = entry()
    del broken["mINP"]
    with pytest.raises(InputError, match="lacks 'mINP'.*test again"):
        report.results_table({"results": [broken]})
