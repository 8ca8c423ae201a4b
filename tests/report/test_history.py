"""Reading history.jsonl, and the epochs in which slots were decided."""
from __future__ import annotations

import pytest
from histories import RESNET50, search

from torchreid_nas import report
from torchreid_nas.architecture import SHARE, SPLIT
from torchreid_nas.errors import InputError


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
