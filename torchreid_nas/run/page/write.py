"""``report.html``: the page of a run, from what its folder holds."""
from __future__ import annotations

__all__ = ["contents", "render_run", "write_page"]

import functools
import re
from collections.abc import Callable
from pathlib import Path

from torchreid_nas.errors import InputError
from torchreid_nas.files import write_text
from torchreid_nas.report.html import page, text
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.page.attention import attention
from torchreid_nas.run.page.course import course
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import STYLE, Frame
from torchreid_nas.run.page.quality import Target, quality
from torchreid_nas.run.page.sheet import sheet
from torchreid_nas.run.page.verdict import Measured, figures, measure, verdict

_MOST_TARGETS = 4


def write_page(folder: RunFolder, path: Path | None = None) -> list[str]:
    """Write the page of a run.

    Args:
        folder: of the run.
        path: of the page; default ``report.html`` in the folder.

    Returns:
        A sentence per file of the run that cannot be read; the page shows what the others hold.

    Raises:
        InputError: the folder holds no file of a run, or the page cannot be written.
    """
    facts = RunFacts(folder.path)
    write_text(folder.page if path is None else path, render_run(facts))
    return facts.faults


def render_run(facts: RunFacts) -> str:
    """Return the page of a run.

    Raises:
        InputError: the folder holds no file of a run.
    """
    if not (facts.folder.is_run() or facts.rows):
        raise InputError(
            f'"{facts.folder}" is no folder of a run: it has no {facts.folder.config.name}; name the --output of a run'
        )
    notes: list[str] = []

    def attempt(what: str, make: Callable[[], str]) -> str:
        """Return a part of the page; a fault of one part must not cost the others."""
        try:
            return make()
        except InputError as error:
            notes.append(str(error))
        except Exception as error:
            notes.append(f"{what} is not shown ({type(error).__name__}: {error}).")
        return ""

    frame = Frame(facts.generated)
    measured = measure(facts)
    parts = [
        attempt("The table of figures", lambda: figures(facts, measured)),
        attempt("How the run came about", lambda: course(facts, frame)),
        *_targets(facts, measured, frame, attempt),
        attempt("The data sheet", lambda: sheet(facts)),
    ]
    title = _title(facts)
    first = attempt("The verdict", lambda: verdict(facts, measured))
    head = [f"<h1>{text(title)}</h1>", f'<p class="soft">{text(facts.folder)}</p>', _notes([*facts.faults, *notes])]
    return page(title, [*head, first, contents(parts), *parts], STYLE)


def _targets(
    facts: RunFacts, measured: list[Measured], frame: Frame, attempt: Callable[[str, Callable[[], str]], str],
) -> list[str]:
    """Return the sections of the targets; those that are two directions of one test share the map and the activation maps."""
    parts: list[str] = []
    seen: set[frozenset[str]] = set()
    for number, one in enumerate([one for one in measured if one.counts and one.row["ranks"]][:_MOST_TARGETS]):
        target = Target(facts, one, frame)
        tests = [test for test in facts.certificate.get("tests", ()) if test["dataset"] == target.name]
        images = frozenset({str(tests[0][part]) for part in ("query", "gallery")}) if tests else frozenset({target.name})
        new = images not in seen
        seen.add(images)
        parts.append(attempt(f"What the test of {target.name} shows", functools.partial(quality, target, number, new)))
        if new:
            parts.append(attempt("Where the network looks", functools.partial(attention, target)))
    return parts


def _title(facts: RunFacts) -> str:
    cfg = facts.cfg
    if cfg is None:
        return f"Run {facts.folder.path.name}"
    images = " (generated images)" if facts.generated else ""
    return f"{cfg.model.name} on {' + '.join(cfg.data.sources)}{images}"


def contents(parts: list[str]) -> str:
    """Return links to the sections of a page."""
    found = re.findall(r'<section id="([^"]+)"><h2>([^<]*)</h2>', "".join(parts))
    items = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in found)
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>' if found else ""


def _notes(notes: list[str]) -> str:
    """Return what the page lacks, and why."""
    items = "".join(f"<li>{text(note)}</li>" for note in dict.fromkeys(notes))
    return f'<div class="card warning"><span class="tag">not all is shown</span><ul>{items}</ul></div>' if notes else ""
