"""MODEL_ZOO.md, written from the entries: this module counts parameters, and every quoted figure names its source."""
from __future__ import annotations

__all__ = ["network_size", "zoo_markdown"]

import json
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from torchreid_nas.architecture import SHARE, SPLIT
from torchreid_nas.hub.entry import FROM_FILE, Entry
from torchreid_nas.metrics.scores import ordered_scores
from torchreid_nas.models.size import model_size
from torchreid_nas.zoo.networks import build_model

_SECTIONS = {
    "cdnet_authors": "CDNet and CNet, by their authors",
    "cmnas_authors": "CM-NAS, by its authors",
    "torchreid": "Torchreid's own networks, for comparison",
    "ours": "Trained with this package",
}
_INTRODUCTION = """\
# Model zoo

Written by `torchreid-nas zoo table` from the entries in [`torchreid_nas/hub/entries/`](torchreid_nas/hub/entries); do
not edit it by hand.

**Whose figures these are.** {whose}

Parameters and multiply-adds are counted by this project on the networks that it builds, as used at test time (no
classifier, no layers that only training uses), for one image of the size given. A file without a published checksum
is held to the sha256 of its first download, which is kept beside it.

DukeMTMC-reID is withdrawn: its authors no longer distribute it. Networks that were trained on it are listed for whoever
must repeat an old figure.

```
torchreid-nas zoo info cdnet_market1501_pretrained
torchreid-nas zoo download cdnet_market1501_pretrained
torchreid-nas --config cdnet_market1501 --root <root> --stages test \\
    model.load_weights zoo:cdnet_market1501_pretrained
```
"""
_NONE_MEASURED = (
    "Every figure below was published by the authors named beside it.\n"
    "**None was measured by this project**: the data sets and the weights were not at hand."
)
_SOME_MEASURED = (
    "Figures marked *published* are those of the authors named beside them;\n"
    "only those marked *measured* were measured by this project."
)


def zoo_markdown(entries: Sequence[Entry]) -> str:
    """Return the text of MODEL_ZOO.md: per kind of source the networks, their figures, their files."""
    whose = _SOME_MEASURED if any(entry.measured for entry in entries) else _NONE_MEASURED
    parts = [_INTRODUCTION.format(whose=whose)]
    sizes: dict[str, tuple[str, str]] = {}
    for kind, title in _SECTIONS.items():
        chosen = [entry for entry in entries if entry.format == kind]
        if chosen:
            parts += [f"## {title}\n", _networks(chosen, sizes), "", _figures(chosen), "", _files(chosen), ""]
            parts += [*_grouped(chosen, "licence"), *_grouped(chosen, "note"), ""]
    return "\n".join(parts).rstrip() + "\n"


def network_size(entry: Entry) -> tuple[str, str]:
    """Return parameters at test time and MACs of one image as text.

    Where only the file tells which BatchNorms are split, the parameters are
    those of none and of all; the multiply-adds do not depend on it.
    """
    options = dict(entry.options)
    architecture = entry.resolved_architecture()
    presets = (SHARE, SPLIT) if entry.architecture == FROM_FILE else (architecture,)
    models = [build_model(entry.model, 1, preset, **options) for preset in presets]
    sizes = [model_size(model, entry.height, entry.width) for model in models]
    parameters = " to ".join(f"{at_test:,}" for _, at_test, _ in sizes)
    return parameters, f"{sizes[0][2] / 1e6:,.1f} M"


def _networks(entries: Sequence[Entry], sizes: dict[str, tuple[str, str]]) -> str:
    rows = []
    for entry in entries:
        network = [entry.model, entry.architecture, dict(entry.options), entry.height, entry.width]
        key = json.dumps(network, sort_keys=True)
        if key not in sizes:
            sizes[key] = network_size(entry)
        parameters, macs = sizes[key]
        config = "none"
        if entry.config is not None:
            file, overrides = entry.config
            config = " ".join([f"`{file}`", *(f"`{key} {value}`" for key, value in overrides.items())])
        rows.append([
            f"`{entry.name}`", entry.model, entry.dataset, entry.modality, f"{entry.height}×{entry.width}",
            f"{entry.feature_dim}", parameters, macs, config,
        ])
    headers = [
        "entry", "model", "trained on", "modality", "image", "feature", "parameters", "MACs",
        "config that reproduces it",
    ]
    return _table(rows, headers, right=(5, 6, 7))


def _figures(entries: Sequence[Entry]) -> str:
    """One row per figure; entries that quote the same figures share the rows."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        figures = [*entry.published, *entry.measured]
        groups.setdefault(repr(figures) if figures else entry.name, []).append(entry)
    scores = ordered_scores(
        name for entry in entries for figure in (*entry.published, *entry.measured) for name in figure.scores
    )
    rows = []
    for group in groups.values():
        first, names = group[0], _names(group)
        told = [("published", figure) for figure in first.published]
        told += [("measured", figure) for figure in first.measured]
        for kind, figure in told:
            rows.append([
                names, figure.dataset, *(figure.percent(score.name) for score in scores),
                ", ".join(filter(None, (figure.protocol or first.protocol, figure.feature))),
                f"{kind}: {figure.source}",
            ])
        if not told:
            rows.append([names, first.dataset, *("" for _ in scores), first.protocol, "no figure known"])
    headers = ["entry", "data set", *(score.title for score in scores), "protocol", "who says so"]
    return _table(rows, headers, right=range(2, 2 + len(scores)))


def _files(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        source = entry.source
        link = f"[{source.kind}]({source.address})" if source.kind in ("url", "drive") else source.address
        if source.kind == "drive":
            link += f" `{source.pattern}`"
        checksum = " ".join(entry.checksum) if entry.checksum else "none published: sha256 of the first download"
        rows.append([f"`{entry.name}`", link, f"{entry.size:,}" if entry.size else "unknown", checksum])
    return _table(rows, ["entry", "file", "bytes", "checksum"], right=(2,))


def _grouped(entries: Iterable[Entry], field: str) -> list[str]:
    """One line per licence or note, with the entries that have it."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if getattr(entry, field):
            groups.setdefault(getattr(entry, field), []).append(entry)
    return [f"- {field.capitalize()} of {_names(group)}: {text}." for text, group in groups.items()]


def _names(entries: Sequence[Entry]) -> str:
    first, last = f"`{entries[0].name}`", f"`{entries[-1].name}`"
    return first if len(entries) == 1 else f"{first} … {last}"


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str], right: Iterable[int]) -> str:
    right = set(right)
    align = ["right" if column in right else "left" for column in range(len(headers))]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(escaped, headers=headers, tablefmt="pipe", colalign=align, disable_numparse=True)
