"""Measurements of images: what a damaged file becomes, what is kept, and what is asked again."""
from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from torchreid_nas.doctor import scan
from torchreid_nas.doctor.hashes import close_hashes
from torchreid_nas.doctor.measure import State, measure
from torchreid_nas.doctor.scan import measure_all


def picture(path, seed=0, size=(24, 48)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.parametrize("content, state", [
    (b"", State.EMPTY), (b"no image at all", State.UNREADABLE), (None, State.MISSING), ("cut", State.TRUNCATED),
])
def test_what_is_wrong_with_a_file_is_its_state(content, state, tmp_path):
    path = tmp_path / "a.jpg"
    if content == "cut":
        path.write_bytes(open(picture(tmp_path / "whole.jpg"), "rb").read()[:700])
    elif content is not None:
        path.write_bytes(content)
    row = measure(path)
    assert State(row["state"]) == state and row["reason"]


def test_a_named_pipe_is_no_image_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert State(measure(tmp_path / "a.jpg")["state"]) == State.UNREADABLE


def test_equal_pixels_in_other_files_have_equal_digests(tmp_path):
    first = picture(tmp_path / "a.png")
    Image.open(first).save(tmp_path / "b.bmp")
    rows = measure_all([first, str(tmp_path / "b.bmp")])
    assert rows["pixels"][0] == rows["pixels"][1] and rows["file"][0] != rows["file"][1]


def test_a_second_pass_measures_changed_files_alone(tmp_path, monkeypatch):
    paths = [picture(tmp_path / f"{number}.png", number) for number in range(3)]
    before = measure_all(paths, tmp_path / "store.sqlite")
    picture(paths[1], 9)
    os.utime(paths[1], (1, 1))
    asked = []
    monkeypatch.setattr(scan, "measure", lambda path: asked.append(path) or measure(path))
    after = measure_all(paths, tmp_path / "store.sqlite")
    assert asked == [paths[1]]
    assert (before["pixels"] == after["pixels"]).tolist() == [True, False, True]


def test_a_damaged_store_is_begun_anew(tmp_path):
    path = picture(tmp_path / "a.png")
    (tmp_path / "store.sqlite").write_bytes(b"no data base" * 100)
    assert measure_all([path], tmp_path / "store.sqlite")["state"].tolist() == [State.GOOD]


def test_several_processes_measure_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_PORTION", 2)
    paths = [picture(tmp_path / f"{number}.png", number) for number in range(7)]
    assert (measure_all(paths, workers=2) == measure_all(paths, workers=1)).all()


def test_close_hashes_are_those_of_the_plain_loop():
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**63, 60, dtype=np.uint64)
    for number in range(20):
        hashes[40 + number] = hashes[number]
        for bit in draw.choice(64, number % 10, replace=False).tolist():
            hashes[40 + number] ^= np.uint64(1 << bit)
    plain = [
        [one, two] for one in range(60) for two in range(one + 1, 60)
        if bin(int(hashes[one] ^ hashes[two])).count("1") <= 7
    ]
    assert close_hashes(hashes).tolist() == plain and len(plain) >= 14


def test_a_crowd_of_equal_hashes_gives_bounded_pairs_of_all():
    pairs = close_hashes(np.full(1000, 7, dtype=np.uint64))
    assert len(pairs) <= 64 * 1000 and set(pairs.ravel().tolist()) == set(range(1000))
    # Spread evenly: the first image is paired with the last ones too.
    assert pairs[pairs[:, 0] == 0, 1].max() >= 980
