"""A training that is resumed ends as one that was never stopped: engines on a toy network, without the pipeline."""
from __future__ import annotations

import dataclasses
import json
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from torchreid_nas import preemption
from torchreid_nas.engine import ResumableEngine, TrainingOptions
from torchreid_nas.errors import InputError
from torchreid_nas.run.folder import StageFolder

# The score of the held-out identities by epoch: the best is reached in epoch 2 and again in epoch 4.
SCORES = {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.9}
EPOCHS = len(SCORES)


class Toy(ResumableEngine):
    """Regression of two numbers; the scores of the held-out identities are given."""

    held_out = False

    def losses(self, data, metric_only=False):
        return {"squares": (self.model(data["img"]) - data["pid"]).square().mean()}

    def validate(self):
        return {"score": SCORES[self.epoch + 1]} if self.held_out else None


def engine(held_out=False, ema=0.9, scheduler=True):
    generator = torch.Generator().manual_seed(0)
    items = [{"img": torch.randn(3, generator=generator), "pid": torch.randn(2, generator=generator)} for _ in range(12)]
    torch.manual_seed(0)
    # Dropout makes every step depend on the random state.
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    data = SimpleNamespace(
        train_loader=DataLoader(items, 4, shuffle=True), test_loader={}, num_train_pids=1, sources=["toy"], targets=[],
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3]) if scheduler else None
    toy = Toy(data, model, optimizer, schedule, TrainingOptions(ema=ema, eval_freq=1))
    toy.held_out = held_out
    return toy


def stopped(folder, epochs, **options):
    """Train as if the process ended after ``epochs`` of all epochs, and return the engine of the next process."""
    first = engine(**options)
    save, ends = first.save_checkpoint, []

    def kill(stage):
        save(stage)
        ends.append(first.epoch + 1)
        if first.epoch + 1 == epochs:
            raise KeyboardInterrupt

    first.save_checkpoint = kill
    with pytest.raises(KeyboardInterrupt):
        first.run(folder, max_epoch=EPOCHS)
    assert ends[-1] == epochs
    return engine(**options)


def contents(folder):
    """All tensors and numbers that a stage has written, times left out."""
    stage = StageFolder(folder)
    state = stage.load_state()
    rows = [json.loads(line) for line in stage.history.read_text().splitlines()]
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    assert state.pop("history") == stage.history.read_text()
    return {**flat(state), **flat(torch.load(stage.weights, weights_only=True), "tested"), "history": history}


def flat(value, name=""):
    if isinstance(value, dict):
        return {path: one for key in value for path, one in flat(value[key], f"{name}.{key}").items()}
    if isinstance(value, (list, tuple)):
        return flat(dict(enumerate(value)), name)
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value}


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"held_out": True}, {"ema": 0.0}, {"scheduler": False}], ids=str)
def test_a_resumed_training_has_all_numbers_of_a_whole_one(options, epochs, tmp_path):
    whole = engine(**options)
    whole.run(tmp_path / "whole", max_epoch=EPOCHS)
    second = stopped(tmp_path / "stopped", epochs, **options)
    start = second.resume(tmp_path / "stopped")
    assert start == epochs
    second.run(tmp_path / "stopped", max_epoch=EPOCHS, start_epoch=start)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_resumed_sampler_is_told_the_number_of_each_epoch(tmp_path):
    second, told = stopped(tmp_path, 2), []
    second.train_loader.sampler.set_epoch = told.append
    second.run(tmp_path, max_epoch=EPOCHS, start_epoch=second.resume(tmp_path))
    assert told == [2, 3]


@pytest.mark.parametrize("epochs", [2, 3])
def test_the_first_epoch_with_the_best_score_is_kept(epochs, tmp_path):
    second = stopped(tmp_path, epochs, held_out=True)
    second.run(tmp_path, max_epoch=EPOCHS, start_epoch=second.resume(tmp_path))
    assert second.best_epoch == 2 and second.best_score == SCORES[2]
    assert torch.load(StageFolder(tmp_path).weights, weights_only=True)["epoch"] == 2


def test_every_part_comes_back(tmp_path):
    first = engine(held_out=True)
    first.run(tmp_path, max_epoch=2)
    second = engine(held_out=True)
    assert second.resume(tmp_path) == 2
    assert (second.best_score, second.best_epoch, second.stopped) == (SCORES[2], 2, False)
    assert second.scheduler.last_epoch == 2 and second.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    for mine, its in ((first.model, second.model), (first.ema.module, second.ema.module)):
        assert all(torch.equal(its.state_dict()[name], value) for name, value in mine.state_dict().items())
    weight = next(iter(second.optimizer.state))
    assert torch.equal(
        second.optimizer.state[weight]["momentum_buffer"], next(iter(first.optimizer.state.values()))["momentum_buffer"],
    )


@pytest.mark.parametrize("damage", [lambda text: text * 2, lambda text: text[:-9], lambda text: ""])
def test_the_history_comes_back_as_the_checkpoint_has_it(damage, tmp_path, caplog):
    second = stopped(tmp_path, 2)
    history = StageFolder(tmp_path).history
    kept = history.read_text()
    history.write_text(damage(kept))
    second.resume(tmp_path)
    assert history.read_text() == kept
    assert ("was damaged" in caplog.text) is not damage(kept).startswith(kept)


def test_a_checkpoint_without_history_takes_its_epochs_from_the_file(tmp_path):
    stage, second = StageFolder(tmp_path), stopped(tmp_path, 2)
    state = stage.load_state()
    del state["history"]
    stage.save_state(state)
    lines = stage.history.read_text().splitlines(keepends=True)
    stage.history.write_text("".join([*lines, lines[1].replace('"epoch": 2', '"epoch": 3')]))
    assert second.resume(tmp_path) == 2 and stage.history.read_text() == "".join(lines)
    stage.history.write_text(lines[0])
    with pytest.raises(InputError, match="line 2, is no row of epoch 2"):
        engine().resume(tmp_path)


def test_a_second_training_replaces_the_history_of_the_first(tmp_path):
    toy = engine()
    for _ in range(2):
        toy.run(tmp_path, max_epoch=2)
    assert len(StageFolder(tmp_path).history.read_text().splitlines()) == 2


def stopped_within(folder, batch, **options):
    """Train until a request to stop comes after some batches of the second epoch, and return the engine of the next process."""
    first = engine(**options)
    step, steps = first.forward_backward, []

    def watched(data):
        steps.append(1)
        if len(steps) == 3 + batch:
            preemption.request(signal.SIGUSR1)
        return step(data)

    first.forward_backward = watched
    with pytest.raises(preemption.Preempted, match=f"SIGUSR1 came after batch {batch} of epoch 2"):
        first.run(folder, max_epoch=EPOCHS)
    assert not preemption.requested() and not preemption.listens()
    return engine(**options)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("options", [{}, {"held_out": True}, {"ema": 0.0}], ids=str)
def test_a_training_that_was_stopped_inside_an_epoch_has_all_numbers_of_a_whole_one(options, batch, tmp_path):
    whole = engine(**options)
    whole.run(tmp_path / "whole", max_epoch=EPOCHS)
    second = stopped_within(tmp_path / "stopped", batch, **options)
    assert StageFolder(tmp_path / "stopped").load_state()["within"]["walk"]["done"] == batch
    start = second.resume(tmp_path / "stopped")
    assert start == 1
    second.run(tmp_path / "stopped", max_epoch=EPOCHS, start_epoch=start)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_checkpoint_inside_an_epoch_is_written_when_it_is_due(tmp_path):
    whole = engine()
    whole.run(tmp_path / "whole", max_epoch=EPOCHS)
    first = engine()
    first.options = dataclasses.replace(first.options, checkpoint_minutes=1e-9)
    step, steps = first.forward_backward, []

    def killed(data):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(data)

    first.forward_backward = killed
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "killed", max_epoch=EPOCHS)
    state = StageFolder(tmp_path / "killed").load_state()
    assert (state["epoch"], state["within"]["walk"]["done"]) == (1, 2)
    second = engine()
    second.run(tmp_path / "killed", max_epoch=EPOCHS, start_epoch=second.resume(tmp_path / "killed"))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
