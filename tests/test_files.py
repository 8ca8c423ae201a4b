"""Files: the old one or the new one, never a part; and nothing unpickled blindly."""
from __future__ import annotations

import errno
import math
import os
import resource
import zipfile

import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path, check_folder, load_checkpoint, read_json, save_checkpoint, write_json, write_text


class Custom:
    """An object that only an unrestricted unpickler would make."""


@pytest.fixture
def small_disk():
    """No file of this process grows beyond 64 KiB: the writes of a full disk, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- writing ------------------------------------------------------------------


def test_a_block_that_succeeds_leaves_exactly_the_new_file(tmp_path):
    path = tmp_path / "a" / "b" / "figure.png"
    with atomic_path(path) as temporary:
        # Same folder (a rename there is atomic), same suffix (libraries choose a format by it).
        assert temporary.parent == path.parent and temporary.suffix == ".png" and temporary != path
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and os.listdir(path.parent) == ["figure.png"]


def test_the_data_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    path, calls = tmp_path / "a.txt", []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    write_text(path, "x")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("a bug"), RuntimeError("a bug")])
def test_a_block_that_raises_leaves_the_old_file_and_its_own_exception(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(failure)) as error, atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise failure
    assert error.value is failure
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_disk_that_fills_up_on_the_way_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "results.json"
    write_json(path, {"rank1": 1})
    monkeypatch.setattr(os, where, no_space)
    with pytest.raises(InputError, match="could not be written .No space left on device.*unchanged") as error:
        write_json(path, {"rank1": 2})
    assert str(path) in str(error.value)
    assert read_json(path) == {"rank1": 1} and os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("state", [
    {"w": torch.zeros(100_000)},
    {"w": [torch.zeros(100) for _ in range(500)]},
], ids=["one large tensor", "many small ones"])
def test_a_checkpoint_that_outgrows_the_disk_leaves_the_old_one(tmp_path, small_disk, state):
    path = tmp_path / "checkpoint.pth"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(InputError, match="could not be written .File too large.*free space or choose another") as error:
        save_checkpoint(path, state)
    assert str(path) in str(error.value)
    assert load_checkpoint(path) == {"epoch": 1} and os.listdir(tmp_path) == ["checkpoint.pth"]


def test_a_text_that_outgrows_the_disk_leaves_the_old_one(tmp_path, small_disk):
    path = tmp_path / "history.jsonl"
    write_text(path, "old")
    with pytest.raises(InputError, match="could not be written .File too large"):
        write_text(path, "x" * 100_000)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["history.jsonl"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    path = tmp_path / "runs" / "a.txt"
    with pytest.raises(InputError, match="could not be written") as error:
        write_text(path, "x")
    assert str(path) in str(error.value)


# -- JSON ---------------------------------------------------------------------


def test_json_round_trip(tmp_path):
    value = {"mAP": 0.25, "names": ["größe"], "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"tensor": torch.zeros(1)})
    assert read_json(tmp_path / "a.json") == 1 and os.listdir(tmp_path) == ["a.json"]


def test_unreadable_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_json(path)
    path.write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(InputError, match="line 2 is not valid JSON") as error:
        read_json(path)
    assert str(path) in str(error.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(path)


def test_a_folder_that_cannot_be_made_is_named_and_leaves_nothing(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    for folder in (file, file / "run", file / "runs" / "run"):
        with pytest.raises(InputError, match="--output: the folder .* cannot be made .*name another") as error:
            check_folder(folder, "--output")
        assert str(folder) in str(error.value)
    check_folder(tmp_path / "runs" / "run", "--output")
    check_folder(tmp_path, "--output")
    assert os.listdir(tmp_path) == ["file"] and file.read_text() == "kept"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Whoever may write everywhere, as root in a container, is asked in the place of somebody else."""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(InputError, match=f'--out: the folder "{tmp_path}" cannot be written; name another folder'):
        check_folder(tmp_path, "--out")


# -- checkpoints --------------------------------------------------------------


def test_checkpoint_round_trip_with_an_optimisers_state(tmp_path):
    weight = torch.nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    state = {"w": weight.detach(), "optimizer": optimizer.state_dict(), "best": float("-inf")}
    save_checkpoint(tmp_path / "c.pth", state)
    state = load_checkpoint(tmp_path / "c.pth")
    assert torch.equal(state["w"], weight.detach()) and state["best"] == float("-inf")
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_missing_checkpoint_is_named(tmp_path):
    cases = ((tmp_path / "absent.pth", "does not exist; check the path"), (tmp_path, "is a folder, expected a file"))
    for path, message in cases:
        with pytest.raises(InputError, match=message) as error:
            load_checkpoint(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_named_with_its_size(tmp_path, kept):
    path = tmp_path / "c.pth"
    save_checkpoint(path, {"w": torch.zeros(1000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="truncated, damaged or no PyTorch file; download or save it again") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and f"{path.stat().st_size:,} bytes" in str(error.value)


@pytest.mark.parametrize("content", [
    b"<html>404 Not Found</html>\n", b"\x00" * 64, b"hello", b"\x80\x02}q\x00.", b"\x80\x02.", b"PK\x03\x04",
    b"PK\x05\x06" + b"\x00" * 18,
])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "download.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated, damaged or no PyTorch file") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_python_objects_is_refused_as_such(tmp_path, zipped):
    path = tmp_path / "theirs.pth"
    torch.save({"model": {"w": torch.zeros(2)}, "args": Custom()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="Python objects beside tensors, which could run code") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)


def test_the_older_format_of_torch_loads(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_checkpoint(tmp_path / "old.pth")["w"], torch.ones(2))


def test_any_flipped_bit_of_a_tensor_or_a_number_is_found(tmp_path):
    path = tmp_path / "c.pth"
    state = {"w": torch.arange(500.0), "epoch": 3}
    save_checkpoint(path, state)
    content = path.read_bytes()
    inside = zipfile.ZipFile(path).getinfo("archive/data/0")
    data = content.index(state["w"].numpy().tobytes())
    for position in (data, data + inside.file_size - 1, data + 777, content.index(b"epoch")):
        for bit in (0, 3, 7):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(InputError, match="truncated, damaged or no PyTorch file"):
                load_checkpoint(path)


def test_a_checkpoint_saved_without_checksums_loads(tmp_path):
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("before torch 2.6 files always have checksums")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(2)}, tmp_path / "c.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_checkpoint(tmp_path / "c.pth")["w"], torch.ones(2))


def test_a_checkpoint_that_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(InputError, match="is no regular file, expected a file"):
        load_checkpoint(tmp_path / "pipe.pth")
    with pytest.raises(InputError, match=r"does not exist; check the path") as error:
        load_checkpoint("x" * 5000)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_no_file_of_json_gets_a_number_that_json_has_no_word_for(tmp_path, number):
    write_json(tmp_path / "results.json", {"mAP": 1})
    with pytest.raises(InputError, match="results.json.* was not written: a number in it is not finite"):
        write_json(tmp_path / "results.json", {"mAP": number})
    assert read_json(tmp_path / "results.json") == {"mAP": 1}


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a": ' * 50_000])
def test_json_of_any_depth_or_size_is_one_sentence(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_another_process_than_the_first_names_the_files_of_a_cache_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("torchreid_nas.distributed.rank", lambda: 1)
    write_text(tmp_path / "history.jsonl", "{}")
    with atomic_path(tmp_path / "images.npy", by_all=True) as temporary:
        temporary.write_bytes(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]
