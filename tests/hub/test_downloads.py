"""Downloads from a server that breaks off, lies, moves, refuses, or sends a page; and what lies here afterwards."""
from __future__ import annotations

import concurrent.futures
import hashlib
import os

import pytest

from torchreid_nas import zoo
from torchreid_nas.errors import InputError
from torchreid_nas.files import file_digest
from torchreid_nas.hub import download as download_module
from torchreid_nas.hub.errors import DownloadFailed


def refusal(name="test_entry", **options):
    with pytest.raises(InputError) as error:
        zoo.fetch(name, **options)
    return str(error.value)


def files(folder):
    """Names in a folder, locks aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


def test_a_file_arrives_once_and_is_checked(served, small_file, home):
    server = served(small_file)
    path = zoo.fetch("test_entry")
    assert path == home / "test_entry.pth" and path.read_bytes() == small_file
    assert files(home) == ["test_entry.pth"]
    assert zoo.fetch("zoo:test_entry") == path and len(server.requests) == 1
    assert "git_blob" in zoo.verify("test_entry")


def test_a_download_that_breaks_off_is_continued_within_the_command(served, small_file, home):
    server = served(small_file)
    server.script = ["cut 1000", "cut 5000"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert ranges == [None, "bytes=1000-", "bytes=6000-"]
    assert files(home) == ["test_entry.pth"]


def test_a_download_that_never_gets_on_leaves_its_part_to_the_next_command(served, small_file, home):
    server = served(small_file)
    server.script = ["cut 3000", *["cut 0"] * 4]
    message = refusal()
    assert "broke off" in message and "3,000 bytes have arrived" in message and "goes on from there" in message
    assert str(home / "test_entry.pth") in message and server.url in message
    assert files(home) == ["test_entry.pth.part", "test_entry.pth.part.json"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    assert server.requests[-1][1]["Range"] == "bytes=3000-"


def test_a_server_that_ignores_ranges_gives_the_whole_file_anew(served, small_file):
    server = served(small_file)
    server.script = ["cut 3000", "ignore range"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    assert "Range" in server.requests[1][1]


def test_a_part_of_an_older_version_is_not_continued(served, small_file, home):
    server = served(small_file)
    server.script = ["cut 3000", *["cut 0"] * 4]
    refusal()
    server.version = '"two"'
    (home / "test_entry.pth.part").write_bytes(b"x" * 3000)
    assert zoo.fetch("test_entry").read_bytes() == small_file


def test_without_a_mark_of_the_version_nothing_is_continued(served, small_file):
    server = served(small_file)
    server.version = ""
    server.script = ["cut 3000"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    assert [headers.get("Range") for _, headers in server.requests] == [None, None]


def test_a_damaged_part_costs_one_download_more_and_no_error(served, small_file, home):
    server = served(small_file)
    server.script = ["cut 3000", *["cut 0"] * 4]
    refusal()
    (home / "test_entry.pth.part").write_bytes(b"x" * 3000)
    assert zoo.fetch("test_entry").read_bytes() == small_file
    assert [headers.get("Range") for _, headers in server.requests[-2:]] == ["bytes=3000-", None]


def test_a_part_that_is_whole_already_is_taken(served, small_file, home):
    server = served(small_file)
    server.script = [f"cut {len(small_file)}"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    (home / "test_entry.pth").unlink()
    server.script = ["cut 3000", *["cut 0"] * 4]
    refusal()
    (home / "test_entry.pth.part").write_bytes(small_file)
    assert zoo.fetch("test_entry").read_bytes() == small_file


def test_a_server_that_announces_too_much_is_believed_by_checksum_only(served, small_file):
    server = served(small_file)
    server.script = ["too long"] * 9
    assert zoo.fetch("test_entry").read_bytes() == small_file


def test_a_server_that_announces_too_little_gives_no_file(served, small_file, home):
    server = served(small_file)
    server.script = ["too short"]
    message = refusal()
    assert "git_blob" in message and "arrived damaged" in message and "by hand" in message
    assert files(home) == []


def test_redirects_are_followed(served, small_file):
    server = served(small_file)
    server.script = ["redirect", "redirect"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    assert [path for path, _ in server.requests] == ["/weights.pth", "/moved/1", "/moved/2"]


def test_redirects_without_end_are_an_error(served, small_file):
    server = served(small_file)
    server.script = ["redirect"] * 40
    assert "redirects without end" in refusal()


@pytest.mark.parametrize(("script", "says", "requests"), [
    (["status 403"], "refuses it (status 403)", 1),
    (["status 404"], "no longer has it (status 404)", 1),
    (["status 500"] * 9, "is in trouble (status 500)", 4),
    (["html"], "sent a web page instead of the file", 1),
    (["disguised html"], "sent a web page instead of the file", 1),
])
def test_what_is_refused_says_what_to_do_by_hand_and_where_to_put_it(served, small_file, home, script, says, requests):
    server = served(small_file)
    server.script = list(script)
    message = refusal()
    assert says in message and message.count("\n") == 0
    assert f'open {server.url} in a browser and put the file at "{home / "test_entry.pth"}"' in message
    assert len(server.requests) == requests
    assert files(home) == []
    server.script = []
    assert zoo.fetch("test_entry").read_bytes() == small_file


def test_a_server_that_recovers_is_asked_again_and_that_is_said(served, small_file, caplog):
    server = served(small_file)
    server.script = ["status 500", "status 503", "status 429"]
    assert zoo.fetch("test_entry").read_bytes() == small_file
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and "is in trouble (status 500); trying again in 0 s (3 of 4 attempts are left)" in said[0]


@pytest.mark.parametrize("size", [4000, None])
def test_a_server_without_end_does_not_fill_the_disk(served, small_file, home, size, monkeypatch):
    monkeypatch.setattr(download_module, "MOST", 1 << 20)
    server = served(small_file, size=size)
    server.script = ["endless"]
    assert f"sends more than the {size or 1 << 20:,} bytes that were expected" in refusal()
    assert files(home) == []


@pytest.mark.parametrize("address", [
    "http://127.0.0.1/weights.pth", "ftp://127.0.0.1/weights.pth", "file:///etc/hostname", "javascript:x",
])
def test_a_redirect_to_another_protocol_is_refused_and_named(served, small_file, home, address):
    server = served(small_file)
    server.script = [f"redirect to {address}"]
    assert f'redirects to "{address}", expected an address with https://' in refusal()
    assert files(home) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1/w.pth", "file:///etc/hostname", "ftp://127.0.0.1/w.pth", "/etc/hostname"])
def test_an_address_without_https_is_neither_an_entry_nor_asked(add_entry, tmp_path, address):
    add_entry(source={"kind": "url", "url": address})
    assert f"sets \"source.url\" to '{address}', expected an address with https://" in refusal()
    with pytest.raises(DownloadFailed, match="expected one with https://"):
        download_module.download(address, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_server_whose_certificate_nobody_signed_gives_nothing(served, small_file, home, monkeypatch):
    server = served(small_file)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "cannot be reached" in refusal()
    assert server.requests == [] and files(home) == []


@pytest.mark.parametrize("address", ["https://[::1/x", "https://127.0.0.1:port/x"])
def test_a_redirect_to_no_address_is_one_sentence(served, small_file, address):
    server = served(small_file)
    server.script = [f"redirect to {address}"]
    assert "\n" not in refusal()


@pytest.mark.parametrize("length", ["\xb2", "many", "-5", "9" * 5000])
def test_a_length_that_is_no_number_is_not_believed(served, small_file, length):
    server = served(small_file)
    server.script = [f"header {length}"]
    assert zoo.fetch("test_entry").read_bytes() == small_file


@pytest.mark.parametrize("marks", ["[]", "5", "{", '{"url": 5, "version": []}', "[" * 5000, "\xff"])
def test_marks_of_a_part_that_say_nothing_begin_anew(served, small_file, home, marks):
    server = served(small_file)
    home.mkdir()
    (home / "test_entry.pth.part").write_bytes(small_file[:100])
    (home / "test_entry.pth.part.json").write_text(marks, encoding="latin-1")
    assert zoo.fetch("test_entry").read_bytes() == small_file
    assert "Range" not in server.requests[0][1]


def test_nobody_answers(add_entry):
    add_entry()
    assert "the server 127.0.0.1:1 cannot be reached" in refusal()


def test_a_changed_file_is_not_taken(served, small_file, home):
    server = served(small_file)
    server.content = small_file + b"more"
    message = refusal()
    assert f"what came from {server.url} is not the file of the zoo entry" in message and "expected" in message
    assert files(home) == []


def test_another_size_than_the_entry_says_is_named(served, small_file):
    served(small_file, checksum=None, size=len(small_file) + 1)
    assert f"has {len(small_file):,} bytes, the zoo entry \"test_entry\" has {len(small_file) + 1:,}" in refusal()


def test_without_a_checksum_the_first_download_is_recorded_and_held_to(served, small_file, home):
    server = served(small_file, checksum=None)
    path = zoo.fetch("test_entry")
    digest = hashlib.sha256(small_file).hexdigest()
    assert (home / "test_entry.pth.sha256").read_text() == f"{digest}  test_entry.pth\n"
    assert "as at the first download" in zoo.verify("test_entry")
    path.unlink()
    server.content = small_file.replace(b"\0\0\x80\x3f", b"\0\0\x80\x40")
    message = refusal()
    assert "brought here first" in message and str(home / "test_entry.pth.sha256") in message
    (home / "test_entry.pth.sha256").unlink()
    assert zoo.fetch("test_entry").read_bytes() == server.content


def test_without_a_checksum_a_truncated_archive_is_still_seen(served, small_file, home):
    server = served(small_file, checksum=None)
    server.script = ["too short"]
    assert "truncated or no PyTorch file" in refusal()
    assert files(home) == []


def test_a_file_put_there_by_hand_is_checked_too(served, small_file, home):
    server = served(small_file)
    home.mkdir()
    (home / "test_entry.pth").write_bytes(small_file[:-1])
    assert "is not the file of the zoo entry" in refusal()
    (home / "test_entry.pth").write_text("<html><title>Sign in</title></html>")
    assert "is a web page" in refusal()
    (home / "test_entry.pth").write_bytes(small_file)
    assert zoo.fetch("test_entry").exists() and server.requests == []


def test_a_folder_that_cannot_be_made_is_named(served, small_file, tmp_path, monkeypatch):
    served(small_file)
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHREID_NAS_HOME", str(tmp_path / "file" / "home"))
    assert "cannot be written" in refusal() and "name another folder by TORCHREID_NAS_HOME" in refusal()


@pytest.mark.parametrize("by_variable", [True, False])
def test_offline_nothing_is_asked(served, small_file, home, monkeypatch, by_variable):
    server = served(small_file)
    if by_variable:
        monkeypatch.setenv("TORCHREID_NAS_OFFLINE", "1")
    message = refusal(offline=not by_variable)
    assert "downloads are off" in message and str(home / "test_entry.pth") in message and server.requests == []


def test_two_at_once_download_once(served, small_file):
    server = served(small_file)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(zoo.fetch, ["test_entry"] * 2))
    assert paths[0] == paths[1] and len(server.requests) == 1


def test_the_cache_is_that_of_torch_hub_unless_the_home_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHREID_NAS_HOME")
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    assert zoo.home() == tmp_path / "hub" / "checkpoints" / "torchreid_nas"


def test_a_git_blob_id_is_what_git_says(tmp_path):
    """The id of the file "hello\\n", which `git hash-object` gives."""
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert file_digest(tmp_path / "hello", "git_blob") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_pipe_or_a_folder_is_not_read_as_the_file_of_an_entry(served, small_file, tmp_path):
    served(small_file)
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", tmp_path):
        with pytest.raises(InputError, match="is no regular file, expected the file of the zoo entry"):
            zoo.verify("test_entry", path)
