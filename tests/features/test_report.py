"""Names of files reach neither terminal nor spreadsheet raw."""
import csv

import numpy as np
import pytest
import torch

from torchreid_nas.errors import printable
from torchreid_nas.features import FeatureSet, GalleryRanking
from torchreid_nas.features.report import matches_table, write_csv


def matches_of(name, label="7"):
    def part(path):
        return FeatureSet(torch.eye(1), (path,), (label,), np.array([-1]))

    ranking = GalleryRanking(part(f"q/{name}"), 1)
    ranking.add(part(f"g/{name}"))
    return ranking.result()


@pytest.mark.parametrize("name", ["a\x1b[31m.jpg", "a\x07\x9b2J.jpg", "a\u202egpj.exe", "a\rb.jpg", "a\nb.jpg", "a\udce9.jpg"])
def test_names_that_would_steer_a_terminal_are_written_out(name, tmp_path):
    matches = matches_of(name, f"label{name}")
    written = write_csv(matches, tmp_path / "m.csv").read_text(encoding="utf-8")
    for text in (matches_table(matches), written):
        assert text == printable(text) and "\r" not in text
    assert len(list(csv.reader(written.splitlines()))) == 2


@pytest.mark.parametrize("sign", "=+-@")
def test_cells_that_a_spreadsheet_would_compute_are_text(sign, tmp_path):
    def part(path):
        return FeatureSet(torch.eye(1), (path,), (f"{sign}1+1",), np.array([-1]))

    ranking = GalleryRanking(part(f"{sign}cmd|' /C calc'!A0"), 1, "cosine")
    ranking.add(part(f"{sign}x.jpg"))
    row, = csv.DictReader(write_csv(ranking.result(), tmp_path / "m.csv").read_text().splitlines())
    assert row["query"].startswith(f"'{sign}cmd") and row["gallery"] == f"'{sign}x.jpg"
    assert row["query_label"] == row["gallery_label"] == f"'{sign}1+1" and float(row["similarity"]) == 1
