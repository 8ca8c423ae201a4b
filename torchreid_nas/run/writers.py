"""Where the numbers and pictures of a run also go: TensorBoard's files, Weights & Biases, MLflow, or nowhere.

torchreid's loop calls ``add_scalar`` of its engine's writer after every batch, and ``close`` at its end; the engines of this
package add what an epoch says (:meth:`torchreid_nas.engine.progress.EpochProgress.report`). Every client is opened by its first
number, so that a stage that is taken over as it is opens none.
"""
from __future__ import annotations

__all__ = ["WRITERS", "Writer", "check_writer", "make_writer", "plain_keys", "write_test"]

import importlib.util
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yacs.config import CfgNode

from torchreid_nas.config import flatten
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.metrics.scores import find_score, row_scores

logger = logging.getLogger(__name__)

Plain = Mapping[str, bool | int | float | str]


class Writer(ABC):
    """A client that takes numbers and pictures of one stage of a run.

    A fault of the client, such as a server that does not answer, becomes one warning; the run goes on without the writer.

    Args:
        folder: of the stage, for clients that write files.
        run: name of the run, by which its stages belong together.
        params: the config by key.
    """

    package: ClassVar[str] = ""
    """The package of the client, ``""`` where this package has it anyway."""

    def __init__(self, folder: Path, run: str, params: Plain) -> None:
        self.folder, self.run, self.params = folder, run, params
        self._client: Any = None
        self._broken = False

    @property
    def stage(self) -> str:
        """The name of the stage."""
        return self.folder.name

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Take a number.

        Args:
            name: such as ``"Train/ce"``.
            value: the number.
            step: batches before it, over all epochs of the stage.
        """
        self._attempt(lambda: self._scalar(name, float(value), step))

    def add_picture(self, name: str, path: Path) -> None:
        """Take a PNG."""
        self._attempt(lambda: self._picture(name, path))

    def add_results(self, scores: Mapping[str, float]) -> None:
        """Take the figures of a test, beside the config that they belong to."""
        self._attempt(lambda: self._results(scores))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hand over what is left, and close the client, if it was opened."""
        if self._client is not None:
            # A client that failed is closed too: left open, it would take the next stage's figures for this one's.
            broken, self._broken = self._broken, False
            self._attempt(self._close)
            self._client, self._broken = None, self._broken or broken

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            if self._client is None:
                self._client = self._open()
            action()
        except Exception as error:
            self._broken = True
            logger.warning(
                f"nothing more of this stage goes to {type(self).__name__.strip('_')} ({type(error).__name__}: {error}); the run "
                "goes on, and its folder holds all numbers"
            )

    @abstractmethod
    def _open(self) -> Any:
        """Return the client, opened."""

    @abstractmethod
    def _scalar(self, name: str, value: float, step: int) -> None: ...

    @abstractmethod
    def _picture(self, name: str, path: Path) -> None: ...

    @abstractmethod
    def _results(self, scores: Mapping[str, float]) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...


class _TensorBoard(Writer):
    def _open(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(log_dir=str(self.folder))

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._client.add_scalar(name, value, step)

    def _picture(self, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._client.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")

    def _results(self, scores: Mapping[str, float]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client.add_hparams(dict(self.params), dict(scores), run_name=".")

    def _close(self) -> None:
        self._client.close()


class _WandB(Writer):
    package = "wandb"

    def _open(self) -> Any:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project="torchreid-nas", group=self.run, name=f"{self.run}/{self.stage}", job_type=self.stage, dir=str(self.folder),
            config=dict(self.params), reinit=True,
        )

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._client.log({name: value}, step=step)

    def _picture(self, name: str, path: Path) -> None:
        import wandb

        self._client.log({name: wandb.Image(str(path))})

    def _results(self, scores: Mapping[str, float]) -> None:
        self._client.summary.update(dict(scores))

    def _close(self) -> None:
        self._client.finish()


class _MLflow(Writer):
    package = "mlflow"

    def _open(self) -> Any:
        import mlflow

        mlflow.set_experiment("torchreid-nas")
        mlflow.start_run(run_name=f"{self.run}/{self.stage}", tags={"run": self.run, "stage": self.stage})
        try:
            mlflow.log_params(dict(self.params))
        except Exception:
            mlflow.end_run()
            raise
        return mlflow

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._client.log_metric(name, value, step=step)

    def _picture(self, name: str, path: Path) -> None:
        self._client.log_artifact(str(path), artifact_path=name)

    def _results(self, scores: Mapping[str, float]) -> None:
        self._client.log_metrics(dict(scores))

    def _close(self) -> None:
        self._client.end_run()


class _Nowhere(Writer):
    def _open(self) -> Any:
        return self

    def _scalar(self, name: str, value: float, step: int) -> None:
        """Nothing is kept."""

    def _picture(self, name: str, path: Path) -> None:
        """Nothing is kept."""

    def _results(self, scores: Mapping[str, float]) -> None:
        """Nothing is kept."""

    def _close(self) -> None:
        """Nothing is open."""


WRITERS: dict[str, type[Writer]] = {"tensorboard": _TensorBoard, "wandb": _WandB, "mlflow": _MLflow, "none": _Nowhere}
"""The writers by their names for the config key ``logger``."""


def check_writer(name: str) -> None:
    """Refuse a writer whose client is not installed, before a training takes its time.

    Raises:
        InputError: naming the package and the extra.

    Example:
        >>> check_writer("none")
    """
    if name not in WRITERS:
        raise InputError(f'the logger "{name}" is unknown, expected one of {", ".join(WRITERS)}{nearest(name, WRITERS)}')
    package = WRITERS[name].package
    if package and importlib.util.find_spec(package) is None:
        raise InputError(
            f'logger is {name}, and its client is not installed; install it with pip install "torchreid-nas[{package}]", or set '
            "logger tensorboard or none"
        )


def make_writer(name: str, folder: Path, run: str, params: Plain) -> Writer:
    """Return the writer of a stage; arguments as of :class:`Writer`.

    Raises:
        InputError: see :func:`check_writer`.

    Example:
        >>> writer = make_writer("none", Path("runs/demo/train"), "demo", {"train.lr": 0.01})
        >>> writer.add_scalar("Train/ce", 4.2, 0)
        >>> writer.close()
    """
    check_writer(name)
    return WRITERS[name](folder, run, params)


def plain_keys(cfg: CfgNode) -> dict[str, bool | int | float | str]:
    """Return a config by key, as writers take it: lists as text.

    Example:
        >>> from torchreid_nas.config import default_config
        >>> keys = plain_keys(default_config())
        >>> keys["train.max_epoch"], keys["test.ranks"]
        (120, '[1, 5, 10, 20]')
    """
    return {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in flatten(yaml.safe_load(cfg.dump()))
    }


def write_test(writer: Writer, rows: Sequence[Mapping[str, Any]], pictures: Sequence[Path]) -> None:
    """Give a writer the figures of a test, and the pictures of the run that exist.

    Args:
        writer: of the test.
        rows: entries of ``results.json``.
        pictures: PNG files.
    """
    scores = {
        f"Test/{row['dataset']}/{row['protocol_name']}/{row['feature']}/{find_score(name).title}": value
        for row in rows for name, value in row_scores(row).items()
    }
    for name, value in scores.items():
        writer.add_scalar(name, value, 0)
    writer.add_results(scores)
    for path in pictures:
        if path.is_file():
            writer.add_picture(path.stem, path)
