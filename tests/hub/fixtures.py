"""What the tests of hub and zoo share: a home of their own, entries of their own, a server."""
from __future__ import annotations

import hashlib

import pytest
import torch
import yaml
from hub.file_server import CERTIFICATE, serving
from recipe import recipe_state
from zoo.authors import as_file

from torchreid_nas.hub import download as download_module


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty zoo home, nothing of the user's, and no pauses between attempts."""
    for name in ("TORCHREID_NAS_ZOO", "TORCHREID_NAS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCHREID_NAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download_module, "PAUSE", 0.0)
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with serving() as state:
        yield state


@pytest.fixture(scope="session")
def small_file() -> bytes:
    """A checkpoint of 40 kB, nobody's layout."""
    return as_file({"weight": torch.arange(10_000, dtype=torch.float32)})


@pytest.fixture(scope="session")
def cdnet_file() -> bytes:
    """A checkpoint in the layout of the CDNet authors with the golden recipe's weights, ten identities."""
    return as_file({f"module.{key}": value for key, value in recipe_state("cdnet_fblneck").items()})


ENTRY = {
    "name": "test_entry", "model": "cdnet", "architecture": "cdnet", "dataset": "market1501", "modality": "visible",
    "feature_dim": 768, "height": 64, "width": 32, "format": "cdnet_authors", "licence": "for tests",
    "source": {"kind": "url", "url": "https://127.0.0.1:1/weights.pth"}, "options": {"neck": "fblneck"},
}


@pytest.fixture
def add_entry(tmp_path, monkeypatch):
    """``add_entry(**changes)``: put an entry into the user's zoo; a key set to ``...`` is left out."""

    def add(**changes):
        content = {key: value for key, value in {**ENTRY, **changes}.items() if value is not ...}
        folder = tmp_path / "user_zoo"
        folder.mkdir(exist_ok=True)
        path = folder / f"{content.get('name')}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        monkeypatch.setenv("TORCHREID_NAS_ZOO", str(folder))
        return path

    return add


@pytest.fixture
def served(server, add_entry):
    """``served(content, **changes)``: an entry whose file the server gives, with its right checksum."""

    def add(content, **changes):
        server.content = content
        checksum = {"git_blob": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
        add_entry(**{"source": {"kind": "url", "url": server.url}, "checksum": checksum, **changes})
        return server

    return add
