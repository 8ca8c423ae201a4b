"""The runs of a study: which configs in which folders, in which order, and which stages one run takes from another."""
from __future__ import annotations

__all__ = ["Member", "Reference", "cost", "expand"]

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from torchreid_nas.config import change_config, flatten, load_config
from torchreid_nas.config.ecn import AFTER_THE_SOURCE
from torchreid_nas.config.load import parse_overrides
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.methods import method_of
from torchreid_nas.run.folder import SEARCHED, RunFolder
from torchreid_nas.study.definition import Column, Row, Study

_ARCHITECTURE = "model.architecture"
_REFERENCE = re.compile(r"(architecture|first-k|last-k) of (.+?)(?: in (.+))?")


@dataclass(frozen=True)
class Reference:
    """An architecture that another run of the study finds.

    Attributes:
        kind: ``"architecture"`` for all of it; ``"first-k"`` and ``"last-k"`` for as many split slots as it has, the first or
            the last ones.
        row, column: of the run that finds it.
    """

    kind: str
    row: str
    column: str


@dataclass(frozen=True)
class Member:
    """One run of a study.

    Attributes:
        row, column: of the table.
        seed: value of ``train.seed``.
        part: the value of the row's ``over``, None where the row has none.
        cfg: the config of the run; where :attr:`reference` is set, with the method's plain architecture in the place of the one
            to be found.
        stages: in their order.
        reference: the architecture that the run waits for.
        takes: stages that the run takes from another member, by its place in the list of members. ``"source"`` are ECN's epochs
            on the source alone.
    """

    row: str
    column: str
    seed: int
    part: Any
    cfg: CfgNode
    stages: tuple[str, ...]
    reference: Reference | None = None
    takes: Mapping[str, int] = field(default_factory=dict)
    waits_for: int | None = None

    @property
    def folder(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder(Path(self.cfg.data.save_dir))

    @property
    def label(self) -> str:
        """The run in words: row, column, part and seed."""
        part = () if self.part is None else (str(self.part),)
        return ", ".join((self.row, *([self.column] if self.column else ()), *part, f"seed {self.seed}"))

    @property
    def needs(self) -> set[int]:
        """The places of the members that must have ended before this one begins."""
        return {*self.takes.values(), *(() if self.waits_for is None else (self.waits_for,))}


def expand(study: Study, output: str | Path, seeds: Sequence[int] = (), overrides: Sequence[str] = ()) -> list[Member]:
    """Return the runs of a study in the order in which they are made: seed by seed, row by row.

    Args:
        study: see :func:`torchreid_nas.study.definition.read_study`.
        output: folder of the study.
        seeds: values of ``train.seed``; default those of the study.
        overrides: ``KEY VALUE`` pairs for all runs.

    Raises:
        InputError: a value of the study or an override is at fault, an override sets what the rows vary, or a reference names no
            run that searches.

    Example:
        >>> from torchreid_nas.study.definition import read_study
        >>> members = expand(read_study("c3mmd_terms", small=True), "runs/terms", seeds=[1])
        >>> members[0].label, members[0].folder.path.as_posix()
        ('none, seed 1', 'runs/terms/none/seed_1')
    """
    given = parse_overrides(overrides)
    _check_overrides(study, given)
    bases = {column.name: load_config(column.config or study.config) for column in study.columns}
    members = [
        _member(study, bases[column.name], row, column, seed, part, given, Path(output))
        for seed in (seeds or study.seeds) for column in study.columns for row in study.rows for part in _parts(row)
    ]
    folders: dict[Path, str] = {}
    for member in members:
        twin = folders.setdefault(member.folder.path, member.label)
        if twin != member.label:
            raise InputError(
                f'the study "{study.name}" has one folder for "{twin}" and "{member.label}"; give the rows names that differ in '
                "letters or digits"
            )
    return _shared(members)


def cost(members: Sequence[Member]) -> dict[str, int]:
    """Return how many runs, searches and trainings members are, stages that they take from each other counted once."""
    return {
        "runs": len(members),
        **{stage: sum(stage in m.stages and stage not in m.takes for m in members) for stage in ("search", "train")},
    }


def _check_overrides(study: Study, given: Mapping[str, Any]) -> None:
    varied = {"train.seed", "data.save_dir"}
    for row in study.rows:
        varied |= {*row.set, *([row.over[0]] if row.over else [])}
    for column in study.columns:
        varied |= set(column.set)
    for name in given:
        if name in varied:
            way_out = {"train.seed": "--seeds", "data.save_dir": "--output"}.get(name, "another key, or a study file of your own")
            raise InputError(f'the study "{study.name}" sets {name} run by run, so that the command line cannot; use {way_out}')


def _parts(row: Row) -> Sequence[Any]:
    return row.over[1] if row.over else (None,)


def _member(
    study: Study, base: CfgNode, row: Row, column: Column, seed: int, part: Any, given: Mapping[str, Any], output: Path,
) -> Member:
    own = {**row.set, **({row.over[0]: part} if row.over else {})}
    reference = _reference(study, own.get(_ARCHITECTURE), column.name)
    if reference is not None:
        own[_ARCHITECTURE] = "none"
    origin = f'the study "{study.name}", row "{row.name}",'
    folder = output / _slug(row.name)
    for name in (column.name, "" if part is None else str(part)):
        folder = folder / _slug(name) if name else folder
    place = {"train.seed": seed, "data.save_dir": str(folder / f"seed_{seed}")}
    cfg = change_config(base, {**study.set, **column.set, **own, **given, **place}, origin)
    method = method_of(cfg.model.name, cfg.task)
    if reference is not None:
        cfg = change_config(cfg, {_ARCHITECTURE: method.plain_architecture}, origin)
    searches = cfg.model.architecture == SEARCHED
    return Member(row.name, column.name, seed, part, cfg, (*(["search"] if searches else []), "train", "test"), reference)


def _reference(study: Study, spec: Any, column: str) -> Reference | None:
    match = _REFERENCE.fullmatch(spec) if isinstance(spec, str) else None
    if match is None:
        return None
    kind, row, where = match[1], match[2], match[3] or column
    rows, columns = [row.name for row in study.rows], [column.name for column in study.columns]
    for what, name, known in (("row", row, rows), ("column", where, columns)):
        if name not in known:
            raise InputError(
                f'the study "{study.name}" sets {_ARCHITECTURE} to "{spec}", and there is no {what} "{name}"'
                f"{nearest(name, known)}"
            )
    return Reference(kind, row, where)


def _slug(name: str) -> str:
    """Return a name as a folder has it.

    >>> _slug("first k"), _slug("0.05"), _slug("λ 0.3")
    ('first-k', '0.05', 'λ-0.3')
    """
    return re.sub(r"[^\w.+]+", "-", name.lower()).strip("-.") or "row"


def _shared(members: Sequence[Member]) -> list[Member]:
    """Say which stages are the same in several members: the first one makes the stage, the others take it."""
    first: dict[Any, int] = {}
    finders = {(m.row, m.column, m.seed): place for place, m in reversed(list(enumerate(members))) if "search" in m.stages}
    found = []
    for place, member in enumerate(members):
        waits = None
        if member.reference is not None:
            waits = finders.get((member.reference.row, member.reference.column, member.seed))
            if waits is None:
                raise InputError(
                    f'the row "{member.row}" takes the architecture of the row "{member.reference.row}", which searches none; '
                    f"set {_ARCHITECTURE} {SEARCHED} there"
                )
        takes = {}
        for stage, key in _digests(member):
            maker = first.setdefault(key, place)
            # What a run takes of the whole training holds its epochs on the source alone.
            if maker != place and not (stage == "source" and "train" in takes):
                takes[stage] = maker
        found.append(replace(member, takes=takes, waits_for=waits))
    return found


def _digests(member: Member) -> Iterator[tuple[str, Any]]:
    """Yield the stages of a member that others may share, each with all that its numbers follow from."""
    cfg = member.cfg
    method = method_of(cfg.model.name, cfg.task)
    searched = _values(cfg, method.deciding_keys(cfg, "search")) if "search" in member.stages else None
    if searched is not None:
        yield "search", ("search", searched)
    keys = method.deciding_keys(cfg, "train")
    start = (searched, member.reference, cfg.search.keep_weights)
    yield "train", ("train", _values(cfg, keys), start)
    ecn = cfg.ecn
    # With held-out identities the best epoch so far has its own weights, which a later epoch of the first run replaces.
    if method.ablation and ecn.target_epoch and ecn.weight_target < 1 and not cfg.train.holdout:
        yield "source", ("source", _values(cfg, [key for key in keys if key not in AFTER_THE_SOURCE]), start)


def _values(cfg: CfgNode, keys: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the values of keys and sections as text that can be compared."""
    chosen = set(keys)
    return tuple((name, repr(value)) for name, value in flatten(cfg) if name in chosen or name.partition(".")[0] in chosen)
