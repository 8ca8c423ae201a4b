"""The folder of a run: the name of every file in it, and what is finished.

    config.yaml            the resolved config
    search/                config.yaml, initial.json, checkpoint.pth (and older ones, and their digests in checkpoints.json),
                           history.jsonl, model.pth (the supernet), TensorBoard events
    architecture.json      what the search found; architecture.cfg is the same in the authors' format
    train/                 config.yaml, initial.json (what it started from), checkpoint.pth, history.jsonl, model.pth (the
                           weights to test), TensorBoard events
    data.json              which images the stages read: counts and digests of every part
    split.csv              how a rule divided own images that said no split (split_2.csv of a second set, …)
    results.json           the protocol's figures
    scores.npz             the scores of every query, from which the figures follow
    test_features.npz      the features of the test, for ``torchreid-nas verify``
    certificate.json       how the figures were made, with digests of all that they were made from
    figures/               architecture.png, training.png
    report.html            all of this on one page for people, see ``torchreid-nas report``

A series of runs holds a folder per run (``split_<t>``, or a variant of an
ablation), and its own ``results.json`` and ``figures/ablation.png``.

This module stands low: engines, checkpoints and inference import it.
"""
from __future__ import annotations

__all__ = ["ADVISED", "SEARCHED", "STAGES", "RunFolder", "StageFolder", "weights_file"]

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.files import (
    as_json,
    atomic_path,
    file_digest,
    load_checkpoint,
    read_json,
    save_checkpoint,
    write_json,
    write_text,
    written_checkpoint,
)

if TYPE_CHECKING:
    import torch

_LOGGER = logging.getLogger(__name__)
_OLDER = re.compile(r"checkpoint-[1-9][0-9]*\.pth$")

STAGES = ("search", "train", "test")
"""The stages of a run in their order."""

SEARCHED = "search"
"""The value of ``model.architecture`` that asks for what the search finds."""

ADVISED = "advise"
"""The value of ``model.architecture`` that asks for what the split advisor advises before the training."""


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage that trains: ``search/`` or ``train/`` of a run, or the ``save_dir`` of an engine.

    Args:
        path: the folder; it need not exist.

    Example:
        >>> StageFolder(Path("runs/demo/train")).weights.as_posix()
        'runs/demo/train/model.pth'
    """

    path: Path

    @property
    def config(self) -> Path:
        """The config that the stage was made with."""
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The newest state of the engine, from which ``--resume`` goes on."""
        return self.path / "checkpoint.pth"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints that exist, the newest first: ``checkpoint.pth``, ``checkpoint-1.pth`` and so on."""
        older = {int(path.stem.partition("-")[2]): path for path in self.path.glob("checkpoint-*.pth") if _OLDER.match(path.name)}
        newest = [self.checkpoint] if self.checkpoint.exists() else []
        return [*newest, *(older[number] for number in sorted(older))]

    @property
    def digests(self) -> Path:
        """The SHA-256 of every checkpoint that was written."""
        return self.path / "checkpoints.json"

    @property
    def source_checkpoint(self) -> Path:
        """The state after the epochs on the source alone, which the variants of ECN's ablation share."""
        return self.path / "source.pth"

    @property
    def history(self) -> Path:
        """One JSON object per epoch and line."""
        return self.path / "history.jsonl"

    @property
    def initial(self) -> Path:
        """What the network of the stage started from: the name of the weights, and digests."""
        return self.path / "initial.json"

    @property
    def weights(self) -> Path:
        """The weights to test with."""
        return self.path / "model.pth"

    @property
    def raw_weights(self) -> Path:
        """The weights of the last epoch without averaging, where a test has asked for them."""
        return self.path / "raw.pth"

    def write_raw_weights(self) -> Path:
        """Write :attr:`raw_weights` from the checkpoint, unless they are newer, and return the path.

        Raises:
            InputError: the checkpoint is missing or damaged.
        """
        path = self.raw_weights
        if not path.exists() or not self.checkpoint.exists() or path.stat().st_mtime < self.checkpoint.stat().st_mtime:
            state = self.load_state()
            save_checkpoint(path, {"state_dict": state["model"], "epoch": state["epoch"]})
        return path

    @property
    def architecture(self) -> Path:
        """The copy of the architecture file that the config of a training names."""
        return self.path / "architecture.json"

    def save_state(self, state: dict[str, Any], keep: int = 1) -> None:
        """Write the engine's state in one step, and keep some older ones.

        Args:
            state: of the engine.
            keep: newest checkpoints that stay, this one counted.
        """
        kept = self.checkpoints()[:keep - 1]
        with written_checkpoint(self.checkpoint, state) as digest:
            # The digest is known before the file has its name: a kill in between leaves a digest too many, and none too few.
            write_json(self.digests, [digest, *self._digests()][:keep + 1])
            for number, path in reversed(list(enumerate(kept, start=1))):
                _link(path, self.path / f"checkpoint-{number}.pth")
        for path in self.checkpoints()[keep:]:
            path.unlink(missing_ok=True)

    def load_state(self, device: str | torch.device = "cpu") -> dict[str, Any]:
        """Return the newest state that an engine kept and that is whole; a warning names damaged ones.

        Raises:
            InputError: there is no whole one; the message names the newest.
        """
        damaged: list[InputError] = []
        for path in self.checkpoints() or [self.checkpoint]:
            try:
                state = self._load_state(path, device)
            except InputError as error:
                damaged.append(error)
                continue
            for fault in damaged:
                _LOGGER.warning(f'{fault}; "{path}" is used')
            return state
        raise damaged[0]

    def _load_state(self, path: Path, device: str | torch.device) -> dict[str, Any]:
        way_out = f'remove "{self.path}" to start this stage afresh'
        known = self._digests()
        if known and path.is_file() and file_digest(path) not in known:
            raise InputError(f'the checkpoint "{path}" is damaged: its SHA-256 is not in "{self.digests}"; {way_out}')
        state = load_checkpoint(path, device, way_out=way_out)
        epoch = state.get("epoch") if isinstance(state, dict) else None
        # True is an int to Python. A checkpoint inside the first epoch has no epoch done.
        if not isinstance(state, dict) or type(epoch) is not int or epoch < (0 if "within" in state else 1):
            raise InputError(
                f'the checkpoint "{path}" holds no state of a training, which has a whole number of epochs; {way_out}'
            )
        return state

    def _digests(self) -> list[str]:
        """Return the digests of the checkpoints, none where the file is missing or damaged: then torch's checksums count."""
        try:
            digests = read_json(self.digests)
        except InputError:
            return []
        return [digest for digest in digests if isinstance(digest, str)] if isinstance(digests, list) else []

    def read_history(self, epochs: int) -> str:
        """Return the first ``epochs`` lines of the history.

        Raises:
            InputError: the file is missing or damaged: a line is no row of its epoch.
        """
        way_out = f'restore the file, or remove "{self.path}" to start this stage afresh'
        try:
            lines = self.history.read_bytes().splitlines()[:epochs]
        except OSError as error:
            raise InputError(f'the history "{self.history}" cannot be read ({error.strerror}); {way_out}') from error
        for number in range(1, epochs + 1):
            if number > len(lines) or _epoch_of(lines[number - 1]) != number:
                raise InputError(f'the history "{self.history}", line {number}, is no row of epoch {number}; {way_out}')
        return "".join(line.decode() + "\n" for line in lines)

    def history_differs(self, text: str) -> bool:
        """Return whether there is a history that does not begin with ``text``."""
        return self.history.is_file() and not self.history.read_bytes().startswith(text.encode())

    def write_history(self, text: str) -> None:
        """Write the history in one step: a line per epoch."""
        write_text(self.history, text)

    def history_line(self, row: Mapping[str, Any]) -> str:
        """Return the line of the history for the row of an epoch.

        Raises:
            InputError: a number of the row is not finite.
        """
        return as_json(row, self.history) + "\n"


def _link(path: Path, older: Path) -> None:
    """Give a checkpoint a second name in one step, under which it stays when the first name goes to a newer one."""
    with atomic_path(older) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            # A file system without hard links.
            shutil.copyfile(path, temporary)


def _epoch_of(line: bytes) -> int | None:
    """Return the epoch of a line of a history, None where the line is no row."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    epoch = row.get("epoch") if isinstance(row, dict) else None
    return epoch if isinstance(epoch, int) else None


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Args:
        path: the folder; it need not exist.

    Example:
        >>> folder = RunFolder(Path("runs/demo"))
        >>> folder.train.checkpoint.as_posix(), folder.trial(3).results.as_posix()
        ('runs/demo/train/checkpoint.pth', 'runs/demo/split_3/results.json')
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    # -- names ------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """The resolved config of the last stage that was made."""
        return self.path / "config.yaml"

    @property
    def architecture(self) -> Path:
        """What the search found; the search is finished once this file is there."""
        return self.path / "architecture.json"

    @property
    def authors_architecture(self) -> Path:
        """What the search found, in the format of the paper's authors."""
        return self.path / "architecture.cfg"

    @property
    def data(self) -> Path:
        """Counts and digests of the images that the stages read."""
        return self.path / "data.json"

    def split(self, number: int) -> Path:
        """Return the file of the division of own images, counted from 0."""
        return self.path / ("split.csv" if number == 0 else f"split_{number + 1}.csv")

    @property
    def results(self) -> Path:
        """The protocol's figures."""
        return self.path / "results.json"

    @property
    def scores(self) -> Path:
        """The scores of every query of the test, from which the figures follow."""
        return self.path / "scores.npz"

    @property
    def test_features(self) -> Path:
        """The features that the test scored."""
        return self.path / "test_features.npz"

    @property
    def certificate(self) -> Path:
        """How the figures were made, with digests of all that they were made from."""
        return self.path / "certificate.json"

    @property
    def figures(self) -> Path:
        """The folder of the pictures."""
        return self.path / "figures"

    @property
    def architecture_figure(self) -> Path:
        """The picture of the search."""
        return self.figures / "architecture.png"

    @property
    def advice_figure(self) -> Path:
        """The picture of the split advisor, beside the architecture that it advises."""
        return self.path / "advice.png"

    @property
    def training_figure(self) -> Path:
        """The picture of the training."""
        return self.figures / "training.png"

    @property
    def ablation_figure(self) -> Path:
        """The picture of a series."""
        return self.figures / "ablation.png"

    @property
    def page(self) -> Path:
        """The page that shows the run to people."""
        return self.path / "report.html"

    @property
    def zoo_entries(self) -> Path:
        """The zoo entry of this run."""
        return self.path / "zoo.yaml"

    @property
    def exported(self) -> Path:
        """The folder of the exported networks."""
        return self.path / "export"

    @property
    def lock(self) -> Path:
        """The file that the process which writes into the folder has locked."""
        return self.path / ".lock"

    @property
    def holder(self) -> Path:
        """Who has locked the folder: host, process and time."""
        return self.path / ".holder.json"

    @property
    def search(self) -> StageFolder:
        """The folder of the search."""
        return self.stage("search")

    @property
    def train(self) -> StageFolder:
        """The folder of the training."""
        return self.stage("train")

    def stage(self, name: str) -> StageFolder:
        """Return the folder of the stage ``"search"`` or ``"train"``; in that of ``"test"`` a logger alone writes."""
        return StageFolder(self.path / name)

    def trial(self, split_id: int) -> RunFolder:
        """Return the folder of one trial of a series."""
        return self.member(f"split_{split_id}")

    def trials(self) -> list[RunFolder]:
        """Return the folders of the trials that exist."""
        return [RunFolder(path) for path in sorted(self.path.glob("split_*")) if path.is_dir()]

    def member(self, name: str) -> RunFolder:
        """Return the folder of one run of a series, such as a variant of an ablation."""
        return RunFolder(self.path / name)

    def members(self) -> list[RunFolder]:
        """Return the folders of the runs of a series that exist, in the order of their names."""
        return [run for run in map(RunFolder, sorted(self.path.glob("*"))) if run.is_run()]

    # -- what it holds ------------------------------------------------------------

    def is_run(self) -> bool:
        """Whether the folder holds a run."""
        return self.config.is_file()

    def missing(self) -> Path | None:
        """Return the first file that a trained and tested run has and this folder lacks."""
        return next((path for path in (self.config, self.train.weights, self.results) if not path.is_file()), None)

    def is_searched(self) -> bool:
        """Whether the search is finished."""
        return self.architecture.exists()

    def is_trained(self, max_epoch: int) -> bool:
        """Whether ``max_epoch`` epochs of the training are done and its weights are written.

        Raises:
            InputError: the checkpoint is broken.
        """
        train = self.train
        return train.checkpoint.exists() and train.weights.exists() and train.load_state()["epoch"] >= max_epoch

    def read_results(self) -> dict[str, Any]:
        """Return the content of ``results.json``.

        Raises:
            InputError: there is none, or it is no JSON with a list of results.
        """
        results = read_json(self.results)
        rows = results.get("results") if isinstance(results, dict) else None
        if not isinstance(results, dict) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f'"{self.results}" holds no list of results; remove the file and test again')
        return results

    def kept_architecture(self, spec: str) -> ArchitectureSpec:
        """Return the architecture that the run was trained with.

        Args:
            spec: ``model.architecture`` of the run: ``search`` for what its search found; a file, of which the
                run keeps a copy beside its weights, because the file may change or move, as it keeps what the advisor
                advised; or the name of a preset, which is returned as it is.

        Raises:
            InputError: what the search found is missing or broken.
        """
        if spec == SEARCHED:
            return Architecture.load(self.architecture)
        copied = self.train.architecture
        return Architecture.load(copied) if copied.is_file() else spec

    def keep_file_architecture(self, spec: str) -> None:
        """Copy the architecture into the training's folder where ``spec`` is a file."""
        if Path(spec).is_file():
            Architecture.load(spec).save(self.train.architecture)


def weights_file(named: str) -> Path:
    """Return the file of weights that a text names: a file, or the folder of a run, whose trained weights it means.

    Raises:
        InputError: the run of the folder is not trained.

    Example:
        >>> weights_file("mine.pth").as_posix()
        'mine.pth'
    """
    path = Path(named)
    if not os.path.isdir(path):  # noqa: PTH112  # Path raises for names that no file system takes
        return path
    weights = RunFolder(path).train.weights
    if not weights.is_file():
        raise InputError(
            f'"{named}" is no folder of a trained run: "{weights}" does not exist; run its train stage first, or name a file of '
            "weights"
        )
    return weights
