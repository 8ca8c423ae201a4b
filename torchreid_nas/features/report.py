"""Matches as text: the table on the screen, the CSV, and one sentence for a threshold."""
from __future__ import annotations

__all__ = ["describe_point", "matches_table", "summary", "write_csv"]

import csv
import io
import os
from pathlib import Path

from torchreid_nas.errors import printable
from torchreid_nas.features.matching import Matches, to_score
from torchreid_nas.features.pairs import RULE
from torchreid_nas.features.threshold import ROC, OperatingPoint
from torchreid_nas.files import write_text

_ROWS = 60
_SCORES = {"euclidean": "distance", "cosine": "similarity"}
_YES_NO = {None: "", True: "yes", False: "no"}


def matches_table(matches: Matches, threshold: float | None = None) -> str:
    """Return the table of the ranked lists: as many queries as fit into about sixty rows, at least one."""
    from tabulate import tabulate

    headers = ["query", "rank", "gallery", _SCORES[matches.metric]]
    labelled = bool(matches.queries.known_identities()) and bool(matches.gallery_identities)
    rows: list[list[str | int]] = []
    shown = 0
    query_base, gallery_base = _base(matches.queries.paths), _base([path for row in matches.paths for path in row])
    for query, path in enumerate(matches.queries.paths):
        if rows and len(rows) + len(matches.paths[query]) > _ROWS:
            break
        shown += 1
        for rank, name in enumerate(matches.paths[query]):
            distance = matches.distances[query][rank]
            score = f"{to_score(distance, matches.metric):.4f}"
            row: list[str | int] = ["" if rank else _line(path[query_base:]), rank + 1, _line(name[gallery_base:]), score]
            row += [_YES_NO[matches.is_correct(query, rank)]] if labelled else []
            row += [_verdict(distance, threshold)] if threshold is not None else []
            rows.append(row)
    headers += ["same person"] if labelled else []
    headers += ["verdict"] if threshold is not None else []
    table = tabulate(rows, headers=headers, disable_numparse=True)
    left = len(matches.queries) - shown
    return f"{table}\n… and {left:,} more queries; matches.csv of --out DIR holds them all" if left else table


def summary(matches: Matches, threshold: float | None = None) -> str:
    """Return what all lists together say, and by which rule pairs are counted."""
    lines = [f"{len(matches.queries):,} queries, {matches.gallery_size:,} gallery images"]
    known = [query for query, findable in enumerate(matches.findable) if findable]
    if known:
        hits = sum(matches.is_correct(query, 0) is True for query in known)
        chance = sum(matches.positives[query] / matches.counted[query] for query in known)
        lines.append(
            f"the same person stands first for {hits:,} of the {len(known):,} queries whose person is in the gallery "
            f"({hits / len(known):.1%}; by chance {chance / len(known):.1%})"
        )
    if threshold is not None:
        lonely = sum(not any(distance <= threshold for distance in row) for row in matches.distances)
        lines.append(f"{lonely:,} queries have no match")
    same_images, same_cameras = matches.left_out
    return "; ".join(lines) + (
        f"\n{RULE} ({same_images:,} and {same_cameras:,} pairs)" if known or same_images or same_cameras else ""
    )


def write_csv(matches: Matches, path: str | os.PathLike[str], threshold: float | None = None) -> Path:
    """Write one row per query and rank in one step and return the path.

    Columns: query, rank, gallery, distance or similarity, query_label,
    gallery_label, same_person (yes, no, or empty where a label is missing),
    and verdict (match, no match) where there is a threshold. A name or label
    that begins with = + - @ stands after an apostrophe, which keeps a
    spreadsheet from computing it.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    verdict = [] if threshold is None else ["verdict"]
    writer.writerow(
        ["query", "rank", "gallery", _SCORES[matches.metric], "query_label", "gallery_label", "same_person", *verdict]
    )
    for query, path_of_query in enumerate(matches.queries.paths):
        for rank, name in enumerate(matches.paths[query]):
            distance = matches.distances[query][rank]
            writer.writerow([
                _cell(path_of_query), rank + 1, _cell(name), f"{to_score(distance, matches.metric):.6f}",
                _cell(matches.queries.labels[query]), _cell(matches.labels[query][rank]),
                _YES_NO[matches.is_correct(query, rank)],
                *([] if threshold is None else [_verdict(distance, threshold)]),
            ])
    write_text(path, text.getvalue())
    return Path(path)


def _cell(text: str) -> str:
    """Return text for a cell that spreadsheets take for text: after = + - @ they would compute."""
    text = _line(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _line(text: str) -> str:
    """Return text, printable, on one line."""
    return printable(text).translate({ord(end): repr(end)[1:-1] for end in "\n\t"})


def describe_point(roc: ROC, point: OperatingPoint) -> str:
    """Return the sentence that tells threshold, rates and numbers of pairs."""
    rate, _ = roc.equal_error()
    return (
        f"threshold: {_SCORES[roc.metric]} {to_score(point.distance, roc.metric):.6f} accepts {point.tar:.1%} of "
        f"{roc.num_genuine:,} pairs of the same person and {point.far:.3%} ({point.false_accepts:,}) of "
        f"{roc.num_impostor:,} pairs of different persons; equal error rate {rate:.1%}; {RULE}"
    )


def _verdict(distance: float, threshold: float) -> str:
    return "match" if distance <= threshold else "no match"


def _base(paths: list[str] | tuple[str, ...]) -> int:
    """Return how much of all paths is one common folder, which the table leaves out."""
    try:
        common = os.path.commonpath({str(Path(path).parent) for path in paths})
    except ValueError:  # absolute and relative ones, or none
        common = ""
    return len(common) + 1 if common not in ("", ".", "/") else 0
