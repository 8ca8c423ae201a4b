"""The state of a training, at the end of an epoch and inside it; a resumed training ends in the same numbers."""
from __future__ import annotations

__all__ = ["Resuming"]

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchreid_nas.data.seeding import random_state, restore_random_state
from torchreid_nas.data.walk import Walk
from torchreid_nas.distributed import all_max, is_main, processes
from torchreid_nas.engine.checkpoint import Position, Stateful, collect_state, restore_state
from torchreid_nas.engine.options import TrainingOptions
from torchreid_nas.engine.readings import Readings
from torchreid_nas.preemption import Preempted, requested
from torchreid_nas.run.folder import StageFolder

_LOGGER = logging.getLogger(__name__)


class Resuming:
    """The part of an engine that writes checkpoints and goes on from them.

    A checkpoint at the end of an epoch holds all that the next epoch depends on: an epoch is seeded by its number. A checkpoint
    inside an epoch holds the random states and the places in the loaders too.
    """

    options: TrainingOptions
    save_dir: Path | None
    epoch: int
    start_epoch: int
    best_score: float
    best_epoch: int
    stopped: bool
    _readings: Readings
    _walk: Walk
    _within: dict[str, Any] | None
    _waiting: int
    _history: str
    _saves_within: bool
    _saved: float
    _begun_at: int
    _batch_idx: int

    def parts(self) -> dict[str, Stateful | None]:
        """Return the parts that have a state, by their names in the checkpoint."""
        raise NotImplementedError

    @property
    def batch_idx(self) -> int:
        """The number of the batch in its epoch, from 0."""
        return self._batch_idx

    @batch_idx.setter
    def batch_idx(self, number: int) -> None:
        # torchreid's loop counts from 0 in an epoch that it goes on with, too.
        self._batch_idx = number + self._begun_at

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next epoch depends on."""
        done = self.epoch if self._saves_within else self.epoch + 1
        position = Position(done, self.best_score, self.best_epoch, self.stopped)
        state = {**collect_state(self.parts(), position), "history": self._history}
        return {**state, "within": self.position_within()} if self._saves_within else state

    def position_within(self) -> dict[str, Any]:
        """Return what the rest of an epoch depends on beside the state at its start."""
        return {
            "walk": self._walk.position(), "readings": self._readings.state_dict(), "random": random_state(),
        }

    def go_on_within(self, position: Mapping[str, Any]) -> None:
        """Go on inside an epoch that :meth:`begin_epoch` has begun, from :meth:`position_within`."""
        self._walk.go_on(position["walk"])
        self._readings.load_state_dict(position["readings"])
        restore_random_state(position["random"])

    def _after_step(self) -> None:
        """Save inside the epoch where that is due; on request save and end, see :mod:`torchreid_nas.preemption`."""
        if self._walk.done == len(self._walk) or self._waiting or self.save_dir is None:
            return
        minutes = self.options.checkpoint_minutes
        stop, due = self._agreed(bool(requested()), 0 < minutes * 60 <= time.monotonic() - self._saved)
        if not (stop or due):
            return
        self._saves_within = True
        try:
            self.save_checkpoint(StageFolder(self.save_dir))
        finally:
            self._saves_within = False
        self._saved = time.monotonic()
        if stop:
            raise Preempted(f"{requested() or 'a signal'} came after batch {self._walk.done} of epoch {self.epoch + 1}")

    @staticmethod
    def _agreed(*flags: bool) -> list[bool]:
        """Return for each flag whether any process has raised it."""
        return all_max(torch.tensor(flags, dtype=torch.uint8)).bool().tolist() if processes() > 1 else list(flags)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            InputError: the state is of another model or engine.
        """
        position = restore_state(self.parts(), state)
        self._within = state.get("within")
        self.start_epoch, self.best_score = position.epoch, position.best_score
        self.best_epoch, self.stopped = position.best_epoch, position.stopped

    def save_checkpoint(self, folder: StageFolder) -> None:
        """Write the state after this epoch into the folder of the stage; all processes together have the state."""
        state = self.state_dict()
        if is_main():
            folder.save_state(state, self.options.keep_checkpoints)

    def resume(self, save_dir: str | Path) -> int:
        """Go on from the checkpoint of the folder of a stage, if there is one; return the number of epochs done.

        The history is written anew as the checkpoint has it: a damaged file is mended, and the lines of later epochs,
        which run again, are dropped.

        Raises:
            InputError: the checkpoint is damaged or of another model; nothing is changed then.
        """
        folder = StageFolder(Path(save_dir))
        if not folder.checkpoints():
            return 0
        state = folder.load_state(self.options.device)
        history = state.get("history")
        # Checkpoints of version 0.1 hold no history.
        history = history if isinstance(history, str) else folder.read_history(state["epoch"])
        self.load_state_dict(state)
        self._history = history
        if folder.history_differs(history):
            _LOGGER.warning('the history "%s" was damaged; its lines are written anew from the checkpoint', folder.history)
        folder.write_history(history)
        return self.start_epoch
