"""``report.html``: the page of a run, of a series, or of several runs side by side, from what their folders hold."""
from __future__ import annotations

__all__ = ["render_run", "write_comparison", "write_page"]

import functools
from collections.abc import Sequence
from pathlib import Path

from torchreid_nas.files import write_text
from torchreid_nas.report.html import page, text
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.page.attention import attention
from torchreid_nas.run.page.course import course
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import STYLE, Frame
from torchreid_nas.run.page.parts import Parts, contents
from torchreid_nas.run.page.quality import Target, quality
from torchreid_nas.run.page.several import render_series, render_several
from torchreid_nas.run.page.sheet import sheet
from torchreid_nas.run.page.verdict import Measured, figures, measure, verdict

_MOST_TARGETS = 4


def write_page(folder: RunFolder, path: Path | None = None) -> None:
    """Write the page of a run or of a series; files of the run that cannot be read are named on the page.

    Args:
        folder: of the run or of the series.
        path: of the page; default ``report.html`` in the folder.

    Raises:
        InputError: the page cannot be written.
    """
    rendered = render_run(RunFacts(folder.path)) if folder.is_run() else render_series(folder)
    write_text(folder.page if path is None else path, rendered)


def write_comparison(paths: Sequence[Path], path: Path) -> None:
    """Write the page of several runs side by side.

    Args:
        paths: folders of runs or of series.
        path: of the page.

    Raises:
        InputError: a folder holds no run, or the page cannot be written.
    """
    write_text(path, render_several(paths))


def render_run(facts: RunFacts) -> str:
    """Return the page of a run."""
    frame, made = Frame(facts.generated), Parts()
    measured = measure(facts)
    sections = [
        made.attempt("The table of figures", functools.partial(figures, facts, measured)),
        made.attempt("How the run came about", functools.partial(course, facts, frame)),
        *_targets(facts, measured, frame, made),
        made.attempt("The data sheet", functools.partial(sheet, facts)),
    ]
    first = made.attempt("The verdict", functools.partial(verdict, facts, measured))
    title = _title(facts)
    head = [f"<h1>{text(title)}</h1>", f'<p class="soft">{text(facts.folder)}</p>', made.notes(facts.faults)]
    return page(title, [*head, first, contents(sections), *sections], STYLE)


def _targets(facts: RunFacts, measured: Sequence[Measured], frame: Frame, made: Parts) -> list[str]:
    """Return the sections of the targets; those that are two directions of one test share the map and the activation maps."""
    sections: list[str] = []
    seen: set[frozenset[str]] = set()
    for number, one in enumerate([one for one in measured if one.counts and one.row["ranks"]][:_MOST_TARGETS]):
        target = Target(facts, one, frame)
        tests = [test for test in facts.certificate.get("tests", ()) if test["dataset"] == target.name]
        images = frozenset({str(tests[0][part]) for part in ("query", "gallery")}) if tests else frozenset({target.name})
        new = images not in seen
        seen.add(images)
        sections.append(made.attempt(f"What the test of {target.name} shows", functools.partial(quality, target, number, new)))
        if new:
            sections.append(made.attempt("Where the network looks", functools.partial(attention, target)))
    return sections


def _title(facts: RunFacts) -> str:
    cfg = facts.cfg
    if cfg is None:
        return f"Run {facts.folder.path.name}"
    images = " (generated images)" if facts.generated else ""
    return f"{cfg.model.name} on {' + '.join(cfg.data.sources)}{images}"
