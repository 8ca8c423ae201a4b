"""A study from its file to its table: runs what is not finished, and writes what is known after every run."""
from __future__ import annotations

__all__ = ["dry_run_study", "run_study"]

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchreid_nas.architecture import SPLIT, Architecture
from torchreid_nas.config import change_config
from torchreid_nas.errors import InputError
from torchreid_nas.files import write_json, write_text
from torchreid_nas.models.size import model_size
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.lock import hold
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.study.definition import Study
from torchreid_nas.study.figure import draw_study
from torchreid_nas.study.grid import Member, Reference, cost
from torchreid_nas.study.intervals import add_intervals
from torchreid_nas.study.record import FAILED, FINISHED, MISSING, StudyFolder, record_study, state_of
from torchreid_nas.study.running import Outcome, Task, run_tasks
from torchreid_nas.study.table import study_table

TABLES = ("txt", "md", "tex", "csv")
logger = logging.getLogger(__name__)


def run_study(study: Study, members: Sequence[Member], output: str | Path, jobs: int = 1) -> dict[str, Any]:
    """Run the members of a study that are not finished, and write ``study.json``, the tables and the picture.

    Args:
        study: see :func:`torchreid_nas.study.definition.read_study`.
        members: see :func:`torchreid_nas.study.grid.expand`, for the same ``output``.
        output: folder of the study.
        jobs: processes side by side.

    Returns:
        The content of ``study.json``.

    Raises:
        InputError: another process holds the folder, the folder holds another study, runs have failed (the tables then hold the
            others), or a column would mix two protocols.
    """
    folder = StudyFolder(Path(output))
    with hold(RunFolder(folder.path)):
        before = folder.read()
        if before and before.get("study") != study.name:
            raise InputError(
                f'"{folder.path}" holds the study "{before.get("study")}", not "{study.name}"; choose another --output'
            )
        costs = {run["folder"]: run for run in before.get("runs", ())}
        runs = [_begun(member, costs.get(member.folder.path.relative_to(folder.path).as_posix(), {})) for member in members]

        def ended(place: int, outcome: Outcome) -> None:
            member, run = members[place], runs[place]
            run["state"], run["error"] = (FAILED, outcome.error) if outcome.error else (FINISHED, "")
            if outcome.ran:
                run["user_seconds"] += outcome.user_seconds
                run["seconds"] += outcome.seconds
            if study.shown.size and not outcome.error and "macs" not in run:
                run["parameters"], run["macs"] = _size(_resolved(member, members))
            if outcome.error:
                logger.info(f"failed: {member.label}: {outcome.error}")
            record_study(study, members, runs, folder)

        def task_of(place: int) -> Task:
            member = members[place]
            logger.info(f"==== {place + 1} of {len(members)}: {member.label}")
            if member.waits_for is not None and runs[member.waits_for]["state"] != FINISHED:
                raise InputError(f"the run whose architecture it takes ({members[member.waits_for].label}) has failed")
            takes = {stage: str(members[maker].folder.path) for stage, maker in member.takes.items()}
            return Task(member.label, _resolved(member, members), member.stages, takes)

        run_tasks(len(members), lambda place: members[place].needs, task_of, jobs, ended)
        content = add_intervals(record_study(study, members, runs, folder), folder.path)
        write_json(folder.record, content)
        table = study_table(content)
        for suffix in TABLES:
            write_text(folder.table(suffix), table.render(suffix))
        _try_to_draw(content, folder)
        logger.info(table.render("txt"))
    _refuse_failed(content, folder)
    return content


def dry_run_study(study: Study, members: Sequence[Member]) -> str:
    """Build the network of every run, and return the list of runs with what each makes and takes; nothing is trained or written.

    Raises:
        InputError: a run's device, model, architecture or search space does not exist, or its keys do not suit each other.
    """
    from tabulate import tabulate

    lines = []
    for member in members:
        setup = RunSetup.of(member.cfg)
        setup.method.check_batch()
        if "search" in member.stages:
            setup.method.check_space()
        spec = setup.method.plain_architecture if "search" in member.stages else member.cfg.model.architecture
        setup.method.build_model(2, spec, pretrained=False)
        made = [stage for stage in member.stages if stage not in member.takes]
        taken = [f"{stage} of {members[place].label}" for stage, place in member.takes.items()]
        if member.reference is not None:
            reference = member.reference
            taken.append(f"{reference.kind} of {reference.row}" + (f" in {reference.column}" if reference.column else ""))
        lines.append([member.label, ", ".join(made), "; ".join(taken)])
    total = ", ".join(f"{count} {name if name == 'runs' else name + ' stages'}" for name, count in cost(members).items())
    table = tabulate(lines, headers=["run", "makes", "takes"], disable_numparse=True)
    return f"{study.title}\n\n{table}\n\n{total}; nothing was trained"


def _try_to_draw(content: dict[str, Any], folder: StudyFolder) -> None:
    """Draw the picture; a fault becomes a warning, because it must not cost the tables."""
    try:
        if content["cells"]:
            draw_study(content, folder.figure)
    except Exception as error:
        logger.warning(f'the picture of "{folder.path}" was not drawn ({type(error).__name__}: {error}); the tables are written')


def _begun(member: Member, before: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a run before it is asked for."""
    kept: dict[str, Any] = {key: before[key] for key in ("user_seconds", "seconds", "parameters", "macs") if key in before}
    run: dict[str, Any] = {"state": MISSING, "error": "", "user_seconds": 0.0, "seconds": 0.0, **kept}
    if member.reference is None:
        run["state"] = state_of(member)
    return run


def _resolved(member: Member, members: Sequence[Member]) -> Any:
    """Return the config of a run, with the architecture that another run has found where it takes one."""
    if member.reference is None or member.waits_for is None:
        return member.cfg
    found = members[member.waits_for].folder.architecture
    return change_config(member.cfg, {"model.architecture": _spec(member.reference, found)}, f'the run "{member.label}"')


def _spec(reference: Reference, found: Path) -> str:
    """Return the value of ``model.architecture`` for a reference to the architecture in a file."""
    if reference.kind == "architecture":
        return str(found)
    split = sum(choice == SPLIT for _, choice in Architecture.load(found).choices)
    return f"{reference.kind.removesuffix('-k')}-{split}"


def _size(cfg: Any) -> tuple[int, int]:
    """Return parameters and multiply-adds at test time of the network of a finished run."""
    setup = RunSetup.of(cfg)
    model = setup.method.build_model(1, setup.architecture(), pretrained=False)
    with torch.no_grad():
        _, parameters, macs = model_size(model, cfg.data.height, cfg.data.width)
    return parameters, macs


def _refuse_failed(content: dict[str, Any], folder: StudyFolder) -> None:
    failed = [run for run in content["runs"] if run["state"] == FAILED]
    if failed:
        first = failed[0]
        named = ", ".join(filter(None, (first["row"], first["column"], f"seed {first['seed']}")))
        raise InputError(
            f'{len(failed)} of {len(content["runs"])} runs failed, first "{named}": {first["error"].rstrip(".")}; '
            f'"{folder.record}" names all, the tables hold the others, and the same command goes on with them'
        )
