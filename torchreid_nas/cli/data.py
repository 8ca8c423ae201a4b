"""``torchreid-nas data``: own images as a table that trains, and what a data set holds."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torchreid_nas.data.own.records import Record, Records
from torchreid_nas.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Import or show what ``argv`` (default: the command line) names, and return 0.

    Raises:
        InputError: the source, the layout or the folder to write is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(prog="torchreid-nas data", description="Own images: read them, divide them, show them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    imported = commands.add_parser("import", help="write persons, cameras, modalities and split of own images as a CSV file")
    shown = commands.add_parser("show", help="print what own images hold")
    for command in (imported, shown):
        command.add_argument("source", metavar="SRC", help="a folder or a CSV file; folder:PATH and csv:FILE as well")
        command.add_argument("--layout", default="", help='of the paths, such as "{modality}/{pid}/{camid}_{frame}"')
    imported.add_argument("--out", required=True, metavar="DIR", help="folder of split.csv")
    imported.add_argument("--seed", type=int, default=0, metavar="N", help="of the division of the persons (default 0)")
    imported.add_argument("--train-share", type=float, default=0.5, metavar="S", help="of the persons that train (default 0.5)")
    arguments = parser.parse_args(argv)

    from torchreid_nas.data.own.reading import read_records

    records = read_records(arguments.source, arguments.layout)
    print("\n".join(_lines(records, everything=arguments.command == "show")))
    if arguments.command == "import":
        print("\n".join(_write(records, Path(arguments.out), arguments.seed, arguments.train_share)))
    return 0


def _write(records: Records, out: Path, seed: int, share: float) -> list[str]:
    """Write ``split.csv``, and return what it holds and the command that trains with it."""
    from torchreid_nas.data.own.split import RULE, divide
    from torchreid_nas.data.own.write import write_table

    if seed < 0:
        raise InputError(f"--seed is {seed}, expected 0 or more")
    file = out / "split.csv"
    if file.exists():
        raise InputError(f'"{file}" exists already; choose another --out, or remove the file')
    divided = divide(records, seed, share)
    write_table(divided, file)
    two = len(records.modalities) == 2
    targets = f'["csv:{file}", "csv_ir2vis:{file}"]' if two else f"csv:{file}"
    config = "baseline_split_regdb" if two else "osnet_market1501"
    keys = ["data.sources", f"csv:{file}", "data.targets", targets]
    command = ["torchreid-nas", "--config", config, *keys, "--output", "runs/own"]
    rule = [] if records.is_split else [f"no split was given: {RULE} (seed {seed}, share {share:g})"]
    return [*rule, f"written: {file} ({_counts(divided.rows)})", f"next:    {shlex.join(command)}"]


def _lines(records: Records, everything: bool) -> list[str]:
    """Return what was read: counts, and what was left out (all of it, or the first names)."""
    rows = records.rows
    modalities = Counter(row.modality or "unknown modality" for row in rows)
    lines = [
        f"{records.source}: {records.layout}",
        f"{len(rows):,} images, {len({row.pid for row in rows if row.pid}):,} persons, "
        + (f"{len({row.camid for row in rows}):,} cameras" if records.has_cameras else "no cameras") + ", "
        + ", ".join(f"{count:,} {word}" for word, count in sorted(modalities.items())),
    ]
    if records.is_split:
        lines.append(_counts(rows))
    others = (records.unmatched, "images that do not fit the layout"), (records.other_files, "files that are no images")
    for names, what in others:
        if names:
            chosen = names if everything else names[:5]
            lines += [f"left out: {len(names):,} {what}", *(f"    {name}" for name in chosen)]
    return lines


def _counts(rows: Sequence[Record]) -> str:
    parts = {split: [row for row in rows if row.split == split] for split in ("train", "test")}
    return ", ".join(f"{split}: {len({row.pid for row in own}):,} persons, {len(own):,} images" for split, own in parts.items())
