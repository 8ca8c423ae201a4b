"""The first part of the page: what was trained, and what its test says, with intervals and published figures."""
from __future__ import annotations

__all__ = ["Measured", "brief", "figures", "measure", "state_of", "verdict"]

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.published import published_beside
from torchreid_nas.evidence.sides import Estimate, Side, estimate
from torchreid_nas.evidence.store import StoredTest
from torchreid_nas.evidence.words import GENERATED
from torchreid_nas.metrics.scores import SCORES, find_score, ordered_scores, row_scores
from torchreid_nas.report.html import cell, scrolling, table, text
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import percent, section, span

_RESAMPLES = 2000
_LONG = 160
_WITH_INTERVAL = ("rank1", "mAP", "mINP")


@dataclasses.dataclass(frozen=True)
class Measured:
    """An entry of ``results.json`` with what its scores say besides.

    Attributes:
        row: the entry.
        test: the scores of its queries; None where they are not kept.
        estimates: by metric, with 95 % intervals.
        counts: whether the feature is the one that counts, the last of its target and protocol.
    """

    row: Mapping[str, Any]
    test: StoredTest | None
    estimates: Mapping[str, Estimate]
    counts: bool

    @property
    def title(self) -> str:
        """The name of the test for headings: the target and its direction, the protocol where there are others."""
        direction = f", {self.row['direction']}" if self.row.get("direction") else ""
        return f"{self.row['dataset']}{direction}"

    @property
    def chance(self) -> float | None:
        """Rank-1 of a random order."""
        if self.test is None or not self.row["ranks"]:
            return None
        return float(np.mean([trial.positives[trial.valid].mean() / trial.gallery for trial in self.test.trials]))


def measure(facts: RunFacts) -> list[Measured]:
    """Return the entries of the results in their order."""
    last = {(row["dataset"], row.get("protocol")): row["feature"] for row in facts.rows}
    found = []
    for row in facts.rows:
        counts = last[row["dataset"], row.get("protocol")] == row["feature"]
        test = facts.scores.get((row["dataset"], row.get("protocol", ""), row["feature"]))
        estimates: dict[str, Estimate] = {}
        if test is not None and not test.drawn_queries:
            for name in (name for name in _WITH_INTERVAL if name in row_scores(row)):
                with_interval = facts.attempt(functools.partial(_estimate, test, name))
                if with_interval is not None:
                    estimates[name] = with_interval
        found.append(Measured(row, test, estimates, counts))
    return found


def _estimate(test: StoredTest, name: str) -> Estimate:
    scores = test.scores(name)[None]
    if not np.isfinite(scores).all():
        raise InputError(f"The scores of {find_score(name).title} of {test.dataset} are not finite, so that none are shown.")
    return estimate(Side("", scores, test.pids[test.valid], (0,)), resamples=_RESAMPLES)


def state_of(facts: RunFacts) -> str:
    """Return how far a run that is not finished is, in one sentence; ``""`` for a finished one."""
    if facts.rows:
        return ""
    cfg, said = facts.cfg, []
    for name, history, section_name in (("search", facts.search, "search"), ("training", facts.train, "train")):
        if history:
            epochs = f" of {cfg[section_name].max_epoch}" if cfg is not None else ""
            said.append(f"{len(history)}{epochs} epochs of the {name} are done")
    return f"The run is not finished: {' and '.join(said) or 'no epoch is done'}; nothing is tested."


def verdict(facts: RunFacts, measured: Sequence[Measured]) -> str:
    """Return what was trained and what its test says, in sentences and large figures."""
    main = [one for one in measured if one.counts]
    return "\n".join(filter(None, [
        f'<p class="lead">{text(_trained(facts))}</p>',
        f'<p class="verdict warning" style="color:var(--c)">{text(state_of(facts))}</p>' if state_of(facts) else "",
        *(f'<p class="lead">{text(_sentence(one))}</p>' for one in main),
        f'<p><span class="gen">generated images</span> {text(GENERATED)}</p>' if facts.generated else "",
        *(_tiles(one) for one in main[:2]),
    ]))


def figures(facts: RunFacts, measured: Sequence[Measured]) -> str:
    """Return the section of all figures, with published ones."""
    return section("figures", "Figures", [_figures(measured), _published(facts, [one for one in measured if one.counts])])


def _trained(facts: RunFacts) -> str:
    """Return what was trained, and on what."""
    cfg = facts.cfg
    if cfg is None:
        return "The config of the run cannot be read."
    images = " (generated images)" if facts.generated else ""
    data = " + ".join(cfg.data.sources)
    if cfg.model.load_weights and not facts.train:
        return f"{cfg.model.name} with the weights {cfg.model.load_weights}, tested on {' + '.join(cfg.data.targets)}{images}."
    count = len(facts.train)
    epochs = f", {count} epoch{'s' if count > 1 else ''} at {cfg.data.height} × {cfg.data.width} pixels" if count else ""
    found = f" Its architecture: {brief(facts.architecture)}." if facts.architecture is not None else ""
    return f"{cfg.model.name}, trained on {data}{images}{epochs}, seed {cfg.train.seed}.{found}"


def brief(architecture: Architecture) -> str:
    """Return an architecture in a few words: without the list of its slots where that is long."""
    said = str(architecture)
    return said if len(said) <= _LONG else said.partition(":")[0]


def _sentence(one: Measured) -> str:
    """Return what an entry says, in words."""
    row, scores = one.row, row_scores(one.row)
    if not row["ranks"]:
        name = next(iter(scores))
        return f"{find_score(name).title} on {row['dataset']}: {percent(scores[name])} of {row['num_valid_queries']:,} images."
    found = one.estimates.get("rank1")
    interval = f" (95 % interval {span(found.low, found.high)})" if found else ""
    chance = f"; by chance {percent(one.chance)}" if one.chance is not None else ""
    trials = f", mean over {row['num_trials']} galleries" if row["num_trials"] > 1 else ""
    return (
        f"{one.title}: the right person stands first for {percent(scores['rank1'])}{interval} of {row['num_valid_queries']:,} "
        f"queries{trials}{chance}. Protocol: {row.get('protocol', 'not known')}; feature {row['feature']}."
    )


def _tiles(one: Measured) -> str:
    tiles = []
    for name, found in one.estimates.items():
        tiles.append(
            f'<div class="tile"><span>{text(SCORES[name].title if name in SCORES else find_score(name).title)}</span>'
            f"<b>{percent(found.mean)}</b><span>{span(found.low, found.high)}</span></div>"
        )
    return f'<p class="soft">{text(one.title)}</p><div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _figures(measured: Sequence[Measured]) -> str:
    """Return the table of all figures."""
    scores = ordered_scores(name for one in measured for name in row_scores(one.row))
    rows = []
    for one in measured:
        own, deviations = row_scores(one.row), row_scores(one.row, "_std") if one.row["num_trials"] > 1 else {}
        values = {}
        for score in scores:
            value = f"{100 * own[score.name]:.2f}" if score.name in own else ""
            found = one.estimates.get(score.name)
            within = f" ({span(found.low, found.high)})" if found else ""
            values[score.title] = value + (f" ± {100 * deviations[score.name]:.2f}" if score.name in deviations else "") + within
        rows.append({
            "data set": one.row["dataset"], "direction": one.row.get("direction", ""), "feature": one.row["feature"],
            "protocol": one.row.get("protocol", ""), **values,
            "queries": one.row["num_valid_queries"], "galleries": one.row["num_trials"],
        })
    # What all rows have in common stands below the table: the table then fits into the page.
    common = [key for key in ("protocol", "queries", "galleries") if len({row[key] for row in rows}) == 1]
    common += ["direction"] * (not any(row["direction"] for row in rows))
    below = "; ".join(f"{key}: {rows[0][key]:,}" if key != "protocol" else f"{key}: {rows[0][key]}"
                      for key in common if rows and key != "direction")
    rows = [{key: value for key, value in row.items() if key not in common} for row in rows]
    said = ""
    if any(one.estimates for one in measured):
        said = (
            '<p class="soft wide">In percent. In brackets: the 95 % interval, what other test persons would have given; another '
            "training of the same config is not in it.</p>"
        )
    return table(rows, "Figures of the test") + (f'<p class="soft">{text(below)}.</p>' if below else "") + said if rows else ""


def _published(facts: RunFacts, main: Sequence[Measured]) -> str:
    """Return published figures of the same protocol, each beside the measured one."""
    if not main or not main[0].row["ranks"]:
        return ""
    if facts.generated:
        return '<p class="wide">Nothing that is published stands beside these figures: they are of generated images.</p>'
    sources = (facts.results.get("data") or {}).get("sources")
    parts = []
    for one in main:
        known = published_beside(one.row, sources)
        if not known:
            continue
        own = row_scores(one.row)
        lines = [("this run", f"{100 * own['rank1']:.2f}", f"{100 * own['mAP']:.2f}", "", "")]
        lines += [(f.method, f"{f.rank1:.2f}", f"{f.mAP:.2f}", f.source, f.note) for f in known]
        body = "".join(
            f'<tr{" class=best" if not place else ""}>{"".join(f"<td>{cell(value)}</td>" for value in line)}</tr>'
            for place, line in enumerate(lines)
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("method", "Rank-1", "mAP", "source", "note"))
        title = f"{one.row['dataset']}, published under {known[0].protocol}"
        parts += [
            f"<h3>{text(title)}</h3>", scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", title),
        ]
    return "\n".join(parts) or '<p class="wide">Nothing is published under the protocol of these figures.</p>'
