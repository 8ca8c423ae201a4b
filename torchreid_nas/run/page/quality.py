"""What a network does well and badly: CMC, distances, ranked lists, hard persons, confused pairs, cameras, a map."""
from __future__ import annotations

__all__ = ["SIZE", "Target", "quality"]

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from torchreid_nas.data.dataset import Item
from torchreid_nas.data.display import STRETCHED
from torchreid_nas.engine.scoring import ScoredFeatures
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.intervals import interval
from torchreid_nas.report.html import image_url, table, text
from torchreid_nas.report.retrieval_figures import cmc_figure, distances_figure, features_figure
from torchreid_nas.report.svg import figure_svg
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import Frame, percent, section, span
from torchreid_nas.run.page.ranking import Rankings, Side, pair_histograms, rank_sample
from torchreid_nas.run.page.verdict import Measured

_RANKS = 20
_RESAMPLES = 1000
_FAR = 0.01
_LISTS = 3  # right and wrong ones
_HARDEST, _CONFUSED = 8, 6
_MAPPED, _OF_MAPPED = 10, 8  # identities of the map, images of each per modality
SIZE = 148, 296
"""Width and height of a small picture in pixels, twice what the page shows."""


@dataclasses.dataclass
class Target:
    """A tested target with what the run kept of it.

    Attributes:
        facts: of the run.
        measured: its figures, of the feature that counts.
        frame: of the page.
    """

    facts: RunFacts
    measured: Measured
    frame: Frame

    @property
    def name(self) -> str:
        """The name of the target."""
        return str(self.measured.row["dataset"])

    @functools.cached_property
    def scored(self) -> ScoredFeatures | None:
        """The features of the test under the protocol of the figures; None where they are not kept."""
        scored = self.facts.features.get(self.name)
        if scored is None or len(scored.q_pids) == 0:
            return None
        tests = [test for test in scored.tests if test.protocol.name == self.measured.row.get("protocol_name")]
        plain = [test for test in tests or scored.tests if not test.protocol.transposed]
        return dataclasses.replace(scored, tests=plain) if plain else None

    @functools.cached_property
    def items(self) -> Mapping[str, Sequence[Item]] | None:
        """The images of the test; None where they are not there any more."""
        items, scored = self.facts.items(self.name), self.scored
        fits = scored is None or items is None or (len(scored.q_pids), len(scored.g_pids)) == tuple(map(len, items.values()))
        return items if fits else None

    @functools.cached_property
    def rankings(self) -> Rankings | None:
        """The ranked lists; None without features."""
        cfg = self.facts.cfg
        if self.scored is None or cfg is None:
            return None
        return rank_sample(self.scored, cfg.test.dist_metric, cfg.test.normalize_feature)

    def modality(self, item: Item) -> str:
        """Return the modality of an image."""
        return self.facts.modality(self.name, item[2])

    def shot(self, part: str, place: int, lines: Sequence[str], kind: str = "", alt: str = "") -> str:
        """Return a small picture of an image of the test; ``""`` where it cannot be shown."""
        if self.items is None:
            return ""
        item = self.items[part][place]
        infrared = self.modality(item) == "infrared"
        alt = alt or f"person {item[1]}, {self.modality(item)} image, camera {item[2] + 1}"
        return self.frame.shot(image_url(item[0], SIZE, infrared), alt, lines, kind)

    def note(self, *parts: str) -> str:
        """Return what a caption says of the images of some parts of the test."""
        items = [item for part in parts for item in (self.items or {}).get(part, ())]
        notes = [STRETCHED] * any(self.modality(item) == "infrared" for item in items)
        if "gallery" in parts and self.facts.cfg is not None and self.facts.cfg.test.rerank:
            notes.append("lists before re-ranking")
        said = "; ".join(notes)
        return text(f"{said[:1].upper()}{said[1:]}.") if said else ""


def quality(target: Target, number: int, first: bool) -> str:
    """Return the section of a target.

    Args:
        target: one with ranks.
        number: of the target, for links.
        first: whether no section before shows the same images; two directions of one test share what is the same of both.
    """
    return section(f"target{number}", f"What it does well and badly: {target.measured.title}", [
        target.frame.charts([_cmc(target), *_distances(target, first), _map(target) if first else ""]),
        _lists(target), _hardest(target), _confused(target), _cameras(target),
    ])


def _cmc(target: Target) -> str:
    test = target.measured.test
    if test is None or test.drawn_queries:
        return ""
    pids = test.pids[test.valid]
    bands = [interval(test.scores(f"rank{rank}").mean(axis=0), pids, resamples=_RESAMPLES) for rank in range(1, _RANKS + 1)]
    curve, low, high = np.array(bands).T
    label = f"CMC of {target.measured.title}: {percent(curve[0])} at rank 1, {percent(curve[4])} at 5, {percent(curve[-1])} at 20"
    return target.frame.figure(
        figure_svg(cmc_figure(curve, low, high, target.measured.chance or 0.0), label), label,
        "<b>CMC.</b> Queries whose right person stands at this rank or before; the band is the 95 % interval over persons.",
    )


def _distances(target: Target, first: bool) -> list[str]:
    scored = target.scored
    if scored is None:
        return []
    sides = {
        "query": (scored.query[-1], scored.q_pids, scored.q_camids),
        "gallery": (scored.gallery[-1], scored.g_pids, scored.g_camids),
    }
    kinds = {part: _kind(target, camids) for part, (_, _, camids) in sides.items()}
    apart = kinds["query"] != kinds["gallery"]
    title = f"{kinds['query']} to {kinds['gallery']}" if apart else "query to gallery"
    panels: list[tuple[str, Side, Side | None]] = [(title, sides["query"], sides["gallery"])]
    if first and apart:
        # Within a modality a person often has one camera: pairs of one camera count there.
        panels += [
            (f"within {kinds[part]}", (features, pids, np.full_like(camids, -1)), None)
            for part, (features, pids, camids) in sides.items()
        ]
    charts = []
    for title, left, right in panels:
        try:
            roc, edges, same, different = pair_histograms(left, right)
            point = roc.at_far(_FAR)
        except InputError:
            continue
        label = (
            f"Distances {title}: a threshold of {point.distance:.3f} accepts {percent(point.far)} of the pairs of different "
            f"persons and {percent(point.tar)} of the pairs of the same person"
        )
        figure = distances_figure(edges, same, different, (point.distance, f"threshold, FAR {_FAR:.0%}"))
        cameras = "" if right is not None else " Pairs of one camera count."
        charts.append(target.frame.figure(
            figure_svg(figure, label), label,
            f"<b>Distances {text(title)}.</b> {roc.num_genuine:,} pairs of the same person, {roc.num_impostor:,} of different "
            f"persons. Threshold {point.distance:.3f} accepts {percent(point.far)} of different and {percent(point.tar)} of same "
            f"persons.{cameras}",
        ))
    return charts


def _kind(target: Target, camids: np.ndarray) -> str:
    """Return the modality of a part of the test; both where the part mixes them."""
    return " and ".join(sorted({target.facts.modality(target.name, int(camid)) for camid in np.unique(camids)}, reverse=True))


def _map(target: Target) -> str:
    """Return the first two principal components of the features of ten identities, from easy to hard ones."""
    scored = target.scored
    if scored is None:
        return ""
    features = F.normalize(torch.cat([scored.query[-1], scored.gallery[-1]]))
    pids, camids = np.concatenate([scored.q_pids, scored.g_pids]), np.concatenate([scored.q_camids, scored.g_camids])
    kinds = {int(camid): target.facts.modality(target.name, int(camid)) for camid in np.unique(camids)}
    both = [pid for pid in _by_precision(target) if {kinds[int(camid)] for camid in camids[pids == pid]} == set(kinds.values())]
    if len(both) < 2:
        return ""
    people = [both[place] for place in np.unique(np.linspace(0, len(both) - 1, _MAPPED).astype(int))]
    modalities = np.array([kinds[int(camid)] for camid in camids])
    chosen = np.concatenate([
        np.flatnonzero((pids == pid) & (modalities == kind))[:_OF_MAPPED]
        for pid in people for kind in sorted(set(kinds.values()))
    ])
    points = features[torch.from_numpy(chosen)].double().numpy()
    centred = points - points.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    variance = values**2 / (values**2).sum()
    label = f"Map of the features of {len(people)} persons by their first two principal components"
    figure = features_figure(left[:, :2] * values[:2], pids[chosen].tolist(), modalities[chosen].tolist(), variance[:2].tolist())
    return target.frame.figure(
        figure_svg(figure, label), label,
        f"<b>Map of features.</b> The first two principal components of the features of {len(people)} persons, from the easiest "
        "to the hardest. Colours and numbers are persons, shapes are modalities. Persons that mix here may be apart in others.",
    )


def _by_precision(target: Target) -> list[int]:
    """Return the identities by the mean average precision of their queries, the best first; in any order without scores."""
    test = target.measured.test
    if test is None:
        return np.unique(target.scored.q_pids).tolist() if target.scored is not None else []
    return [pid for pid, _ in reversed(_precision(target))]


def _precision(target: Target) -> list[tuple[int, float]]:
    """Return identities with the mean average precision of their queries, the worst first."""
    test = target.measured.test
    if test is None or test.drawn_queries or "mAP" not in test.trials[0].values:
        return []
    values, pids = test.scores("mAP").mean(axis=0), test.pids[test.valid]
    return sorted(((int(pid), float(values[pids == pid].mean())) for pid in np.unique(pids)), key=lambda one: one[1])


def _lists(target: Target) -> str:
    """Return ranked lists whose first image is right, and such whose first image is wrong, drawn at random."""
    rankings, scored = target.rankings, target.scored
    if rankings is None or scored is None or target.items is None:
        return ""
    parts = []
    ranked = rankings.right.any(axis=1) | (rankings.nearest[:, 0] >= 0)
    for title, chosen in (("right", rankings.right[:, 0]), ("wrong", ~rankings.right[:, 0] & ranked)):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(chosen))
        # One list per person.
        of_person = {int(scored.q_pids[rankings.queries[row]]): row for row in reversed(rows.tolist())}
        shown = [row for row in rows.tolist() if row in of_person.values()][:_LISTS]
        lines = [_list(target, scored, rankings, row) for row in shown]
        if any(lines):
            share = percent(len(rows) / max(1, ranked.sum()))
            parts.append(target.frame.figure(
                "".join(lines), f"Ranked lists whose first image is {title}",
                f"<b>First image {title}</b>, as for {share} of the {'' if rankings.whole else 'sampled '}queries; "
                f"{len(shown)} drawn at random. {target.note('query', 'gallery')}", "rows",
            ))
    return "<h3>Ranked lists</h3>" + "".join(parts) if parts else ""


def _list(target: Target, scored: ScoredFeatures, rankings: Rankings, row: int) -> str:
    query = int(rankings.queries[row])
    shots = [target.shot("query", query, ["<b>query</b>", f"id {scored.q_pids[query]}"], "query")]
    for rank, (place, right) in enumerate(zip(rankings.nearest[row].tolist(), rankings.right[row].tolist()), 1):
        if place >= 0:
            kind, sign = ("right", "✓") if right else ("wrong", "✗")
            said = "the right person" if right else "another person"
            alt = f"rank {rank}, {said}: person {scored.g_pids[place]}"
            shots.append(target.shot("gallery", place, [f"<b>{rank} {sign}</b>", f"id {scored.g_pids[place]}"], kind, alt))
    return f'<div class="row">{"".join(shots)}</div>' if all(shots) else ""


def _hardest(target: Target) -> str:
    hardest = _precision(target)[:_HARDEST]
    test = target.measured.test
    if not hardest or test is None:
        return ""
    shots, rows = [], []
    for pid, value in hardest:
        places = np.flatnonzero((test.pids == pid) & test.valid)
        shots.append(target.shot("query", int(places[0]), [f"<b>id {pid}</b>", f"AP {percent(value)}"]))
        rows.append({"person": pid, "mean AP (%)": f"{100 * value:.1f}", "queries": len(places)})
    title = f"The {len(hardest)} persons whose queries are served worst"
    caption = f"<b>Hardest persons</b>, by the mean average precision of their queries. {target.note('query')}"
    shown = target.frame.figure(f'<div class="row">{"".join(shots)}</div>', title, caption, "rows") if any(shots) else ""
    return f"<h3>Hardest persons</h3>{shown or table(rows, title)}"


def _confused(target: Target) -> str:
    rankings, scored = target.rankings, target.scored
    if rankings is None or scored is None:
        return ""
    pairs = rankings.confused(scored.q_pids, scored.g_pids)[:_CONFUSED]
    if not pairs:
        return ""
    shown, rows = [], []
    for (one, other), count, row in pairs:
        total = int((scored.q_pids[rankings.queries] == one).sum())
        said = f"{count} of {total} queries"
        shown.append(
            f'<div class="row">{target.shot("query", int(rankings.queries[row]), [f"<b>id {one}</b>", said], "query")}'
            f'{target.shot("gallery", int(rankings.nearest[row, 0]), [f"<b>id {other}</b>", "stands first"], "wrong")}</div>'
        )
        rows.append({"person": one, "taken for": other, "queries": said})
    title = "Pairs of persons that are confused most often"
    note = target.note("query", "gallery")
    caption = f"<b>Most confused pairs</b>: left the query, right the person that stands first instead. {note}"
    pictures = "" if target.items is None else target.frame.figure(
        f'<div class="pairs">{"".join(shown)}</div>', title, caption, "rows"
    )
    return f"<h3>Most confused pairs</h3>{pictures or table(rows, title)}"


def _cameras(target: Target) -> str:
    test = target.measured.test
    if test is None or test.drawn_queries or "mAP" not in test.trials[0].values:
        return ""
    pids, camids = test.pids[test.valid], test.camids[test.valid]
    hits, precision = test.scores("rank1").mean(axis=0), test.scores("mAP").mean(axis=0)
    rows = []
    for camid in np.unique(camids).tolist():
        chosen = camids == camid
        found = interval(hits[chosen], pids[chosen], resamples=_RESAMPLES) if len(np.unique(pids[chosen])) > 1 else None
        rows.append({
            "camera of the query": f"{camid + 1} ({target.facts.modality(target.name, camid)})",
            "queries": int(chosen.sum()), "persons": len(np.unique(pids[chosen])),
            "Rank-1 (%)": f"{100 * hits[chosen].mean():.1f}" + (f" ({span(found.low, found.high)})" if found else ""),
            "mAP (%)": f"{100 * precision[chosen].mean():.1f}",
        })
    return "<h3>By camera</h3>" + table(rows, f"Figures of {target.measured.title} by camera")
