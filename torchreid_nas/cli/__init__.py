"""The command line ``torchreid-nas``."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

import torchreid_nas
from torchreid_nas import preemption
from torchreid_nas.cli.faults import machine_fault
from torchreid_nas.config import KEYS, load_config
from torchreid_nas.errors import InputError, nearest, plain_warnings, printable
from torchreid_nas.log import plain_lines
from torchreid_nas.methods.effects import without_effect
from torchreid_nas.run.folder import STAGES, RunFolder

# Name -> module and one line of help. A module has main(argv) -> exit code, and is imported when it is asked for.
_COMMANDS = {
    "configs": ("torchreid_nas.cli.configs", "list, show and copy the configs that the package ships"),
    "study": ("torchreid_nas.cli.study", "run a table of the papers, or one of your own: rows × columns × seeds"),
    "report": ("torchreid_nas.cli.report", "the page of a run, or of several side by side, with pictures and tables"),
    "compare": ("torchreid_nas.cli.compare", "say whether tested runs differ, with intervals"),
    "verify": ("torchreid_nas.cli.verify", "hold the figures of a run against its features and certificate"),
    "doctor": ("torchreid_nas.cli.doctor", "find faults of a data set: files, copies, labels, cameras, modalities"),
    "lint": ("torchreid_nas.cli.lint", "name the rows of a table of figures that do not compare"),
    "advise": ("torchreid_nas.cli.advise", "which BatchNorms to split, by the statistics of both modalities"),
    "features": ("torchreid_nas.cli.features", "features of images, folders and videos into a file"),
    "match": ("torchreid_nas.cli.match", "rank a gallery for each query image"),
    "index": ("torchreid_nas.cli.index", "keep a gallery of any size on disk, and search it"),
    "export": ("torchreid_nas.cli.export", "a trained network as a file for another runtime"),
    "zoo": ("torchreid_nas.cli.zoo", "trained networks by name: list, download, verify, convert, add"),
    "weights": ("torchreid_nas.cli.weights", "ImageNet weights to start from: list, fetch"),
    "data": ("torchreid_nas.cli.data", "own images: read, divide and write them as a table, show what they hold"),
    "synthetic": ("torchreid_nas.cli.synthetic", "generated images in the layout of a data set"),
    "camstyle": ("torchreid_nas.cli.camstyle", "images in the style of the other cameras, for ECN"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every code but 0 comes with one sentence.

    0 is success, 1 a fault of the machine (out of memory, a killed process), 2 bad input, 130 Ctrl-C, 143 SIGTERM or SIGUSR1. The
    commands ``verify`` and ``doctor`` also return 1, and ``doctor`` 2, for what they find.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with _signals_as_interrupts(), plain_warnings(), _voice():
            if argv and argv[0] in _COMMANDS:
                return importlib.import_module(_COMMANDS[argv[0]][0]).main(argv[1:])
            return _experiment(argv)
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except preemption.Preempted as stopped:
        print(f"terminated: {stopped}, and the state is saved; {_what_is_left(argv)}", file=sys.stderr)
        return 143
    except _Terminated:
        print(f"terminated; {_what_is_left(argv)}", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print(f"interrupted; {_what_is_left(argv)}", file=sys.stderr)
        return 130
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        print(f"error: {printable(fault)}; {_what_is_left(argv)}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _voice() -> Iterator[None]:
    """Inside the block show what the package says; of the processes that ``torchrun`` has started the process 0 alone speaks."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0":
        with plain_lines():
            yield
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere),
        plain_lines(logging.CRITICAL),
    ):
        yield


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised as Ctrl-C is."""


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Inside the block SIGTERM and SIGUSR1, by which batch systems end a job, clean up as Ctrl-C does.

    A training finishes its step and saves first. The handler of a caller stays.
    """
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        # A second signal must not break off the cleaning up.
        for one in signals:
            signal.signal(one, signal.SIG_IGN if os.getpid() == owner else signal.SIG_DFL)
        if os.getpid() != owner:
            # A forked loader process has inherited this handler, and ends as it would without the handler.
            os.kill(os.getpid(), number)
        elif preemption.listens():
            preemption.request(number)
        else:
            raise _Terminated

    # Python allows signal handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [one for one in (signal.SIGTERM, signal.SIGUSR1) if signal.getsignal(one) == signal.SIG_DFL]
    for one in signals:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one in signals:
            signal.signal(one, signal.SIG_DFL)


def _what_is_left(argv: Sequence[str]) -> str:
    """Return what an interrupted command leaves."""
    command = argv[0] if argv else ""
    if command == "doctor":
        return "the same command goes on with the images that were not read yet"
    if command == "zoo":
        return "the same command goes on with a download where it broke off"
    if command == "study":
        return "the same command goes on at the first unfinished run"
    if command == "camstyle" or command not in _COMMANDS and "--dry-run" not in argv:
        return "the same command with --resume goes on from the last checkpoint"
    return "no half-written file is left"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchreid-nas", formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="torchreid-nas [OPTIONS] [KEY VALUE ...]\n       torchreid-nas COMMAND [--help] ...",
        description="Search, train and test a re-identification network as a config says.",
        epilog="commands:\n" + "\n".join(f"  {name:<20}  {line}" for name, (_, line) in _COMMANDS.items()),
    )
    parser.add_argument(
        "--config", "--config-file", metavar="NAME", help="a shipped config (see `torchreid-nas configs`) or a YAML file",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (data.root)")
    parser.add_argument("--output", metavar="DIR", help="folder of the run (data.save_dir)")
    parser.add_argument("--stages", help="comma list of search, train, test; default: all that the config needs")
    parser.add_argument("--trials", help='RegDB splits by 0-based split_id: "all" or a list such as 0,3; then their mean')
    parser.add_argument("--settings", metavar="LIST", help='protocols of the test (test.protocol): "all", or names by commas')
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    parser.add_argument("--dry-run", action="store_true", help="show data, size, time and memory; train nothing")
    parser.add_argument("--verbose", action="store_true", help="with --dry-run: show every key of the config as well")
    parser.add_argument("--version", action="version", version=f"torchreid-nas {torchreid_nas.__version__}")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, e.g. train.max_epoch 60")
    return parser


def _experiment(argv: Sequence[str]) -> int:
    if not argv:
        _parser().print_help()
        return 0
    _refuse_no_command(argv[0])
    arguments = _parser().parse_intermixed_args(argv)
    overrides = list(arguments.overrides)
    if len(overrides) % 2:
        # Refused here, where the word without a value is still the last one.
        load_config(arguments.config, overrides)
    for key, value in (
        ("data.root", arguments.root), ("data.save_dir", arguments.output), ("device", arguments.device),
    ):
        if value is not None:
            overrides += [key, value]
    if arguments.settings is not None:
        overrides += ["test.protocol", repr([word.strip() for word in arguments.settings.split(",") if word.strip()])]
    cfg = load_config(arguments.config, overrides)
    stages = _stages(arguments.stages, searched=cfg.model.architecture == "search")
    torchreid_nas.register()
    # A config file may hold more keys than its method reads; a key on the command line is meant to change something.
    vain = without_effect(cfg, arguments.overrides[::2])
    if vain:
        print(f"note: set on the command line and without effect on this run: {vain}")

    from torchreid_nas.device import find_device
    from torchreid_nas.distributed import process_group

    with process_group(find_device(cfg.device)):
        return _run(arguments, cfg, stages)


def _run(arguments: argparse.Namespace, cfg: CfgNode, stages: list[str]) -> int:
    """Run the stages in this process, or in all processes that ``torchrun`` has started; the process 0 shows the result."""
    from torchreid_nas.distributed import is_main
    from torchreid_nas.run.closing import closing_lines
    from torchreid_nas.run.stages import Run
    from torchreid_nas.study import series

    if arguments.dry_run:
        from torchreid_nas.run.dry_run import dry_run

        dry_run(cfg, stages, arguments.verbose)
        return 0
    if arguments.trials is not None and cfg.task == "classification":
        raise InputError("--trials is for data sets with several fixed splits, and task classification has none; leave it out")
    if arguments.trials is not None:
        series.run_trials(cfg, _trials(arguments.trials, cfg.data.sources), stages, arguments.resume)
    elif cfg.ecn.ablation:
        series.run_ablation(cfg, stages, arguments.resume)
    else:
        Run(cfg, arguments.resume).execute(stages)
    if not is_main():
        return 0
    if cfg.report.enabled:
        from torchreid_nas.run.page.write import write_page
        from torchreid_nas.run.pictures import try_to_draw

        try_to_draw(write_page, RunFolder(Path(cfg.data.save_dir)), "the page")
    print("\n".join(closing_lines(RunFolder(Path(cfg.data.save_dir)))))
    return 0


def _refuse_no_command(word: str) -> None:
    """Refuse a first word that is neither a command nor an option nor a key; a few keys have no section."""
    if not word.startswith("-") and "." not in word and word not in KEYS:
        raise InputError(
            f'there is no command "{word}", expected one of {", ".join(_COMMANDS)}, or options and KEY VALUE pairs such as '
            f"train.lr 0.02{nearest(word, _COMMANDS)}"
        )


def _stages(text: str | None, searched: bool) -> list[str]:
    if text is None:
        return list(STAGES) if searched else ["train", "test"]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in STAGES:
            raise InputError(f'--stages names "{name}", expected {", ".join(STAGES)}{nearest(name, STAGES)}')
    if not names:
        raise InputError(f"--stages is empty, expected one or more of {', '.join(STAGES)}")
    return [stage for stage in STAGES if stage in names]


def _trials(text: str, sources: Sequence[str]) -> list[int]:
    from torchreid_nas.data import dataset_facts

    splits = min(dataset_facts(name).num_splits for name in sources)
    if text == "all":
        return list(range(splits))
    try:
        trials = sorted({int(word) for word in text.split(",")})
    except ValueError as error:
        raise InputError(f'--trials is "{text}", expected "all" or 0-based split ids such as 0,1,2') from error
    # A data set with one split is refused later, whatever the trials.
    if splits > 1 and not all(0 <= trial < splits for trial in trials):
        raise InputError(f'--trials is "{text}", the split ids of {", ".join(sources)} are 0 to {splits - 1}')
    return trials
