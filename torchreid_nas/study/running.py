"""Running the members of a study or of a series: one after the other, or several processes side by side."""
from __future__ import annotations

__all__ = ["Outcome", "Task", "run_task", "run_tasks"]

import concurrent.futures
import logging
import multiprocessing
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from yacs.config import CfgNode

import torchreid_nas
from torchreid_nas.config import config_to_yaml
from torchreid_nas.errors import InputError, plain_warnings, shown
from torchreid_nas.files import atomic_path, write_text
from torchreid_nas.log import plain_lines
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.lock import hold
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.run.stages import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One run, ready to begin.

    Attributes:
        label: the run in words.
        cfg: its config; ``data.save_dir`` is its folder.
        stages: in their order.
        takes: folders of finished runs by the stages that are taken from them: ``search``, ``train``, or ``source``, ECN's epochs
            on the source alone.
        resume: go on with what the folder holds.
    """

    label: str
    cfg: CfgNode
    stages: tuple[str, ...]
    takes: Mapping[str, str] = field(default_factory=dict)
    resume: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        error: one sentence; ``""`` where the run is finished.
        ran: whether anything was computed; a finished run is taken over as it is.
        user_seconds: user-CPU time of the process and its loaders.
        seconds: wall-clock time.
    """

    error: str = ""
    ran: bool = False
    user_seconds: float = 0.0
    seconds: float = 0.0


def run_task(task: Task) -> Outcome:
    """Run a task unless it is finished; the numbers are those of the same config in the same folder by hand.

    Raises:
        InputError: see :class:`torchreid_nas.run.stages.Run`.
    """
    folder, start, began = RunFolder(Path(task.cfg.data.save_dir)), _user_seconds(), time.monotonic()
    with hold(folder):
        taken = [stage for stage, path in task.takes.items() if _take(stage, RunFolder(Path(path)), task)]
        run = Run(task.cfg, task.resume or bool(taken))
        if run.is_finished(task.stages):
            return Outcome()
        run.execute(task.stages)
    return Outcome("", True, _user_seconds() - start, time.monotonic() - began)


def _take(stage: str, first: RunFolder, task: Task) -> bool:
    """Give a run that has not begun a stage the finished stage of ``first``; return whether it did.

    Files are linked where the file system has links: nothing writes into a file that stands, files are replaced.
    """
    folder = RunFolder(Path(task.cfg.data.save_dir))
    if stage == "source":
        source, own = first.train, folder.train
        began = own.checkpoint.exists() or folder.results.exists() or (own.path.exists() and not task.resume)
        if began or not source.source_checkpoint.exists():
            return False
        with atomic_path(own.checkpoint) as temporary:
            shutil.copyfile(source.source_checkpoint, temporary)
        logger.info(f"epochs on the source alone: taken from {source.path}")
        return True
    made = first.is_searched() if stage == "search" else first.is_trained(task.cfg.train.max_epoch)
    if folder.stage(stage).path.exists() or not made:
        return False
    # The stage's folder comes last, so that a killed copy is made again.
    for path in (first.architecture, first.authors_architecture) if stage == "search" else ():
        if path.exists():
            _link(path, folder.path / path.name)
    part = folder.path / f".{stage}.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(first.stage(stage).path, part, copy_function=_link)
    part.rename(folder.stage(stage).path)
    write_text(folder.stage(stage).config, config_to_yaml(RunSetup.of(task.cfg).cfg))
    logger.info(f"{stage}: taken from {first.stage(stage).path}")
    return True


def run_tasks(
    count: int, needs: Callable[[int], set[int]], task_of: Callable[[int], Task], jobs: int,
    ended: Callable[[int, Outcome], None],
) -> None:
    """Run tasks in the order of their places, each after those that it needs; a task that fails does not stop the others.

    Args:
        count: number of tasks.
        needs: the places of the tasks that must have ended before the one at a place begins.
        task_of: the task at a place, asked for once what it needs has ended; an InputError is the task's failure.
        jobs: processes side by side, which share the cores; 1 runs in this process.
        ended: called in this process with the place and the outcome of every task.
    """
    waiting, done = list(range(count)), set[int]()

    def finish(place: int, outcome: Outcome) -> None:
        done.add(place)
        ended(place, outcome)

    if jobs == 1:
        # What a place needs stands before it, or is a search further down, which then comes first.
        while waiting:
            place = next(place for place in waiting if needs(place) <= done)
            waiting.remove(place)
            finish(place, _attempt(partial(_run_at, task_of, place)))
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _begin_worker, (threads,)) as pool:
        running: dict[concurrent.futures.Future[Outcome], int] = {}
        while waiting or running:
            for place in [place for place in waiting if needs(place) <= done]:
                if len(running) == jobs:
                    break
                waiting.remove(place)
                try:
                    running[pool.submit(_work, task_of(place))] = place
                except (InputError, concurrent.futures.BrokenExecutor) as error:
                    finish(place, Outcome(_sentence(error)))
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                finish(running.pop(future), _attempt(future.result))


def _run_at(task_of: Callable[[int], Task], place: int) -> Outcome:
    return run_task(task_of(place))


def _begin_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torchreid_nas.register()


def _work(task: Task) -> Outcome:
    """Run a task in a process of the pool, whose errors come back as a sentence."""
    with plain_warnings(), plain_lines():
        return _attempt(partial(run_task, task))


def _attempt(work: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of a run; an error of any kind is the run's failure, since the others must go on."""
    try:
        return work()
    except InputError as error:
        return Outcome(_sentence(error))
    except Exception as error:
        # No input of the user explains it: whoever mends it needs the place.
        logger.error(traceback.format_exc())
        return Outcome(_sentence(error))


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {shown(error, 300)}"


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Link a file, or copy it where the file system has no links; an older file of that name is replaced."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
    return target


def _user_seconds() -> float:
    times = os.times()
    return times.user + times.children_user
