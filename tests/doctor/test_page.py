"""The page of a report: whole in itself, names of files escaped, pictures bounded."""
from __future__ import annotations

import re

import pytest
from PIL import Image

from torchreid_nas.doctor import Data, Finding, Group, Record, Report
from torchreid_nas.doctor.kinds import KINDS
from torchreid_nas.doctor.page import render_page

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(30)]
    for path in paths:
        Image.new("RGB", (20, 40), (200, 30, 30)).save(path)
    return tuple(map(str, paths))


def page(root, *findings, name="Campus", **more):
    data = Data(name, root, [Record(str(root / "0.png"), "7", part="train")])
    return render_page(Report(data, list(findings), [{"part": "train", "images": 1}], **more))


def pictures(text):
    return text.count('<img src="data:image/jpeg;base64,')


def test_a_page_needs_no_other_file_and_runs_no_script(files, tmp_path):
    text = page(tmp_path, Finding("turned", 2, {"images": "2 images", "verb": "have"}, files[:2]))
    assert pictures(text) == text.count("<img ") == 2
    assert not re.search(r"<script|https?://|url\(|@import", text)
    assert {found[:5] for found in re.findall(r'(?:src|href)="([^"]*)', text)} == {"data:"}


def test_hostile_names_are_text(tmp_path):
    path = tmp_path / f"{HOSTILE.replace('/', '')}.png"
    Image.new("RGB", (20, 40)).save(path)
    group = Group(HOSTILE, (str(path),), (f'"{HOSTILE}',))
    text = page(tmp_path, Finding("two_labels", 1, {"images": HOSTILE, "how": "x", "names": HOSTILE}, (str(path),), (group,)),
                name=HOSTILE, left_out=[HOSTILE])
    assert "<script" not in text and text.count("&lt;script&gt;") >= 6
    assert pictures(text) == 1 and 'alt="' in text


def test_pictures_of_a_finding_and_of_a_group_are_bounded(files, tmp_path):
    many = Finding("turned", 30, {"images": "30 images", "verb": "have"}, files)
    group = Finding("two_labels", 30, {"images": "30 images", "how": "x", "names": "1 with 2"}, files, (Group("", files),))
    assert pictures(page(tmp_path, many)) == 24
    text = page(tmp_path, group)
    assert pictures(text) == 8 and "and 22 more images" in text


def test_a_file_that_cannot_be_shown_is_left_out(files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    text = page(tmp_path, Finding("turned", 2, {"images": "2 images", "verb": "have"}, (str(tmp_path / "broken.png"), files[0])))
    assert pictures(text) == 1 and "broken.png" in text


@pytest.mark.parametrize("findings, verdict", [
    ((), "Nothing is wrong that these checks can see."),
    (("turned",), "Look at the warnings before you trust figures."),
    (("turned", "bad_name"), "Mend the errors before you train"),
])
def test_the_verdict_is_that_of_the_worst_finding(findings, verdict, tmp_path):
    words = {"images": "1 image", "verb": "has", "example": "a.png"}
    assert verdict in page(tmp_path, *(Finding(name, 1, words) for name in findings))


def test_every_kind_has_a_sentence_and_a_way_out():
    for kind in KINDS.values():
        assert kind.says.endswith((".", ".}")) and kind.way_out.endswith("."), kind.name
        assert kind.title[0].isupper() and not kind.title.endswith("."), kind.name
