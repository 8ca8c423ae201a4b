"""The page of several runs side by side, or of a series: figures, paired differences, what they differ in, their losses."""
from __future__ import annotations

__all__ = ["render_series", "render_several"]

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from torchreid_nas.config import flatten
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.certificate import relative
from torchreid_nas.evidence.comparing import Compared, Table, compare_runs
from torchreid_nas.evidence.runs import EvaluatedRun, read_run
from torchreid_nas.evidence.words import GENERATED, sentence
from torchreid_nas.metrics.scores import find_score, row_scores
from torchreid_nas.report.html import image_url, page, table, text
from torchreid_nas.report.retrieval_figures import intervals_figure
from torchreid_nas.report.style import INK, new_figure
from torchreid_nas.report.svg import figure_svg
from torchreid_nas.report.training_figure import draw_runs, training_panels
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import STYLE, Frame, percent, section, span
from torchreid_nas.run.page.parts import Parts, contents
from torchreid_nas.run.page.quality import SIZE
from torchreid_nas.run.page.verdict import figures, measure, state_of

_SCORES = ("rank1", "mAP")
_TABLED = ("rank1", "mAP", "mINP", "top1", "top5")
_RESAMPLES = 2000
_DRAWN = 10
"""Runs whose losses are drawn over each other."""


def render_series(folder: RunFolder) -> str:
    """Return the page of a series: its common table, then its runs side by side."""
    facts, parts = RunFacts(folder.path), Parts()
    first = parts.attempt("The table of the series", functools.partial(_series, facts))
    members = [RunFacts(run.path) for run in folder.members()]
    return _page(f"Series {folder.path.name}", members, parts, [first], [facts])


def render_several(paths: Sequence[Path]) -> str:
    """Return the page of runs side by side.

    Args:
        paths: folders of runs; of a series, all of its runs stand on the page.

    Raises:
        InputError: a folder holds no run.
    """
    members: list[RunFacts] = []
    for folder in map(RunFolder, paths):
        own = [folder] if folder.is_run() else folder.members()
        if not own:
            raise InputError(f'"{folder}" is no folder of a run: it has no {folder.config.name}; name the --output of a run')
        members += [RunFacts(run.path) for run in own]
    return _page(f"{len(members)} runs side by side", members, Parts(), [], [])


def _page(title: str, members: list[RunFacts], parts: Parts, first: list[str], more: list[RunFacts]) -> str:
    generated = any(facts.generated for facts in (*members, *more))
    frame = Frame(generated)
    read = [facts.attempt(functools.partial(read_run, facts.folder.path)) for facts in members]
    runs = [run for run in read if run is not None]
    compared = _compared(runs, parts) if runs else None
    sections = [
        *first,
        parts.attempt("The table of the runs", functools.partial(_runs, members)),
        *([] if compared is None else [
            parts.attempt("The comparison", functools.partial(_comparison, compared, members[0], frame)),
        ]),
        parts.attempt("What the runs differ in", functools.partial(_keys, members)),
        parts.attempt("The losses", functools.partial(_losses, members, frame)),
    ]
    verdict = [f'<p class="lead">{text(said)}</p>' for said in ([] if compared is None else _sentences(compared))]
    verdict += [f'<p><span class="gen">generated images</span> {text(GENERATED)}</p>'] * generated
    notes = parts.notes([fault for facts in (*members, *more) for fault in facts.faults])
    images = " (generated images)" if generated else ""
    return page(title + images, [f"<h1>{text(title + images)}</h1>", notes, *verdict, contents(sections), *sections], STYLE)


def _compared(runs: list[EvaluatedRun], parts: Parts) -> Compared | None:
    """Return the comparison; None, with the reason among the notes, where the runs do not compare."""
    try:
        return compare_runs(runs, _SCORES, resamples=_RESAMPLES)
    except InputError as error:
        parts.faults.append(f"No differences are shown: {error}")
        return None


def _series(facts: RunFacts) -> str:
    variants = [row for row in facts.rows if "variant" in row]
    if not variants:
        return figures(facts, measure(facts))
    last = {(row["variant"], row["dataset"], row.get("protocol")): row for row in variants}
    rows = [
        {"variant": row["variant"], "data set": row["dataset"], "feature": row["feature"],
         **{find_score(name).title: f"{100 * value:.2f}" for name, value in row_scores(row).items()}} for row in last.values()
    ]
    return section("figures", "Figures", [table(rows, "Figures of the variants")])


def _names(members: Sequence[RunFacts]) -> list[str]:
    """Return the folders of runs without what all have in common."""
    paths = [os.path.abspath(facts.folder.path) for facts in members]  # noqa: PTH100  # links stay as the user named them
    common = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    return [os.path.relpath(path, common) for path in paths]


def _runs(members: Sequence[RunFacts]) -> str:
    rows = []
    for name, facts in zip(_names(members), members):
        run = {"run": name, "seed": None if facts.cfg is None else facts.cfg.train.seed}
        counting = [one for one in measure(facts) if one.counts]
        for one in counting:
            scores = {}
            for score, value in row_scores(one.row).items():
                if score not in _TABLED:
                    continue
                found = one.estimates.get(score)
                scores[find_score(score).title] = percent(value) + (f" ({span(found.low, found.high)})" if found else "")
            rows.append({**run, "data set": one.title, "protocol": one.row.get("protocol", ""), **scores})
        if not counting:
            rows.append({**run, "data set": state_of(facts), "protocol": ""})
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return section("runs", "The runs", [
        table([{key: row.get(key, "") for key in keys} for row in rows], "The runs"),
        '<p class="soft wide">In brackets: the 95 % interval over test persons, of each run by itself. Two intervals that '
        "overlap do not say that two runs are alike: the differences below are of the same queries.</p>" if len(rows) > 1 else "",
    ])


def _sentences(compared: Compared) -> list[str]:
    return [
        f"{found.dataset}: {sentence(one, find_score(found.score).title, compared.level)}"
        for found in compared.tables for one in found.comparisons
    ]


def _comparison(compared: Compared, facts: RunFacts, frame: Frame) -> str:
    charts, lines, changes = [], [], []
    for found in compared.tables:
        title = find_score(found.score).title
        named = f"{title} of {found.dataset}, {found.feature}"
        means = {name: (one.mean, one.low, one.high) for name, one in found.estimates.items()}
        charts.append(_intervals(means, f"{title} (%)", f"{named}, with {100 * compared.level:g} % intervals", frame, False))
        differences = {f"{one.a} − {one.b}": (one.difference, one.low, one.high) for one in found.comparisons}
        if differences:
            charts.append(_intervals(differences, "points", f"Differences of {named}, on the same queries", frame, True))
        lines += [
            {"data set": found.dataset, "metric": title, "difference": f"{one.a} − {one.b}",
             "points": f"{100 * one.difference:+.2f}", "interval": span(one.low, one.high), "p": f"{one.p_value:.4f}",
             "smallest that shows": f"{100 * one.smallest:.2f}",
             "better / worse / alike": f"{one.wins} / {one.losses} / {one.ties}"}
            for one in found.comparisons
        ]
        if found.score == "mAP":
            changes.append(_changes(found, facts, frame))
    return section("differences", "Differences", [
        frame.charts(charts), table(lines, "Differences") if lines else "",
        '<p class="soft wide">p-values are corrected for the number of pairs (Holm). Runs that differ in the seed alone are one '
        "method.</p>" if lines else "", *changes,
    ])


def _intervals(rows: dict[str, tuple[float, float, float]], unit: str, label: str, frame: Frame, zero: bool) -> str:
    short = {name if len(name) <= 52 else f"{name[:25]}…{name[-25:]}": values for name, values in rows.items()}
    return frame.figure(figure_svg(intervals_figure(short, unit, zero), label), label, f"<b>{text(label)}</b>")


def _changes(found: Table, facts: RunFacts, frame: Frame) -> str:
    """Return the queries whose average precision changed most, per pair of methods."""
    target = found.dataset.partition(": ")[0]
    items = facts.items(target)
    if items is None or facts.cfg is None:
        return ""
    root = str(facts.cfg.data.root)
    known = {relative(item[0], root): item for item in items["query"]}
    parts = []
    for (a, b), queries in found.changes.items():
        shots = []
        for query in queries:
            item = known[query.path]
            kind = facts.modality(target, item[2])
            lines = [f"<b>id {query.pid}</b>", f"{100 * query.a:.0f} | {100 * query.b:.0f}"]
            url = image_url(item[0], SIZE, kind == "infrared")
            shots.append(frame.shot(url, f"{kind} query of person {query.pid}", lines))
        if any(shots):
            label = f"Queries of {found.dataset} that changed most, {a} and {b}"
            caption = (
                f"<b>Queries that changed most</b>: average precision (%) under {text(a)} | {text(b)}, the largest gains of the "
                f"first before the largest of the second. Infrared brightness is stretched for display."
            )
            parts.append(frame.figure(f'<div class="row">{"".join(shots)}</div>', label, caption, "rows"))
    return "".join(parts)


def _keys(members: Sequence[RunFacts]) -> str:
    """Return the keys of the config that differ between the runs."""
    configs = {
        name: dict(flatten(yaml.safe_load(facts.cfg.dump())))
        for name, facts in zip(_names(members), members) if facts.cfg is not None
    }
    known = list(dict.fromkeys(key for config in configs.values() for key in config if key != "data.save_dir"))
    keys = [key for key in known if len({str(config.get(key)) for config in configs.values()}) > 1]
    rows = [{"run": name, **{key: str(config.get(key)) for key in keys}} for name, config in configs.items()]
    return section("keys", "What they differ in", [table(rows, "Keys that differ")]) if keys else ""


def _losses(members: Sequence[RunFacts], frame: Frame) -> str:
    histories = {name: facts.train for name, facts in zip(_names(members), members) if facts.train}
    chosen = dict(list(histories.items())[:_DRAWN])
    panels: dict[str, str] = {}
    for history in chosen.values():
        panels |= {title: names[0] for title, names in training_panels(history).items()}
    charts = []
    for title, key in panels.items():
        figure = new_figure((3.5, 2.3 + 0.17 * len(chosen)), layout="constrained")
        axes = figure.subplots()
        draw_runs(axes, chosen, key)
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        label = f"{title} by epoch of {len(chosen)} runs"
        charts.append(frame.figure(figure_svg(figure, label), label, f"<b>{text(title)}</b>"))
    more = f'<p class="soft">The first {_DRAWN} of {len(histories)} runs.</p>' if len(histories) > _DRAWN else ""
    return section("training", "How the trainings went", [frame.charts(charts), more]) if charts else ""
