"""The figures of benchmarks: recorded as JSON by the scripts, and rendered from the JSON into RESULTS.md.

A file ``results/<machine>-<benchmark>.json`` holds the figures of one benchmark on one machine:

- ``benchmark``: name of the script, or of a table that was measured by hand;
- ``command``: that was run, or ``""``;
- ``machine``: in one line, as ``harness.machine`` names it;
- ``date``: year and month, with the day where it is known;
- ``commit``: of the code that was measured; for figures from before these files, of the text that recorded them;
- ``seconds``: that the script took, or null;
- ``figures``: a list of tables (``title``, ``headers``, ``rows`` of text), texts (``text``) and pictures (``image``, ``title``).
"""
from __future__ import annotations

__all__ = ["FOLDER", "RESULTS", "Report", "file_name", "read_results", "render", "write_page", "write_result"]

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from torchreid_nas.files import write_json, write_text

_BENCHMARKS = Path(__file__).resolve().parent
FOLDER = _BENCHMARKS / "results"
RESULTS = _BENCHMARKS / "RESULTS.md"

# Benchmark -> title of its section, in the order of RESULTS.md.
TITLES = {
    "planted_split": "Does the search find what is planted? CM-NAS",
    "planted_depth": "Does the search find what is planted? CDNet",
    "search_quality": "What searchers of split BatchNorms lose, on the tabular benchmark",
    "search_report": "The default search of CM-NAS beside all split and a random draw",
    "search_cost": "What a search step of CDNet costs",
    "ecn_ablation": "ECN's ablation on generated domains",
    "positive_prediction": "ECN++'s positive prediction",
    "controls": "Controls of the demo",
    "pretraining": "Pretraining a searched CDNet on attributes",
    "intervals": "Coverage of the intervals, and false alarms of the paired test",
    "doctor": "Does the doctor find what is planted?",
    "doctor_suspects": "Does the doctor find wrong labels?",
    "doctor_speed": "The doctor on 100,000 images",
    "demos": "The demos",
    "export": "Export",
    "normalization": "Split and searched BatchNorm",
    "backbones": "Split and searched norms on other backbones",
    "normalization_layers": "BatchNorm layers, forward and backward",
    "training_step": "A whole training step of CM-NAS",
    "memory": "ECN's memory",
    "ranking": "Protocols and ranking",
    "reranking": "k-reciprocal re-ranking",
    "index": "Galleries on disk",
    "data": "Images into the training step",
    "inference": "Inference",
    "startup": "Start-up of the command line",
    "growth": "How cost grows",
    "soak": "A soak: memory and open files over many epochs",
    "channels_last": "Channels-last against NCHW",
    "summary": "Ours against the plain implementations, in short",
    "waiting_threads": "Waiting threads",
    "launches": "Kernel launches and memory of a GPU, on a stand-in",
}
_KEYS = ("benchmark", "command", "machine", "date", "commit", "seconds", "figures")
_HEAD = """# Measurements

`python benchmarks/run_all.py` (`make bench`) writes this page from the files in [results](results). Do not edit this page.
[docs/benchmarks.md](../docs/benchmarks.md) explains the figures: what is compared, which targets are missed and why, and
what was tried. Ratios are medians over turns that ours and the plain implementation took in one process. **No time on this
page was measured on a GPU.**
"""


class Report:
    """The figures of one run of a benchmark: printed as Markdown at once, and written as JSON at the end.

    Use it as a context: a run that fails writes nothing.

    Args:
        machine: in one line.
        path: of the JSON file; None writes none.
    """

    def __init__(self, machine: str, path: Path | None = None) -> None:
        self.machine, self.path = machine, path
        self.figures: list[dict[str, Any]] = []
        print(f"{machine}\n", flush=True)

    def text(self, text: str) -> None:
        """Add a text that the figures need."""
        self._add({"text": text.strip()})

    def table(self, rows: Sequence[Sequence[Any]], headers: Sequence[str], title: str = "") -> None:
        """Add a table; cells are kept as text."""
        self._add({"title": title, "headers": list(headers), "rows": [[str(cell) for cell in row] for row in rows]})

    def image(self, path: Path, title: str) -> None:
        """Add a picture that lies below the folder of the benchmarks."""
        self._add({"image": path.resolve().relative_to(_BENCHMARKS).as_posix(), "title": title})

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self.path is not None:
            write_json(self.path, {"machine": self.machine, "figures": self.figures})

    def _add(self, figure: dict[str, Any]) -> None:
        self.figures.append(figure)
        print(f"{_render_figure(figure)}\n", flush=True)


def file_name(result: Mapping[str, Any]) -> str:
    """Return ``<machine>-<benchmark>.json``; the machine is its processor with its widest instructions, or its GPU.

    >>> file_name({"machine": "Intel(R) Xeon(R) Processor (avx2, amx_bf16), 2 threads", "benchmark": "memory"})
    'intel-xeon-amx-bf16-memory.json'
    """
    name = re.sub(r"\((R|TM)\)|\bProcessor\b|\bCPU\b|@.*", "", result["machine"].partition(",")[0].partition(" (")[0])
    flags = re.search(r" \(([^)]*)\)", result["machine"])
    widest = flags[1].split(", ")[-1] if flags else ""
    words = re.findall(r"[a-z0-9]+", f"{name} {widest}".lower())
    return f"{'-'.join(words)}-{result['benchmark']}.json"


def write_result(result: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write one result to its file, in the place of an earlier one of the same benchmark and machine."""
    path = folder / file_name(result)
    write_json(path, {key: result[key] for key in _KEYS})
    return path


def read_results(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Return all results, by benchmark in the order of RESULTS.md, then by file name."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(results, key=lambda result: list(TITLES).index(result["benchmark"]))


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """Return RESULTS.md."""
    parts = [_HEAD]
    shown = None
    for result in results:
        if result["benchmark"] != shown:
            shown = result["benchmark"]
            parts.append(f"## {TITLES[shown]}\n")
        took = "" if result["seconds"] is None else f", {result['seconds']:.0f} s"
        command = f"`{result['command']}`: " if result["command"] else ""
        commit = f", commit {result['commit']}" if result["commit"] else ""
        parts.append(f"{command}{result['machine']} ({result['date']}{commit}{took}).\n")
        parts += [f"{_render_figure(figure)}\n" for figure in result["figures"]]
    return "\n".join(parts)


def write_page() -> None:
    """Render all results into RESULTS.md."""
    write_text(RESULTS, render(read_results()))


def _render_figure(figure: Mapping[str, Any]) -> str:
    if "text" in figure:
        return figure["text"]
    if "image" in figure:
        return f"![{figure['title']}]({figure['image']})"
    title = f"{figure['title']}\n\n" if figure["title"] else ""
    return title + tabulate(figure["rows"], headers=figure["headers"], tablefmt="github", disable_numparse=True)
