"""Zoo entries under test: whether a config fits the entry, and the measured figures beside the published ones."""
from __future__ import annotations

__all__ = ["comparison_table", "measured_figure", "tested_entry"]

from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from torchreid_nas.errors import InputError
from torchreid_nas.hub.catalogue import find_entry
from torchreid_nas.hub.entry import ZOO_PREFIX, Entry, Figure
from torchreid_nas.metrics.scores import SCORES, ordered_scores, row_scores


def tested_entry(cfg: CfgNode) -> Entry | None:
    """Return the entry that ``model.load_weights`` names, None when it names a file or nothing.

    Raises:
        InputError: an unknown entry, or an entry of another model than the config's.
    """
    if not cfg.model.load_weights.startswith(ZOO_PREFIX):
        return None
    entry = find_entry(cfg.model.load_weights)
    if entry.model != cfg.model.name:
        config = f"--config {entry.config[0]}" if entry.config else f"model.name {entry.model}"
        raise InputError(
            f'model.load_weights names the zoo entry "{entry.name}", a {entry.model}, and model.name is '
            f"{cfg.model.name}; use {config}"
        )
    return entry


def comparison_table(entry: Entry, rows: Sequence[Mapping[str, Any]], cfg: CfgNode) -> str:
    """Return measured figures beside those that the entry publishes, in percent, with a word where they do not compare.

    Args:
        entry: what was tested.
        rows: the entries of ``results.json``.
        cfg: what they were measured with.
    """
    from tabulate import tabulate

    figures = [("measured", figure) for figure in map(measured_figure, rows)]
    figures += [("published", figure) for figure in entry.published]
    scores = ordered_scores(name for _, figure in figures for name in figure.scores)
    table = [
        [
            figure.dataset, figure.feature, kind, *(figure.percent(score.name) for score in scores), figure.protocol,
            figure.source,
        ]
        for kind, figure in sorted(figures, key=lambda item: item[1].dataset)
    ]
    headers = ["data set", "feature", "", *(score.title for score in scores), "protocol", "source"]
    align = ["left"] * 3 + ["right"] * len(scores) + ["left"] * 2
    lines = [
        f"zoo:{entry.name}, measured here beside published (percent)",
        tabulate(table, headers=headers, colalign=align, disable_numparse=True),
        *_caveats(entry, rows, cfg),
    ]
    return "\n".join(lines)


def measured_figure(row: Mapping[str, Any], source: str = "this run") -> Figure:
    """Return the figure of an entry of ``results.json``."""
    scores = {name: 100 * value for name, value in row_scores(row).items() if name in SCORES}
    return Figure(row["dataset"], scores, source, row["protocol"], row["feature"])


def _caveats(entry: Entry, rows: Sequence[Mapping[str, Any]], cfg: CfgNode) -> list[str]:
    lines = []
    if cfg.synthetic.enabled:
        lines.append("The images are generated: what was measured does not compare with anything published.")
    if (cfg.data.height, cfg.data.width) != (entry.height, entry.width):
        lines.append(
            f"Measured at {cfg.data.height}x{cfg.data.width}, published at {entry.height}x{entry.width} pixels."
        )
    if (tuple(cfg.data.norm_mean), tuple(cfg.data.norm_std)) != (entry.norm_mean, entry.norm_std):
        lines.append("Measured with other data.norm_mean and data.norm_std than the entry names.")
    if cfg.data.interpolation != entry.interpolation:
        lines.append(f"Measured with data.interpolation {cfg.data.interpolation}, published with {entry.interpolation}.")
    published = {figure.dataset for figure in entry.published}
    missing = sorted({row["dataset"] for row in rows} - published)
    if missing:
        lines.append(f"Nothing is published on {', '.join(missing)}.")
    return lines
