"""Bad own images by the command line: one sentence, exit code 2, nothing written."""
from __future__ import annotations

import os
import shutil

import pytest
from commands import arguments, refused
from PIL import Image
from tiny import TINY_CDNET


def make(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16)).save(path)
    return folder


BAD = {
    "an empty folder": ([], None, "holds no image; check the path"),
    "a pattern that matches nothing": (["alice/1.png"], "{camid}/{pid}/{frame}", "none of the 1 images"),
    "a CSV without pid": (["a.png"], "path,camid\na.png,1\n", 'has no column "pid"'),
    "two rows with one path": (["a.png"], "path,pid\na.png,1\n./a.png,2\n", "which line 2 already does"),
    "ids that differ in case": (["Anna/1.png", "anna/2.png"], None, 'the persons "Anna" and "anna"'),
    "ids that differ in zeros": (["007/1.png", "7/2.png"], None, 'the persons "007" and "7"'),
}


@pytest.mark.parametrize("names, text, part", BAD.values(), ids=BAD)
def test_bad_own_images_are_one_sentence_for_import_show_and_run(tmp_path, capsys, names, text, part):
    source, layout = make(tmp_path / "photos", names), []
    source.mkdir(exist_ok=True)
    name = f"folder:{source}"
    if text and text.startswith("path"):
        (source / "all.csv").write_text(text)
        name = f"csv:{source / 'all.csv'}"
    elif text:
        layout = ["--layout", text]
    calls = [["data", "import", name, "--out", tmp_path / "out", *layout], ["data", "show", name, *layout]]
    keys = {"data.sources": name, "data.targets": name, "model.architecture": "cdnet"}
    keys |= {"data.layout": text} if layout else {}
    calls.append(arguments(TINY_CDNET, tmp_path, tmp_path / "run", "--stages", "train", **keys))
    for call in calls:
        error = refused(capsys, *call)
        assert part in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "run" / "train").exists()


def test_a_disk_that_cannot_be_listed_or_read_is_one_sentence(tmp_path, capsys, monkeypatch):
    source = make(tmp_path / "photos", [f"p{n}/cam{c}/1.png" for n in range(4) for c in range(2)])
    scandir, copyfile = os.scandir, shutil.copyfile

    def fails(works, path, *more):
        if "p3" in str(path):
            raise OSError(5, "Input/output error", str(path))
        return works(path, *more)

    call = ["data", "import", source, "--out", tmp_path / "out", "--as", "market1501"]
    monkeypatch.setattr(shutil, "copyfile", lambda path, target: fails(copyfile, path, target))
    assert 'p3/cam0/1.png" cannot be copied or written (Input/output error)' in refused(capsys, *call)
    monkeypatch.setattr(os, "scandir", lambda path: fails(scandir, path))
    assert 'p3" cannot be read (Input/output error)' in refused(capsys, *call)
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob("*"))
