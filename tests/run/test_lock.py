"""One process at a time writes into the folder of a run."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.lock import hold

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import os, sys, time
from pathlib import Path

# Under this name the package leaves torch alone.
sys.argv[0] = "torchreid-nas"
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.lock import hold

with hold(RunFolder(Path(sys.argv[1]))):
    if len(sys.argv) > 2 and not os.fork():
        # A loader process that outlives its parent for a while.
        time.sleep(2)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "run")


def holding(folder, *more):
    """Start a process that holds the folder, and return it once it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_told_who_holds_the_folder(folder):
    process = holding(folder)
    try:
        since = json.loads(folder.holder.read_text())["since"]
        with pytest.raises(InputError) as error, hold(folder):
            pass
    finally:
        process.kill()
        process.wait()
    assert f'"{folder}" is in use by process {process.pid} on {socket.gethostname()} since {since}; wait' in str(error.value)
    assert json.loads(folder.holder.read_text())["pid"] == process.pid


@pytest.mark.parametrize("orphan", [[], ["with a child"]])
def test_the_lock_of_a_killed_process_does_not_block(folder, orphan):
    process = holding(folder, *orphan)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold(folder):
        assert json.loads(folder.holder.read_text())["pid"] == os.getpid()


def test_another_thread_of_the_same_process_is_refused(folder):
    said = []

    def second():
        try:
            with hold(folder):
                said.append("held")
        except InputError as error:
            said.append(str(error))

    with hold(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(said) == 1 and f"in use by process {os.getpid()}" in said[0]


def test_the_same_thread_may_hold_the_folder_again(folder):
    with hold(folder), hold(RunFolder(folder.path.parent / "." / "run")):
        assert folder.holder.exists()
    assert not folder.holder.exists()


def test_a_block_that_writes_nothing_leaves_no_folder(folder):
    with pytest.raises(InputError), hold(folder):
        raise InputError("refused")
    assert not folder.path.parent.exists()


def test_a_block_that_writes_keeps_the_folder_and_gives_it_free(folder):
    with hold(folder):
        folder.config.write_text("kept")
    assert folder.config.read_text() == "kept" and not folder.holder.exists()
    with hold(folder):
        assert folder.config.exists()


def test_a_file_system_without_locks_is_a_warning(folder, monkeypatch, caplog):
    def none(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("torchreid_nas.run.lock.FileLock.acquire", none)
    with hold(folder):
        assert folder.holder.exists()
    assert "No locks available" in caplog.text
