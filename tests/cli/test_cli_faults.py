"""Faults of the machine and of the numbers: one sentence, the right exit code, and a run that goes on."""
from __future__ import annotations

import functools
import json
import os
import signal
import time

import commands
import pytest
import torch
from commands import refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.cli.faults import machine_fault
from torchreid_nas.engine import ResumableEngine
from torchreid_nas.run.folder import RunFolder

arguments = functools.partial(commands.arguments, TINY)
# Loader processes decode images only where nothing is cached.
WORKERS = {"data.workers": 1, "data.cache": "off"}


def training(data_root, folder, **changes):
    return arguments(data_root, folder, "--stages", "train", **{"model.architecture": "share", "train.max_epoch": 2, **changes})


def in_epoch(monkeypatch, epoch, fault):
    """Have ``fault`` happen in the second batch of an epoch."""
    original = ResumableEngine.learn

    def learn(self, loss):
        if self.epoch + 1 == epoch and self.batch_idx == 1:
            fault()
        return original(self, loss)

    monkeypatch.setattr(ResumableEngine, "learn", learn)


def out_of_memory():
    raise MemoryError


def allocator():
    torch.empty(2**62, dtype=torch.uint8)


def gpu_allocator():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize("fault", [out_of_memory, allocator, gpu_allocator])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_full_memory_is_one_sentence_and_the_run_goes_on(fault, epoch, data_root, tmp_path, capsys, monkeypatch):
    call = training(data_root, tmp_path / "run")
    with monkeypatch.context() as patch:
        in_epoch(patch, epoch, fault)
        assert main(call) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the memory is full; lower train.batch_size, test.batch_size or data.workers; "
        "the same command with --resume goes on from the last checkpoint"
    )
    assert main([*call, "--resume"]) == 0


def test_a_killed_loader_process_is_one_sentence_and_the_run_goes_on(data_root, tmp_path, capsys, monkeypatch):
    call = training(data_root, tmp_path / "run", **WORKERS)

    def kill_children():
        listed = f"/proc/self/task/{os.getpid()}/children"
        if not os.path.exists(listed):
            pytest.skip("needs Linux")
        children = [int(pid) for pid in open(listed).read().split()]
        commands_of = {pid: open(f"/proc/{pid}/cmdline").read() for pid in children}
        for pid in children:
            if "resource_tracker" not in commands_of[pid]:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)

    with monkeypatch.context() as patch:
        in_epoch(patch, 2, kill_children)
        assert main(call) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: a process that loads images was killed") and "lower data.workers; the same command" in error
    assert main([*call, "--resume"]) == 0


@pytest.fixture
def heard_interrupt():
    """Ctrl-C arrives; a shell makes the processes that it starts in the background deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupt")
@pytest.mark.parametrize("number, code, word", [
    (signal.SIGTERM, 143, "terminated: SIGTERM came after batch 2 of epoch 2, and the state is saved"),
    (signal.SIGUSR1, 143, "terminated: SIGUSR1 came after batch 2 of epoch 2, and the state is saved"),
    (signal.SIGINT, 130, "interrupted"),
])
def test_a_signal_ends_a_training_that_goes_on_to_the_same_weights(number, code, word, data_root, tmp_path, capsys, monkeypatch):
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    assert main(training(data_root, whole)) == 0
    with monkeypatch.context() as patch:
        in_epoch(patch, 2, lambda: os.kill(os.getpid(), number))
        assert main(training(data_root, stopped)) == code
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{word}; the same command with --resume goes on from the last checkpoint"
    )
    assert not stopped.holder.exists()
    assert main([*training(data_root, stopped), "--resume"]) == 0
    first, second = (torch.load(folder.train.weights, weights_only=True)["state_dict"] for folder in (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("error", [
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. Workers may be out of shared memory"),
    RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
    RuntimeError("unable to write to file </torch_7_1_0>: No space left on device (28)"),
    RuntimeError("unable to mmap 64 bytes from file </torch_7>: Cannot allocate memory (12)"),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
])
def test_what_torch_and_the_system_say_of_memory_is_understood(error):
    assert "lower" in machine_fault(error)
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = error
    assert machine_fault(wrapped) == machine_fault(error)
    assert machine_fault(ValueError(str(error))) is None


def test_an_error_of_the_code_keeps_its_traceback(data_root, tmp_path, monkeypatch):
    in_epoch(monkeypatch, 1, lambda: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        main(training(data_root, tmp_path / "run"))


# -- numbers that are not finite ------------------------------------------------

EXPLODES = {"train.lr": 1e30, "train.num_batches": 1, "train.warmup_epochs": 0, "train.ema": 0.0}


def test_weights_that_the_last_step_breaks_finish_no_stage(data_root, tmp_path, capsys):
    folder = RunFolder(tmp_path / "run")
    call = training(data_root, folder, **EXPLODES)
    call[call.index("train.max_epoch") + 1] = "1"
    for more in ([], ["--resume"]):
        error = refused(capsys, *call, *more)
        assert "are not finite after epoch 1; lower train.lr and start again in another folder; no epoch was finished" in error
        assert not folder.train.weights.exists() and not folder.train.checkpoint.exists()


def test_a_loss_that_breaks_says_what_is_kept(data_root, tmp_path, capsys, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    losses = ResumableEngine.record

    def broken(epoch):
        def record(self, values):
            factor = float("nan") if self.epoch + 1 == epoch else 1.0
            return losses(self, {name: value * factor for name, value in values.items()})
        return record

    with monkeypatch.context() as patch:
        patch.setattr(ResumableEngine, "record", broken(1))
        error = refused(capsys, *training(data_root, folder))
    assert "became nan in epoch 1; lower train.lr and start" in error and error.endswith("no epoch was finished\n")
    monkeypatch.setattr(ResumableEngine, "record", broken(2))
    error = refused(capsys, *training(data_root, folder), "--resume")
    assert "became nan in epoch 2" in error and error.endswith("the checkpoint of epoch 1 is kept\n")
    assert torch.load(folder.train.checkpoint, weights_only=True)["epoch"] == 1


def test_half_precision_is_named_only_where_it_is_used(data_root, tmp_path, capsys):
    error = refused(capsys, *training(data_root, tmp_path / "run", **EXPLODES, **{"train.amp": "bf16"}))
    assert "lower train.lr, or set train.amp none, and start again" in error


@pytest.mark.parametrize("interval", [1, 3])
def test_a_search_whose_architecture_breaks_finds_nothing(interval, data_root, tmp_path, capsys):
    # With interval 3 the only step of the architecture comes after the last loss.
    folder = RunFolder(tmp_path / "run")
    changes = {
        "search.method": "gradient", "search.arch_lr": 1e38, "search.max_epoch": 1, "search.warmup_epochs": 0,
        "search.interval": interval,
    }
    error = refused(capsys, *arguments(data_root, folder, **changes))
    assert "not finite" in error and "search.arch_lr and start again in another folder; no epoch was finished" in error
    assert not folder.is_searched() and not folder.train.path.exists()
    text = folder.search.history.read_text() if folder.search.history.exists() else ""
    assert "NaN" not in text and "Infinity" not in text


def test_weights_that_are_not_finite_are_not_tested(data_root, copied, capsys):
    weights = RunFolder(copied).train.weights
    content = torch.load(weights, weights_only=True)
    content["state_dict"]["backbone.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(content, weights)
    error = refused(capsys, *arguments(data_root, copied, "--stages", "test"))
    assert f'"{weights}" holds numbers that are not finite, as in "backbone.conv1.weight"' in error


def test_a_clock_set_back_gives_no_negative_time(data_root, tmp_path, monkeypatch):
    folder, now = RunFolder(tmp_path / "run"), iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert main(training(data_root, folder)) == 0
    assert all(0 <= json.loads(line)["seconds"] < 600 for line in folder.train.history.read_text().splitlines())


# -- what a test needs ------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"train.batch_size": 128}, {"train.batch_size": 10}, {"sampler.num_instances": 8}])
def test_a_test_does_not_ask_for_a_training_batch(changes, data_root, copied):
    assert main(arguments(data_root, copied, "--stages", "test", **changes)) == 0
    assert main(arguments(data_root, copied, "--stages", "test", "--dry-run", **changes)) == 0
