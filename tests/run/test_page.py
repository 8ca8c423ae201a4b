"""The page of a run: what it shows of whole, half finished, damaged and moved runs."""
from __future__ import annotations

import functools
import json
import re
import shutil

import commands
import numpy as np
import pytest
import torch
from commands import refused
from tiny import TINY
from torch import nn

from torchreid_nas.cli import main
from torchreid_nas.evidence.feature_store import load_test_features
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.page import write
from torchreid_nas.run.page.attention import activation_maps
from torchreid_nas.run.page.ranking import pair_histograms, rank_sample

arguments = functools.partial(commands.arguments, TINY)
SECTIONS = ["figures", "training", "architecture", "target0", "attention", "target1", "data", "environment", "repeat"]


def sections(page):
    return re.findall(r'<section id="(\w+)">', page)


def rendered(folder):
    write.write_page(RunFolder(folder))
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(finished_page):
    return finished_page.read_text(encoding="utf-8")


@pytest.fixture
def without_plots(monkeypatch):
    """Plots are empty: to draw them takes most of the time of a page."""
    for module in ("quality", "course"):
        monkeypatch.setattr(f"torchreid_nas.run.page.{module}.figure_svg", lambda figure, label: "<svg></svg>")


def test_a_finished_run_has_every_section_and_lacks_nothing(page):
    assert sections(page) == SECTIONS
    assert "not all is shown" not in page


def test_the_page_needs_nothing_beside_it_and_is_small(page):
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|<script|url\((?!#)|@import', page)
    assert 50_000 < len(page.encode()) < 5_000_000


def test_the_verdict_comes_first_with_the_figures_of_the_results(page, finished):
    row = json.loads((finished / "results.json").read_text())["results"][1]
    said = f"stands first for {100 * row['cmc'][0]:.1f} % (95 % interval"
    assert said in page and page.index(said) < page.index("<nav")


def test_every_picture_has_an_alternative_text(page):
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) > 40 and all(re.search(r'alt="[^"]{5,}"', picture) for picture in pictures)
    plots = re.findall(r"<svg [^>]*>", page)
    assert len(plots) > 10 and all(re.search(r'role="img" aria-label="[^"]{10,}"', plot) for plot in plots)


def test_generated_images_are_named_on_every_figure(copied, without_plots):
    config = copied / "config.yaml"
    config.write_text(re.sub(r"(synthetic:\n  enabled: )false", r"\1true", config.read_text()))
    page = rendered(copied)
    captions = re.findall(r"<figcaption>.*?</figcaption>", page, re.DOTALL)
    assert len(captions) > 15 and all("generated images" in caption for caption in captions)
    assert "Nothing that is published stands beside" in page


def test_infrared_pictures_are_said_to_be_stretched(page):
    for title in ("First image wrong", "Most confused pairs", "Activation maps"):
        assert "nfrared brightness stretched" in page[page.index(f"<b>{title}"):][:900]


def test_a_half_finished_run_shows_its_epochs(copied):
    for name in ("results.json", "scores.npz", "test_features.npz", "certificate.json", "architecture.json"):
        (copied / name).unlink()
    lines = (copied / "train" / "history.jsonl").read_text().splitlines(keepends=True)
    (copied / "train" / "history.jsonl").write_text(lines[0])
    page = rendered(copied)
    assert "3 of 3 epochs of the search are done and 1 of 3 epochs of the training are done; nothing is tested" in page
    assert sections(page) == ["training", "architecture", "data", "repeat"]


@pytest.mark.parametrize("name, lost", [
    ("train/history.jsonl", {"training"}), ("search/history.jsonl", set()), ("architecture.json", {"attention"}),
    ("scores.npz", set()), ("test_features.npz", set()), ("certificate.json", {"attention"}), ("data.json", {"data"}),
    ("results.json", {"figures", "target0", "target1", "attention"}), ("train/model.pth", {"attention"}),
])
def test_a_damaged_file_costs_its_own_part_alone(copied, name, lost, without_plots):
    (copied / name).write_bytes(b"{")
    page = rendered(copied)
    assert "not all is shown" in page and name.rpartition("/")[2] in page[page.index("not all is shown"):][:600]
    assert set(SECTIONS) - set(sections(page)) == lost


def test_a_run_whose_images_are_gone_shows_tables_instead(copied, tmp_path, without_plots):
    config = copied / "config.yaml"
    config.write_text(re.sub(r"(data:\n  root: ).*", rf"\1{tmp_path}/gone", config.read_text()))
    page = rendered(copied)
    assert "<img" not in page and "The images are not there" in page
    assert "taken for" in page and "mean AP (%)" in page and "<svg" in page


def test_images_other_than_those_of_the_test_are_not_shown(copied, data_root, tmp_path, without_plots):
    root = shutil.copytree(data_root / "RegDB", tmp_path / "data" / "RegDB").parent
    config = copied / "config.yaml"
    config.write_text(re.sub(r"(data:\n  root: ).*", rf"\1{root}", config.read_text()))
    for picture in (root / "RegDB").rglob("*.bmp"):
        picture.write_bytes(picture.read_bytes() + b"0")
    page = rendered(copied)
    assert "are not known to be those of the test" in page and "<img" not in page


def test_first_images_are_right_as_often_as_rank_1_says(finished):
    rows = {(row["dataset"], row["feature"]): row for row in json.loads((finished / "results.json").read_text())["results"]}
    for scored in load_test_features(finished / "test_features.npz"):
        rankings = rank_sample(scored, "euclidean", True)
        assert rankings.whole
        assert rankings.right[:, 0].mean() == pytest.approx(rows[scored.dataset, scored.names[-1]]["cmc"][0])
        confused = rankings.confused(scored.q_pids, scored.g_pids)
        assert sum(count for _, count, _ in confused) == (~rankings.right[:, 0]).sum()
        assert all(one != other for (one, other), _, _ in confused)


def test_histograms_hold_every_pair_once():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    pids = np.array([1, 1, 2, 2])
    roc, edges, same, different = pair_histograms((features, pids, np.full(4, -1)), None)
    assert (roc.num_genuine, roc.num_impostor) == (2, 4)
    assert same.sum() == pytest.approx(1) and different.sum() == pytest.approx(1)
    # The same person is nearer in every pair.
    assert edges[np.flatnonzero(same)].max() < edges[np.flatnonzero(different)].min()


def test_activation_maps_are_strong_where_the_image_is():
    convolution = nn.Conv2d(3, 2, 1, bias=False)
    nn.init.ones_(convolution.weight)
    images = torch.zeros(1, 3, 6, 4)
    images[0, :, 4, 1] = 1
    values = activation_maps(nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), images)
    assert values.shape == (1, 6, 4) and values[0, 4, 1] == 1 and values.sum() == 1


def test_a_run_ends_with_its_page(data_root, copied, capsys, without_plots):
    call = arguments(data_root, copied, "--stages", "train", "--resume", **{"report.enabled": True})
    assert main(call) == 0
    assert f"page:    {copied / 'report.html'}" in capsys.readouterr().out
    assert "</html>" in (copied / "report.html").read_text(encoding="utf-8")


def test_a_fault_of_the_page_costs_no_run(data_root, copied, capsys, monkeypatch):
    monkeypatch.setattr(write, "render_run", lambda facts: 1 / 0)
    assert main(arguments(data_root, copied, "--stages", "train", "--resume", **{"report.enabled": True})) == 0
    assert "the page of" in capsys.readouterr().err and not (copied / "report.html").exists()


def test_a_page_of_another_kind_is_refused(copied, capsys, tmp_path):
    assert "expected the name of a page that ends with .html" in refused(capsys, "report", copied, "--out", tmp_path / "a.pdf")
    assert list(tmp_path.glob("*.pdf")) == []
