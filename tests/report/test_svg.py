"""Figures as SVG within a page."""
import re

from torchreid_nas.report.style import FAINT, INK, new_figure, save_figure
from torchreid_nas.report.svg import figure_svg


def drawn(label):
    figure = new_figure((3, 2))
    axes = figure.subplots()
    axes.plot([1, 2], color="#3a86c0")
    axes.set_title("a < b", color=INK)
    axes.set_xlabel("epoch", color=FAINT, style="italic")
    return figure_svg(figure, label)


def test_text_stays_text_and_follows_the_colours_of_the_page():
    svg = drawn("a plot")
    assert "a &lt; b</text>" in svg and "var(--ink)" in svg and "var(--soft)" in svg and "var(--card)" in svg
    assert not re.search(f"{INK}|{FAINT}|#ffffff|DejaVu|<style|<metadata", svg) and "#3a86c0" in svg


def test_the_label_is_escaped():
    assert 'aria-label="&lt;b&gt; &quot;x&quot;"' in drawn('<b> "x"')


def test_two_figures_share_no_name_of_what_they_refer_to():
    first, second = (set(re.findall(r' id="([^"]+)"', drawn(label))) for label in ("one", "two"))
    assert first and not first & second


def test_a_picture_whose_name_ends_so_is_svg(tmp_path):
    figure = new_figure((2, 1))
    save_figure(figure, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()
