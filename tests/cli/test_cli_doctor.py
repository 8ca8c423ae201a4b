"""torchreid-nas doctor: exit codes, text, JSON and page, what a killed run keeps, and what is refused."""
from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from PIL import Image

from torchreid_nas.cli import main
from torchreid_nas.doctor import scan
from torchreid_nas.doctor.measure import measure


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Three persons in two cameras, two images each, every image of other noise."""
    folder = tmp_path_factory.mktemp("photos")
    for person in range(3):
        for camera in ("cam1", "cam2"):
            for number in range(2):
                path = folder / f"p{person}" / camera / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([person, ord(camera[-1]), number]).integers(0, 256, (48, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def photos(clean, tmp_path, monkeypatch):
    """A copy that a test may spoil; ImageNet weights and measurements of this machine stay out of it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(clean, tmp_path / "photos"))


def doctor(*call):
    return main(["doctor", *map(str, call), "--workers", "1"])


def test_clean_data_end_with_0_and_one_line(photos, capsys):
    assert doctor(photos) == 0
    said = capsys.readouterr().out
    assert "12 images, no errors, no warnings" in said and "not looked at: label suspects" in said


def test_a_warning_ends_with_1_and_names_the_file(photos, capsys):
    Image.open(photos / "p1/cam1/0.png").resize((60, 30)).save(photos / "p1/cam1/0.png")
    assert doctor(photos) == 1
    said = capsys.readouterr().out
    assert "warning: 1 image is wider than high" in said and "p1/cam1/0.png" in said and "--html FILE writes a page" in said


def test_an_error_ends_with_2_and_comes_first(photos, capsys):
    Image.open(photos / "p1/cam1/0.png").resize((60, 30)).save(photos / "p1/cam1/0.png")
    (photos / "p2/cam2/1.png").write_bytes(b"")
    assert doctor(photos) == 2
    said = capsys.readouterr()
    assert said.out.index("error: 1 file is empty.") < said.out.index("warning: 1 image is wider") and not said.err


def test_json_is_all_of_standard_output(photos, capsys):
    shutil.copyfile(photos / "p0/cam1/0.png", photos / "p1/cam1/0.png")
    assert doctor(photos, "--json") == 2
    report = json.loads(capsys.readouterr().out)
    finding, = report["findings"]
    assert report["exit_code"] == 2 and finding["kind"] == "two_labels" and finding["severity"] == "error"
    assert finding["sentence"] == "2 images are copies of an image of another person, byte for byte: p0 with p1."
    assert sorted(finding["files"]) == ["p0/cam1/0.png", "p1/cam1/0.png"] and finding["groups"][0]["files"] == finding["files"]
    assert sum(row["images"] for row in report["cameras"]) == 12


def test_the_page_shows_what_the_text_says(photos, capsys, tmp_path):
    shutil.copyfile(photos / "p0/cam1/0.png", photos / "p1/cam1/0.png")
    page = tmp_path / "doctor.html"
    assert doctor(photos, "--html", page) == 2
    assert f"{page}: the same with pictures" in capsys.readouterr().out
    text = page.read_text()
    assert "copies of an image of another person, byte for byte: p0 with p1." in text and text.count("<img ") == 2
    assert not list(tmp_path.glob("*.tmp*"))


def test_quick_decodes_no_image(photos, capsys, monkeypatch):
    monkeypatch.setattr(scan, "measure", lambda path: pytest.fail("decoded"))
    (photos / "p0/cam1/0.png").write_bytes(b"")
    assert doctor(photos, "--quick") == 0
    assert "not looked at: images were not decoded (--quick)" in capsys.readouterr().out


def test_a_killed_run_goes_on_where_it_was(photos, capsys, monkeypatch):
    asked = []

    def killed(path):
        if len(asked) == 7:
            raise KeyboardInterrupt
        asked.append(path)
        return measure(path)

    monkeypatch.setattr(scan, "_PORTION", 2)
    monkeypatch.setattr(scan, "measure", killed)
    assert main(["doctor", str(photos), "--workers", "1", "--html", str(photos.parent / "doctor.html")]) == 130
    assert "the same command goes on with the images that were not read yet" in capsys.readouterr().err
    assert not (photos.parent / "doctor.html").exists()
    again = []
    monkeypatch.setattr(scan, "measure", lambda path: again.append(path) or measure(path))
    assert doctor(photos) == 0
    # Six images were kept, in portions of two.
    assert len(again) == 6 and not set(again) & set(asked[:6])


def test_measurements_are_kept_where_the_option_says(photos, capsys, tmp_path):
    assert doctor(photos, "--cache", "off") == 0
    assert not (tmp_path / "cache").exists()
    assert doctor(photos, "--cache", tmp_path / "mine.sqlite") == 0
    assert (tmp_path / "mine.sqlite").stat().st_size > 0 and not (tmp_path / "cache").exists()
    assert doctor(photos) == 0
    assert len(list((tmp_path / "cache").rglob("*.sqlite"))) == 1


def test_a_terminal_shows_the_progress(photos, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert doctor(photos) == 0
    assert "images: 100%" in terminal.getvalue() and "12/12" in terminal.getvalue()


@pytest.mark.parametrize("call, reason", [
    (["no/such/place"], "is neither a folder, a CSV file nor the name of a data set"),
    (["PHOTOS", "--weights", "w.pth"], "--model is missing"),
    (["PHOTOS", "--html", "PHOTOS"], "is a folder, expected a file such as doctor.html"),
    (["PHOTOS", "--model", "nobody"], 'there is no folder "nobody" of a run'),
    (["PHOTOS", "--layout", "{pid}/{nobody}"], "{nobody}"),
])
def test_a_wrong_argument_is_one_sentence_before_any_work(call, reason, photos, capsys, monkeypatch):
    monkeypatch.setattr(scan, "measure", lambda path: pytest.fail("decoded"))
    assert reason in refused(capsys, "doctor", *(str(photos) if word == "PHOTOS" else word for word in call))


def test_a_wrong_number_of_workers_is_refused(photos, capsys):
    assert "--workers" in refused(capsys, "doctor", photos, "--workers", "many")
