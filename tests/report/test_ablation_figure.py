"""The picture of an ablation: a pair of bars per variant, in percent."""
import pytest
from PIL import Image

from torchreid_nas.errors import InputError
from torchreid_nas.report import ablation_figure, draw_ablation, style


def results(trials=1, datasets=("market1501",)):
    return {"results": [
        {"dataset": dataset, "variant": variant, "ranks": [1, 5], "cmc": [rank1, 0.9], "cmc_std": [0.05, 0.0], "mAP": mAP,
         "mAP_std": 0.02, "num_trials": trials}
        for dataset in datasets for variant, rank1, mAP in (("source only", 0.07, 0.04), ("all (ECN)", 0.135, 0.113))
    ]}


def drawn(monkeypatch, content, path):
    kept = []
    monkeypatch.setattr(
        ablation_figure, "save_figure", lambda figure, path: kept.append(figure) or style.save_figure(figure, path)
    )
    draw_ablation(content, path)
    return kept[0]


def test_the_bars_are_the_scores_in_percent(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, results(), tmp_path / "a" / "ablation.png")
    (axes,) = figure.axes
    assert sorted(round(bar.get_width(), 3) for bar in axes.patches) == [4.0, 7.0, 11.3, 13.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["source only", "all (ECN)"]
    assert {text.get_text() for text in axes.texts} == {"7.0", "4.0", "13.5", "11.3"}
    assert Image.open(tmp_path / "a" / "ablation.png").size[0] > 500


def test_every_data_set_has_its_panel_and_several_trials_their_deviation(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, results(3, ("regdb", "regdb_ir2vis")), tmp_path / "ablation.png")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["regdb (%)", "regdb_ir2vis (%)"]
    assert all(len(axes.collections) >= 2 for axes in figure.axes)


def test_the_title_says_that_images_are_generated(tmp_path, monkeypatch):
    content = {**results(), "data": {"synthetic": True}}
    figure = drawn(monkeypatch, content, tmp_path / "ablation.png")
    assert figure.axes[0].get_title(loc="left") == "market1501, on generated images (%)"


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(InputError, match="no result"):
        draw_ablation({"results": []}, tmp_path / "ablation.png")
