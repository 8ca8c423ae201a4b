"""Several runs of one config and their common table: the trials of RegDB, the ablation of ECN."""
from __future__ import annotations

__all__ = ["run_ablation", "run_trials"]

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

import torchreid_nas
from torchreid_nas import report
from torchreid_nas.config import change_config
from torchreid_nas.data import dataset_facts
from torchreid_nas.errors import InputError
from torchreid_nas.files import write_json
from torchreid_nas.methods import method_of
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.lock import hold
from torchreid_nas.run.pictures import draw_series, try_to_draw
from torchreid_nas.run.results import average_rows
from torchreid_nas.run.stages import Run
from torchreid_nas.study.running import Task, run_task

logger = logging.getLogger(__name__)


def run_trials(cfg: CfgNode, trials: Sequence[int], stages: Sequence[str], resume: bool) -> None:
    """Run every RegDB trial on its own split in ``<output>/split_<t>`` and average those with results.

    Every trial searches, trains and tests on its own split alone: the training
    identities of one are test identities of another. With ``resume`` the first
    unfinished trial goes on.
    """
    single = [name for name in cfg.data.sources if dataset_facts(name).num_splits == 1]
    if single:
        raise InputError(
            f"--trials is for data sets with several fixed splits, such as RegDB with ten, and {', '.join(single)} of "
            "data.sources has one; leave --trials out"
        )
    if cfg.ecn.ablation:
        raise InputError(
            "--trials runs one config on every split, and ecn.ablation names several; set ecn.ablation [], or leave --trials out "
            "and set data.split_id"
        )
    base = RunFolder(Path(cfg.data.save_dir))
    cfgs = [change_config(cfg, {"data.split_id": t, "data.save_dir": str(base.trial(t))}, "--trials") for t in trials]
    with hold(base):
        _check_unfinished(cfgs, stages, resume)
        results = []
        for trial, own in zip(trials, cfgs):
            logger.info(f"==== trial with split_id {trial}")
            rows = _rows_of(Task(f"split_id {trial}", own, tuple(stages), resume=resume))
            if rows is not None:
                results.append(rows)
        if "test" in stages and len(results) > 1:
            rows = [average_rows(same) for same in zip(*results)]
            # Without these a report would take generated images for the real ones of published figures.
            data = {"sources": list(cfg.data.sources), "synthetic": cfg.synthetic.enabled}
            averaged = {"results": rows, "split_ids": list(trials), "version": torchreid_nas.__version__, "data": data}
            write_json(base.results, averaged)
            logger.info(f"==== mean over {len(results)} trials")
            logger.info(report.results_table(averaged))


def run_ablation(cfg: CfgNode, stages: Sequence[str], resume: bool) -> None:
    """Run every variant of ``ecn.ablation`` in ``<output>/<variant>/``, then print and draw them side by side.

    The variants share everything but what is ablated, so the epochs on the
    source alone (``ecn.target_epoch``) are trained once: the first variant
    trains them and the others go on from its checkpoint, to the numbers that
    they would reach on their own. With ``resume`` the first unfinished one goes on.

    Raises:
        InputError: no model of ECN; before anything is trained also where the training data or camera styles of any
            variant cannot be had.
    """
    base = RunFolder(Path(cfg.data.save_dir))
    if not method_of(cfg.model.name).ablation:
        raise InputError(f"ecn.ablation is for ECN's models, model.name is {cfg.model.name}; set ecn.ablation []")
    with hold(base):
        unfinished = _check_unfinished([_variant(cfg, variant) for variant in cfg.ecn.ablation], stages, resume)
        # Read the camera styles now: the runs before the first that needs them may take days.
        setups = [run.setup for run in unfinished]
        styled = [setup for setup in setups if setup.cfg.ecn.weight_target and setup.cfg.ecn.camstyle != "none"]
        if styled and "train" in stages:
            styled[0].method.data([], cfg.train.holdout)
        rows, first = [], None
        for variant in cfg.ecn.ablation:
            title, _ = method_of(cfg.model.name).ablation[variant]
            logger.info(f"==== {title}")
            # With held-out identities the best epoch so far has its own weights, which a later epoch of `first` replaces.
            shares = "train" in stages and variant != "supervised" and not cfg.train.holdout
            takes: dict[str, str] = {"source": str(first)} if shares and first is not None else {}
            own = _rows_of(Task(title, _variant(cfg, variant), tuple(stages), takes, resume))
            first = base.member(variant) if shares and first is None else first
            rows += [{**row, "variant": title} for row in own or ()]
        if "test" in stages and rows:
            results = {"results": rows, "version": torchreid_nas.__version__, "seed": cfg.train.seed}
            write_json(base.results, results)
            try_to_draw(draw_series, base)
            logger.info("==== " + " + ".join(cfg.data.sources) + " → " + " + ".join(cfg.data.targets))
            logger.info(report.results_table(results))


def _check_unfinished(cfgs: Sequence[CfgNode], stages: Sequence[str], resume: bool) -> list[Run]:
    """Refuse what any of the runs would fail on, because the runs before it may take days; return the unfinished runs."""
    unfinished = [run for run in (Run(cfg, resume) for cfg in cfgs) if not run.is_finished(stages)]
    for run in unfinished:
        run.check(stages)
    return unfinished


def _rows_of(task: Task) -> list[dict[str, Any]] | None:
    """Run a task unless it is finished; returns its results, None without any."""
    run_task(task)
    folder = RunFolder(Path(task.cfg.data.save_dir))
    return folder.read_results()["results"] if folder.results.exists() else None


def _variant(cfg: CfgNode, variant: str) -> CfgNode:
    """Return the config of one row of the ablation."""
    folder = RunFolder(Path(cfg.data.save_dir)).member(variant)
    _, ablated = method_of(cfg.model.name).ablation[variant]
    changes = {**ablated, "ecn.ablation": [], "data.save_dir": str(folder)}
    if variant == "supervised":
        changes["data.sources"] = list(cfg.data.targets)
    return change_config(cfg, changes, f'the variant "{variant}" of ecn.ablation')
