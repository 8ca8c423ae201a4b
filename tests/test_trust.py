"""Files of strangers: none runs code, and none claims more memory than it is worth."""
from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
import yaml

from torchreid_nas.config import load_config
from torchreid_nas.data.reading import read_image
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.archive import read_arrays
from torchreid_nas.features import FeatureSet
from torchreid_nas.files import load_checkpoint
from torchreid_nas.hub.catalogue import list_entries


class Attack:
    """A value whose unpickling makes a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def mark(tmp_path):
    """The file that an attack makes."""
    return tmp_path / "code_has_run"


def test_the_attack_works_where_a_file_is_unpickled(mark):
    pickle.loads(pickle.dumps(Attack(mark))).close()
    assert mark.exists()


def as_yaml(attack: Attack) -> str:
    return f"!!python/object/apply:builtins.open ['{attack.path}', 'w']"


def arrays(path):
    with read_arrays(path, "nothing is known") as found:
        return {name: found[name] for name in found}


def zoo(path, monkeypatch):
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(path))
    return list_entries()


WAYS = {
    "checkpoint": (lambda path, attack: torch.save({"model": attack}, path), load_checkpoint),
    "checkpoint of the older format": (
        lambda path, attack: torch.save({"model": attack}, path, _use_new_zipfile_serialization=False), load_checkpoint,
    ),
    "plain pickle": (lambda path, attack: path.write_bytes(pickle.dumps(attack)), load_checkpoint),
    "features": (lambda path, attack: np.savez(path, features=np.array([attack], dtype=object)), FeatureSet.load),
    "scores": (lambda path, attack: np.savez(path, index=np.array([attack], dtype=object)), arrays),
    "config": (lambda path, attack: path.write_text(f"train:\n  lr: {as_yaml(attack)}\n"), load_config),
    "config as a whole": (lambda path, attack: path.write_text(as_yaml(attack)), load_config),
    "override": (
        lambda path, attack: path.write_text(f"open('{attack.path}', 'w')"),
        lambda path: load_config(None, ["train.lr", path.read_text()]),
    ),
}


@pytest.mark.parametrize("write, read", WAYS.values(), ids=WAYS)
def test_a_file_with_code_is_refused_and_the_code_never_runs(write, read, mark, tmp_path):
    path = tmp_path / "theirs.npz"
    write(path, Attack(mark))
    with pytest.raises(InputError) as error:
        read(path)
    assert "\n" not in str(error.value) and not mark.exists()


def test_a_zoo_file_with_code_is_refused_and_the_code_never_runs(mark, tmp_path, monkeypatch):
    (tmp_path / "zoo.yaml").write_text(f"name: {as_yaml(Attack(mark))}\n")
    with pytest.raises(InputError, match=r"zoo\.yaml"):
        zoo(tmp_path / "zoo.yaml", monkeypatch)
    assert not mark.exists()


ENTRY = {
    "name": "mine", "model": "cdnet", "architecture": "cdnet", "dataset": "market1501", "modality": "visible",
    "feature_dim": 768, "height": 64, "width": 32, "format": "ours", "licence": "for tests",
    "source": {"kind": "url", "url": "https://127.0.0.1:1/weights.pth"},
}


@pytest.mark.parametrize("changes", [
    {"file": "../weights.pth"}, {"file": "/etc/weights.pth"}, {"file": ".."}, {"file": "a/../../weights.pth"},
    {"name": "../mine"}, {"name": "a/b"}, {"name": ".."}, {"name": "."},
], ids=str)
def test_a_name_in_a_zoo_file_never_leaves_its_folder(changes, tmp_path, monkeypatch):
    from torchreid_nas.hub.store import home, path_of

    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({**ENTRY, **changes}))
    try:
        entry = next(entry for entry in zoo(tmp_path / "zoo.yaml", monkeypatch) if entry.origin == str(tmp_path / "zoo.yaml"))
    except InputError:
        return
    assert path_of(entry).resolve().parent == home().resolve()


@pytest.mark.parametrize("cached", ["../weights.pth", "/etc/weights.pth", ".."])
def test_the_name_in_torchreids_cache_never_leaves_the_cache(cached, tmp_path, monkeypatch):
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({**ENTRY, "source": {"kind": "torchreid", "cached": cached}}))
    with pytest.raises(InputError, match=f"source.cached.*'{cached}', expected a file's name without folder"):
        zoo(tmp_path / "zoo.yaml", monkeypatch)


# -- sizes ----------------------------------------------------------------------


def header(shape) -> bytes:
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return text.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 512), (10**7, 512), (2**62, 2**62)], ids=str)
@pytest.mark.parametrize("read", [FeatureSet.load, arrays], ids=["features", "scores"])
def test_a_header_of_an_array_that_is_not_there_is_one_sentence(shape, read, tmp_path):
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("features.npy", header(shape) + bytes(64))
    with pytest.raises(InputError, match=r"f\.npz") as error:
        read(tmp_path / "f.npz")
    assert "\n" not in str(error.value)


def test_a_checkpoint_whose_tensor_is_not_there_is_one_sentence(tmp_path):
    torch.save({"w": torch.zeros(1024, 1024)}, whole := io.BytesIO())
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        for name in given.namelist():
            archive.writestr(name, bytes(64) if name.endswith("data/0") else given.read(name))
    with pytest.raises(InputError, match="truncated, damaged"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("read", [FeatureSet.load, arrays, load_checkpoint], ids=["features", "scores", "checkpoint"])
def test_an_archive_that_unpacks_to_far_more_than_it_is_is_never_unpacked(read, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "f.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", header((2**10, 2**10)) + bytes(2**22))
    monkeypatch.setattr("torchreid_nas.files._SMALL_ARCHIVE", 2**20)
    monkeypatch.setattr(np, "load", None)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(InputError, match="unpacks to 4,194,.* bytes, more than 100 times its size; get the file from"):
        read(tmp_path / "f.npz")


def test_an_image_of_a_giant_size_is_one_sentence_and_never_decoded(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "giant.png").write_bytes(content)
    with pytest.raises(InputError, match="giant.png.*DecompressionBombError") as error:
        read_image(tmp_path / "giant.png")
    assert "\n" not in str(error.value)


def test_an_image_that_another_program_would_draw_is_no_image(tmp_path):
    path = tmp_path / "0001_c1s1_000001_00.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(InputError, match="000001_00.jpg.*UnidentifiedImageError"):
        read_image(path)
