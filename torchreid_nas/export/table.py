"""The tables of the command: files with their checks, and the cost of quantisation."""
from __future__ import annotations

__all__ = ["accuracy_table", "check_table"]

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from torchreid_nas.export.exporter import ExportedFile
from torchreid_nas.metrics import RankingResult
from torchreid_nas.metrics.scores import ordered_scores


def check_table(files: Sequence[ExportedFile], runtime: str) -> str:
    """Return a table of every file, batch size and kind of images: size, difference, cosine, latency.

    Args:
        files: files that passed their check.
        runtime: name of the program that runs the files, for the heading.
    """
    rows = []
    timed = any(check.unquantized is not None for file in files for check in file.checks)
    for file in files:
        size = f"{file.path.stat().st_size / 2**20:.1f}"
        for number, check in enumerate(file.checks):
            times = [f"{1000 * seconds:.2f}" for seconds in (check.eager, check.unquantized, check.exported) if seconds]
            for kind, found in (("random", check.random), ("real", check.real)):
                if found is None:
                    continue
                first = kind == "random"
                rows.append([
                    file.path.name if first and number == 0 else "", size if first and number == 0 else "",
                    str(check.batch_size) if first else "", f"{found.images} {kind}", f"{found.difference:.2e}",
                    f"{found.relative:.1e}", f"{found.cosine:.6f}", *(times if first else [""] * len(times)),
                ])
    headers = [
        "file", "MiB", "batch", "images", "largest\ndifference", "of mean\nlength", "least\ncosine",
        "ms/image,\nPyTorch", *([f"{runtime}\nfloat", f"{runtime}\nint8"] if timed else [runtime]),
    ]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1))


def accuracy_table(results: Mapping[str, tuple[RankingResult, RankingResult]], directions: Mapping[str, str]) -> str:
    """Return a table of Rank-1 and mAP, in percent, of the float and the int8 network on every target.

    Args:
        results: name of each target -> (float, int8) results.
        directions: name of each target -> direction of its queries.
    """
    scores = ordered_scores(("rank1", "mAP"))
    rows = []
    for name, (before, after) in results.items():
        row = [name, directions[name]]
        for left, right in ((score.value(before), score.value(after)) for score in scores):
            row += [f"{100 * left:.2f}", f"{100 * right:.2f}", f"{100 * (right - left):+.2f}"]
        rows.append(row)
    columns = [f"{score.title}\n{which}" for score in scores for which in ("float", "int8", "difference")]
    labels = ["data set", "direction"]
    if not any(directions.values()):
        # Data of one modality have no direction.
        labels, rows = labels[:1], [[row[0], *row[2:]] for row in rows]
    align = ["left"] * len(labels) + ["right"] * len(columns)
    return tabulate(rows, headers=[*labels, *columns], disable_numparse=True, colalign=align)
