"""Ranked-list pictures and ROC curves show what they should."""
import numpy as np
import pytest
import torch
from PIL import Image

from torchreid_nas.features import FeatureSet, GalleryRanking, compute_roc
from torchreid_nas.features import figures as figures_module
from torchreid_nas.features.figures import draw_ranked_lists, draw_roc
from torchreid_nas.features.report import matches_table, write_csv

GREEN, RED = (26, 127, 55), (207, 34, 46)


def has(path, colour):
    """Share of the picture's pixels that have just this colour."""
    return (np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=2).mean()


@pytest.fixture
def matches(tmp_path):
    """Eight queries of persons 0 and 1; the gallery holds a person 0, a person 2 and an unknown one."""

    def make(labels=("0", "2", "")):
        def part(features, labels, prefix):
            paths = [tmp_path / f"{prefix}{index}.png" for index in range(len(features))]
            for index, path in enumerate(paths):
                Image.new("RGB", (20, 40), (30, 30 if prefix == "g" else 99, 200 - 20 * index)).save(path)
            return FeatureSet(
                torch.tensor(features), tuple(map(str, paths)), tuple(labels), np.full(len(features), -1, np.int64)
            )

        ranking = GalleryRanking(part([[1.0, 0.0]] * 8, ["0"] * 8, "q"), 3)
        ranking.add(part([[1.0, 0.1], [1.0, 1.0], [0.0, 1.0]], labels, "g"))
        return ranking.result()

    return make


def test_frames_are_green_and_red_where_labels_are_known(matches, tmp_path):
    first, second = draw_ranked_lists(matches(), tmp_path / "out")
    assert [first.name, second.name] == ["ranked_001.png", "ranked_002.png"]
    for path in (first, second):
        assert has(path, GREEN) > 1e-3 and has(path, RED) > 1e-3
    unknown, _ = draw_ranked_lists(matches(("", "", "")), tmp_path / "unknown")
    assert has(unknown, GREEN) == has(unknown, RED) == 0


def test_what_lies_beyond_the_threshold_is_pale(matches, tmp_path):
    blue = (30, 30, 180)  # the second image of the gallery
    near, _ = draw_ranked_lists(matches(), tmp_path / "near")
    far, _ = draw_ranked_lists(matches(), tmp_path / "far", threshold=0.2)
    assert has(near, blue) > 0 and has(far, blue) == 0
    assert has(far, (30, 30, 200)) > 0


def test_a_limit_and_what_an_earlier_call_left(matches, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ranked_list.png").write_bytes(b"mine")
    assert len(draw_ranked_lists(matches(), tmp_path / "out")) == 2
    assert len(draw_ranked_lists(matches(), tmp_path / "out", limit=2)) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ranked_001.png", "ranked_list.png"]
    assert draw_ranked_lists(matches(), tmp_path / "none", limit=0) == [] and not (tmp_path / "none").exists()


def test_a_file_that_is_gone_leaves_its_place_empty(matches, tmp_path):
    found = matches()
    (tmp_path / "g0.png").unlink()
    path, _ = draw_ranked_lists(found, tmp_path / "out")
    assert has(path, (30, 30, 200)) == 0 and has(path, (30, 99, 200)) > 0 and has(path, GREEN) > 1e-3


def test_names_with_signs_of_formulas_and_with_no_text_are_written(tmp_path):
    """Both ended in a traceback: matplotlib read the one as a formula, and UTF-8 cannot hold the other."""
    names = ("a$x^$b.png", "caf\udce9.png")  # as Python names the file caf\xe9.png of a Latin-1 archive
    part = FeatureSet(torch.eye(2), names, ("$m^$", "caf\udce9"), np.full(2, -1, np.int64))
    ranking = GalleryRanking(part, 2)
    ranking.add(part)
    found = ranking.result()
    path, = draw_ranked_lists(found, tmp_path)
    assert path.exists()
    matches_table(found).encode()
    assert r"caf\udce9.png,1,a$x^$b.png" in write_csv(found, tmp_path / "matches.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_roc_is_drawn_with_the_point(metric, tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 8, generator=generator).repeat_interleave(4, 0)
    features = features + 0.7 * torch.randn(features.shape, generator=generator)
    labels = tuple(str(index // 4) for index in range(40))
    roc = compute_roc(FeatureSet(features, tuple(map(str, range(40))), labels, np.full(40, -1)), metric=metric)
    marked, other = (
        draw_roc(roc, roc.at_far(far), tmp_path / f"{far}.png", "infrared → visible") for far in (0.01, 0.5)
    )
    orange = (232, 134, 42)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in (marked, other)]
    places = [np.argwhere((picture == orange).all(axis=2)) for picture in pictures]
    # The point moves right and up; rows count downwards.
    assert all(len(place) > 50 for place in places)
    halves = [place[place[:, 1] < 650] for place in places]
    assert halves[0][:, 1].mean() < halves[1][:, 1].mean() and halves[0][:, 0].mean() > halves[1][:, 0].mean()


@pytest.mark.parametrize("far", [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("noise", [0.05, 0.4, 0.7, 2.0])
def test_no_curve_crosses_the_label_of_the_chosen_point(tmp_path, monkeypatch, far, noise):
    figures = []
    monkeypatch.setattr(figures_module, "save_figure", lambda figure, path: figures.append(figure))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 8, generator=generator).repeat_interleave(4, 0)
    features = features + noise * torch.randn(features.shape, generator=generator)
    labels = tuple(str(index // 4) for index in range(40))
    roc = compute_roc(FeatureSet(features, tuple(map(str, range(40))), labels, np.full(40, -1)))
    point = roc.at_far(max(far, 1.5 / roc.num_impostor))
    draw_roc(roc, point, tmp_path / "roc.png")
    axes = figures[0].axes[0]
    (label,) = [text for text in axes.texts if text.get_text().startswith("FAR")]
    box = label.get_window_extent(figures[0].canvas.get_renderer())
    xs, ys = axes.lines[0].get_data()
    # Between two vertices the curve runs straight: a hundred samples of each piece are closer than a letter is high.
    parts = np.linspace(0, 1, 100)[:, None]
    samples = np.stack([(xs[:-1] + parts * np.diff(xs)).ravel(), (ys[:-1] + parts * np.diff(ys)).ravel()], axis=1)
    assert not box.count_contains(axes.transData.transform(samples))
    frame = axes.get_window_extent()
    assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_the_roc_says_that_its_images_are_generated(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figures_module, "save_figure", lambda figure, path: figures.append(figure))
    features = FeatureSet(
        torch.nn.functional.normalize(torch.randn(6, 4), dim=1), tuple("abcdef"), ("0", "0", "1", "1", "2", "2"),
        np.full(6, -1, np.int64), modality="visible",
    )
    roc = compute_roc(features)
    for generated in (False, True):
        draw_roc(roc, roc.at_far(0.5), tmp_path / "roc.png", "visible", generated)
    assert ["generated" in figure._suptitle.get_text() for figure in figures] == [False, True]
    box = figures[1]._suptitle.get_window_extent(figures[1].canvas.get_renderer())
    assert box.x1 <= figures[1].canvas.get_width_height()[0]


def test_infrared_images_are_stretched_and_the_caption_says_so(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figures_module, "save_figure", lambda figure, path: figures.append(figure))
    for name in ("visible", "infrared"):
        image = Image.new("RGB", (20, 40), (40, 40, 40))
        image.paste((60, 60, 60), (0, 0, 20, 20))
        image.save(tmp_path / f"{name}.png")
    visible, infrared = (
        FeatureSet(torch.ones(1, 2), (str(tmp_path / f"{name}.png"),), ("0",), np.full(1, -1, np.int64), modality=name)
        for name in ("visible", "infrared")
    )
    ranking = GalleryRanking(visible, 1)
    ranking.add(infrared)
    draw_ranked_lists(ranking.result(), tmp_path)
    (tmp_path / "synthetic.json").write_text("{}")
    draw_ranked_lists(ranking.result(), tmp_path)
    plain, generated = figures
    shown = [np.asarray(axes.images[0].get_array()) for axes in plain.axes]
    # Enlarging overshoots by one where two colours meet.
    assert [int(np.ptp(image)) for image in shown] == [pytest.approx(20, abs=4), 255]
    caption = " ".join(plain.texts[0].get_text().split())
    assert "infrared brightness stretched for display" in caption and "generated" not in caption
    assert "on generated images" in " ".join(generated.texts[0].get_text().split())


def test_a_caption_is_wrapped_to_the_width_of_the_picture(matches, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figures_module, "save_figure", lambda figure, path: figures.append(figure))
    monkeypatch.setattr(figures_module, "_caption", lambda *a: "visible → infrared  ·  " * 9)
    draw_ranked_lists(matches(), tmp_path)
    for figure in figures:
        box = figure.texts[0].get_window_extent(figure.canvas.get_renderer())
        width, height = figure.canvas.get_width_height()
        assert box.x1 <= width and figure.texts[0].get_text().count("\n") >= 1
        assert not any(line.endswith(("·", " ", "\u00a0")) for line in figure.texts[0].get_text().split("\n"))
        titles = [axes.title.get_window_extent(figure.canvas.get_renderer()) for axes in figure.axes]
        assert box.y0 >= max(title.y1 for title in titles), "the caption stands above the images"
