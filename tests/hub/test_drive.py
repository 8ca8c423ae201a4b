"""Google Drive through a stub of gdown: listings, quota pages, interrupted files, and torchreid's own loader."""
from __future__ import annotations

import collections
from pathlib import Path

import gdown
import pytest
import torch
import torchreid

from torchreid_nas import zoo
from torchreid_nas.errors import InputError
from torchreid_nas.hub import drive
from torchreid_nas.hub.store import fetch_architecture

File = collections.namedtuple("File", "id path local_path")
SOURCE = {"kind": "drive", "folder": "FOLDER", "pattern": "*trial1/*.pth.tar"}
QUOTA = gdown.exceptions.FileURLRetrievalError(
    "Failed to retrieve file url:\n\n\tToo many users have viewed or downloaded this file recently. Please\n\ttry "
    "accessing the file again later.\n\nYou may still be able to access the file from the browser"
)


@pytest.fixture
def stub(monkeypatch):
    """gdown with a folder of ``stub.files`` (path to content); an exception in the place of a content is raised."""
    state = type("Stub", (), {"files": {}, "folder_error": None, "asked": []})()

    def download_folder(id, **options):
        assert options["skip_download"] and not options["use_cookies"]
        state.asked.append(id)
        if state.folder_error is not None:
            raise state.folder_error
        return [File(f"id of {path}", path, path) for path in state.files]

    def download(id, output, **options):
        content = state.files[id.removeprefix("id of ")]
        if isinstance(content, Exception):
            raise content
        if content is not None:
            Path(output).write_bytes(content)
        return output if content is not None else None

    monkeypatch.setattr(gdown, "download_folder", download_folder)
    monkeypatch.setattr(gdown, "download", download)
    return state


def refusal(name="test_entry"):
    with pytest.raises(InputError) as error:
        zoo.fetch(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_one_file_that_fits_is_taken_and_its_sha256_kept(stub, add_entry, small_file, home):
    add_entry(source=SOURCE)
    stub.files = {
        "trial10/checkpoint120.pth.tar": b"ten", "trial1/checkpoint120.pth.tar": small_file, "trial1/log.txt": b"",
    }
    assert zoo.fetch("test_entry").read_bytes() == small_file and stub.asked == ["FOLDER"]
    assert sorted(path.suffix for path in home.glob("test_entry*")) == [".pth", ".sha256"]


def test_a_full_quota_says_what_to_do_by_hand(stub, add_entry, home):
    add_entry(source=SOURCE)
    stub.files = {"trial1/checkpoint120.pth.tar": QUOTA}
    message = refusal()
    assert 'does not give "trial1/checkpoint120.pth.tar"' in message and "Too many users have viewed" in message
    assert "https://drive.google.com/drive/folders/FOLDER in a browser" in message
    assert str(home / "test_entry.pth") in message


def test_an_older_gdown_that_returns_nothing_is_understood(stub, add_entry):
    add_entry(source=SOURCE)
    stub.files = {"trial1/checkpoint120.pth.tar": None}
    assert "quota may be used up" in refusal()


def test_a_quota_page_saved_as_the_file_is_not_taken(stub, add_entry, home):
    add_entry(source=SOURCE)
    stub.files = {"trial1/c.pth.tar": b"<!doctype html><html><head><title>Google Drive - Quota exceeded</title>"}
    assert "is a web page, not the weights" in refusal()
    assert not list(home.glob("test_entry.pth*"))


@pytest.mark.parametrize(("files", "says"), [
    ({}, "holds no file that fits \"*trial1/*.pth.tar\" (it holds nothing)"),
    ({"weights/a.pth": b""}, "(it holds weights/a.pth)"),
    ({"trial1/a.pth.tar": b"", "trial1/b.pth.tar": b""}, "holds 2 files that fit"),
])
def test_a_folder_with_another_listing_names_what_it_holds(stub, add_entry, files, says):
    add_entry(source=SOURCE)
    stub.files = files
    assert says in refusal()


def test_a_folder_that_is_not_shown(stub, add_entry):
    add_entry(source=SOURCE)
    stub.folder_error = gdown.exceptions.DownloadError("Failed to retrieve folder contents for FOLDER (404).")
    assert "Google Drive does not show the folder FOLDER (Failed to retrieve" in refusal()


def test_gdown_is_asked_to_go_on_where_it_broke_off(stub, monkeypatch, tmp_path):
    stub.files, options = {"a.pth": b"x"}, {}
    monkeypatch.setattr(gdown, "download", lambda id, output, **more: options.update(more) or Path(output).touch())
    drive.download_from_folder("FOLDER", "*.pth", tmp_path / "part")
    assert options["resume"] is True


# -- the searched configurations ----------------------------------------------


def test_the_architecture_of_an_entry_comes_from_its_own_folder(stub, add_entry, home):
    source = {**SOURCE, "architecture_folder": "CONFIGS", "architecture_pattern": "*regdb*config.cfg"}
    add_entry(source=source)
    stub.files = {"sysu/config.cfg": b"1 " * 53, "regdb/config.cfg": b"0 " + b"1 " * 52 + b"\n"}
    path = fetch_architecture(zoo.find_entry("test_entry"))
    assert path == home / "test_entry.cfg" and path.read_text().split().count("0") == 1
    assert stub.asked == ["CONFIGS"]
    assert fetch_architecture(zoo.find_entry("test_entry")) == path and stub.asked == ["CONFIGS"]


def test_an_architecture_that_is_none_is_refused(stub, add_entry, home):
    add_entry(source={**SOURCE, "architecture_folder": "CONFIGS", "architecture_pattern": "*.cfg"})
    stub.files = {"config.cfg": b"<html>"}
    with pytest.raises(InputError, match="more than the authors' list of 0 and 1.*CONFIGS in a browser"):
        fetch_architecture(zoo.find_entry("test_entry"))
    assert not list(home.glob("*.cfg*"))


# -- torchreid's loader -------------------------------------------------------


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return tmp_path / "torch"


def test_torchreids_weights_come_by_its_own_loader_and_stay_in_its_cache(stub, monkeypatch, torch_home):
    torch.manual_seed(1)
    theirs = torchreid.models.build_model("osnet_x0_25", 1000, pretrained=False, use_gpu=False)
    monkeypatch.setattr(gdown, "download", lambda url, path, **options: torch.save(theirs.state_dict(), path))
    path = zoo.fetch("osnet_x0_25")
    assert path == torch_home / "checkpoints" / "osnet_x0_25_imagenet.pth"
    model = zoo.build("osnet_x0_25")
    assert not model.training and all(
        torch.equal(value, theirs.state_dict()[key]) for key, value in model.state_dict().items()
    )


def test_what_torchreids_loader_cannot_get_says_so(stub, monkeypatch, torch_home):
    def quota(*_, **__):
        raise QUOTA

    monkeypatch.setattr(gdown, "download", quota)
    message = refusal("osnet_x0_25")
    assert "torchreid's loader fails (Failed to retrieve file url:)" in message
    assert str(torch_home / "checkpoints" / "osnet_x0_25_imagenet.pth") in message
