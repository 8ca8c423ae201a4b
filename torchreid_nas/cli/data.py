"""``torchreid-nas data``: own images as a table that trains, and what a data set holds."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torchreid_nas.cli.options import positive_int
from torchreid_nas.config import load_config
from torchreid_nas.data.own.records import Record, Records
from torchreid_nas.errors import InputError, nearest

_TABLE = "split.csv"


def main(argv: Sequence[str] | None = None) -> int:
    """Import or show what ``argv`` (default: the command line) names, and return 0.

    Raises:
        InputError: the source, the layout or the folder to write is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)

    from torchreid_nas.data.own.sheet import own_sheet
    from torchreid_nas.data.sheet import check_sheet_name

    out = Path(arguments.out) if arguments.command == "import" else None
    if arguments.picture:
        check_sheet_name(arguments.picture)
    records, cut = _read(arguments, out)
    try:
        print("\n".join(_lines(records, everything=arguments.command == "show")))
        if arguments.picture:
            print(f"written: {own_sheet(records, arguments.picture)}")
        if out is not None:
            print("\n".join(_write(records, out, arguments, cut)))
    except InputError:
        if cut:
            shutil.rmtree(records.base, ignore_errors=True)
        raise
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchreid-nas data", description="Own images: read them, divide them, show them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    imported = commands.add_parser("import", help="write persons, cameras, modalities and split of own images down")
    shown = commands.add_parser("show", help="print what own images hold")
    for command in (imported, shown):
        command.add_argument("source", metavar="SRC", help="a folder or a CSV file; folder:PATH and csv:FILE as well")
        command.add_argument("--layout", default="", help='of the paths, such as "{modality}/{pid}/{camid}_{frame}"')
        command.add_argument("--picture", metavar="FILE", help="draw a contact sheet of the persons (.png)")
    imported.add_argument("--out", required=True, metavar="DIR", help="folder of split.csv, or root of the data set")
    imported.add_argument(
        "--as", dest="form", default="csv", metavar="FORM",
        help="csv: a table, the images stay where they are (default); market1501 or regdb: copies in that layout",
    )
    imported.add_argument("--boxes", metavar="FILE", help="cut the persons out of SRC, scenes or a video: boxes of the MOT "
                          "challenge, or a CSV with a header; the identities of the boxes are the persons")
    imported.add_argument("--stride", default="1", metavar="N", help="with --boxes take every n-th frame of videos (default 1)")
    imported.add_argument("--seed", type=int, default=0, metavar="N", help="of the division of the persons (default 0)")
    imported.add_argument("--train-share", type=float, default=0.5, metavar="S", help="of the persons that train (default 0.5)")
    return parser


def _read(arguments: argparse.Namespace, out: Path | None) -> tuple[Records, bool]:
    """Return the records of the source, and whether its persons were cut out for them.

    Raises:
        InputError: an option or the source is at fault.
    """
    from torchreid_nas.data.own.layouts import FORMATS
    from torchreid_nas.data.own.reading import read_records

    if out is not None:
        if arguments.form not in FORMATS:
            raise InputError(f'--as is "{arguments.form}", expected {", ".join(FORMATS)}{nearest(arguments.form, FORMATS)}')
        if arguments.seed < 0:
            raise InputError(f"--seed is {arguments.seed}, expected 0 or more")
        file = out / _TABLE
        if arguments.form == "csv" and file.exists():
            raise InputError(f'"{file}" exists already; choose another --out, or remove the file')
        if arguments.boxes:
            from torchreid_nas.features.crops import cut_persons

            if arguments.layout:
                raise InputError("--layout says where labels stand in paths, and with --boxes the boxes say them; leave one out")
            stride = positive_int("--stride", arguments.stride)
            return cut_persons(arguments.source, arguments.boxes, stride, out / "images"), True
    return read_records(arguments.source, arguments.layout), False


def _write(records: Records, out: Path, arguments: argparse.Namespace, cut: bool) -> list[str]:
    """Write the records in the form of ``--as``, and return what was written and the command that trains with it.

    Raises:
        InputError: they do not fit the form, or the folder cannot be written.
    """
    from torchreid_nas.data.own.layouts import write_layout
    from torchreid_nas.data.own.split import RULE, divide
    from torchreid_nas.data.own.write import write_table

    seed, share = arguments.seed, arguments.train_share
    two = len(records.modalities) == 2
    config = "baseline_split_regdb" if two else "osnet_market1501"
    command = ["torchreid-nas", "--config", config]
    if cut and not records.labelled:
        return [f"written: {records.base}, {len(records):,} images without labels, to which ECN adapts as {records.source}"]
    if arguments.form != "csv":
        folder = write_layout(arguments.form, records, out, seed, share)
        if cut:
            shutil.rmtree(records.base, ignore_errors=True)
        written = f"written: {folder}"
        command += ["--root", str(out)]
    else:
        divided = divide(records, seed, share)
        file = write_table(divided, out / _TABLE)
        written = f"written: {file} ({_counts(divided.rows)})"
        targets = f'["csv:{file}", "csv_ir2vis:{file}"]' if two else f"csv:{file}"
        command += ["data.sources", f"csv:{file}", "data.targets", targets]
    command += _batch_size(config, divide(records, seed, share))
    rule = [] if records.is_split else [f"no split was given: {RULE} (seed {seed}, share {share:g})"]
    return [*rule, written, f"next:    {shlex.join([*command, '--output', 'runs/own'])}"]


def _batch_size(config: str, divided: Records) -> list[str]:
    """Return the override of ``train.batch_size`` where the training persons do not fill the batch of a config."""
    from torchreid_nas.data.own.split import lone_persons

    cfg = load_config(config)
    lone = lone_persons(divided.rows)
    persons = len({row.pid for row in divided.rows if row.split == "train"} - lone)
    most = persons * cfg.sampler.num_instances * len(divided.modalities)
    return ["train.batch_size", str(most)] if most < cfg.train.batch_size else []


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
