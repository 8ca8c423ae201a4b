"""``torchreid-nas zoo``: list, describe, download, verify, convert and add trained networks."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torchreid_nas

if TYPE_CHECKING:
    from torchreid_nas.hub.entry import Entry, Figure

_DESCRIPTION = """\
Trained networks by name. Files live in torch's hub cache, or where TORCHREID_NAS_HOME says; TORCHREID_NAS_OFFLINE=1
forbids downloads; TORCHREID_NAS_ZOO names YAML files, or folders of them, with entries of your own.
"""


def main(argv: list[str] | None = None) -> int:
    """Run ``torchreid-nas zoo`` with ``argv`` (default: the command line) and return 0.

    Raises:
        InputError: an unknown entry, a file that cannot be had or is another, a run that is not finished.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)
    torchreid_nas.register()
    arguments.run(arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchreid-nas zoo", description=_DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    command("list", _list, "list the entries: published figures, and whether the file is here")
    command("info", _info, "say all that is known of an entry").add_argument("name", metavar="NAME")
    download = command("download", _download, "download the file of an entry; again goes on where it broke off")
    download.add_argument("name", metavar="NAME")
    download.add_argument("--to", metavar="DIR", help="folder to put the file into, instead of the cache")
    download.add_argument("--offline", action="store_true", help="do not download, only look whether the file is here")
    verify = command("verify", _verify, "compare the file of an entry with its checksum")
    verify.add_argument("name", metavar="NAME")
    verify.add_argument("--file", metavar="FILE", help="a file elsewhere")
    convert = command("convert", _convert, "turn a checkpoint of the CDNet or CM-NAS authors into one of this package")
    convert.add_argument("file", metavar="FILE")
    convert.add_argument("--model", metavar="NAME", help="what it is held for; default: what the file shows")
    convert.add_argument("--architecture", metavar="SPEC", help="preset or file; default: what the file shows")
    convert.add_argument("--output", metavar="FILE", help="default: FILE with _converted beside it")
    convert.add_argument("--weights", choices=("model", "ema"), default="model", help="of CM-NAS; default: model")
    add = command("add", _add, "write the entry of a finished run, for TORCHREID_NAS_ZOO")
    add.add_argument("folder", metavar="RUN_DIR")
    add.add_argument("--name", metavar="NAME", help="default: the folder's name")
    add.add_argument("--output", metavar="FILE", help="default: RUN_DIR/zoo.yaml")
    add.add_argument("--licence", metavar="TEXT", help="what to say of the weights' licence")
    command("table", _table, "print MODEL_ZOO.md")
    return parser


def _list(arguments: argparse.Namespace) -> None:
    from tabulate import tabulate

    from torchreid_nas import zoo
    from torchreid_nas.metrics.scores import ordered_scores

    scores = ordered_scores(("rank1", "mAP", "top1"))
    rows = []
    for entry in zoo.list_entries():
        best = entry.published[0] if entry.published else None
        # ImageNet weights quote figures of networks that others trained from them.
        own = best if best is not None and best.dataset == entry.dataset else None
        here = "yes" if zoo.path_of(entry).exists() else "no"
        shown = [own.percent(score.name) if own else "" for score in scores]
        trained_on = f"{entry.dataset} (generated)" if entry.generated else entry.dataset
        rows.append([entry.name, entry.model, trained_on, *shown, entry.source.kind, here])
    headers = ["entry", "model", "trained on", *(score.title for score in scores), "source", "here"]
    print(tabulate(rows, headers=headers, colalign=["left"] * 3 + ["right"] * 3 + ["left"] * 2, disable_numparse=True))
    print(
        "Figures are the authors' (percent), of the RegDB trials their mean over ten; `torchreid-nas zoo info NAME` "
        f"says more.\nFiles: {zoo.home()}"
    )


def _info(arguments: argparse.Namespace) -> None:
    from tabulate import tabulate

    from torchreid_nas import zoo

    entry = zoo.find_entry(arguments.name)
    print(tabulate(_facts(entry), tablefmt="plain", disable_numparse=True))


def _facts(entry: Entry) -> list[list[str]]:
    from torchreid_nas import zoo
    from torchreid_nas.hub.checks import recorded_sha256

    path = zoo.path_of(entry)
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (entry.norm_mean, entry.norm_std))
    if entry.checksum:
        checksum = " ".join(entry.checksum)
    elif recorded_sha256(path):
        checksum = f"none published; sha256 {recorded_sha256(path)} of the first download is what the file is held to"
    else:
        checksum = "none published; the sha256 of the first download will be recorded and compared from then on"
    rows = [
        ["entry", f"{entry.name}  ({entry.origin})"],
        ["model", " ".join([entry.model, *(f"{key} {value}" for key, value in entry.options.items())])],
        ["architecture", str(entry.resolved_architecture() or entry.architecture or "as the model has it")],
        ["trained on", f"{entry.dataset}, generated images" if entry.generated else entry.dataset],
        ["protocol", entry.protocol or "none"],
        ["modality", entry.modality],
        ["feature", f"{entry.feature_dim} values from images of {entry.height} x {entry.width} (height x width)"],
        ["normalised by", f"mean {mean}, std {std}"],
        *(["published", _figure(figure)] for figure in entry.published),
        *(["measured", _figure(figure)] for figure in entry.measured),
        ["source", entry.source.address + (f"  {entry.source.pattern}" if entry.source.pattern else "")],
        ["layout", entry.format],
        ["licence", entry.licence],
        ["size", f"{entry.size:,} bytes" if entry.size else "unknown"],
        ["checksum", checksum],
        ["file", f"{path}  ({'here' if path.exists() else 'not here'})"],
        ["reproduced by", _command(entry)],
    ]
    if entry.note:
        rows.append(["note", entry.note])
    wrapper = textwrap.TextWrapper(110, break_long_words=False, break_on_hyphens=False)
    return [[key, wrapper.fill(value)] for key, value in rows]


def _figure(figure: Figure) -> str:
    from torchreid_nas.metrics.scores import find_score

    scores = ", ".join(f"{find_score(name).title} {figure.percent(name)}" for name in figure.scores)
    where = ", ".join(filter(None, (figure.dataset, figure.protocol, figure.feature)))
    return f"{scores} on {where} ({figure.source})"


def _command(entry: Entry) -> str:
    if entry.config is None:
        return "no config of this package"
    file, overrides = entry.config
    beside = Path(entry.origin).parent / file
    changes = "".join(f" {key} {value}" for key, value in overrides.items())
    return f"torchreid-nas --config {beside if beside.exists() else file}{changes}"


def _download(arguments: argparse.Namespace) -> None:
    from torchreid_nas import zoo

    entry = zoo.find_entry(arguments.name)
    path = zoo.fetch(entry, arguments.to, arguments.offline)
    print(f"{path}: {zoo.verify(entry, path)}")
    print(f"Licence: {entry.licence}")


def _verify(arguments: argparse.Namespace) -> None:
    from torchreid_nas import zoo

    entry = zoo.find_entry(arguments.name)
    print(f"{arguments.file or zoo.path_of(entry)}: {zoo.verify(entry, arguments.file)}")


def _convert(arguments: argparse.Namespace) -> None:
    from torchreid_nas.zoo.convert import convert

    done = convert(arguments.file, arguments.model, arguments.architecture, arguments.output, arguments.weights)
    print(f"{arguments.file}: {done.found}")
    if done.found.architecture is not None and done.found.architecture != done.architecture:
        print("The architecture given is another than the file shows; the one given was taken.")
    print(f"{done.weights}: {done.model}, {done.architecture}")
    options = "".join(f" model.{key} {value}" for key, value in done.found.options.items())
    # A file does not tell what it was trained on.
    config = "cmnas_regdb" if done.model.startswith("two_stream") else "cdnet_market1501"
    print(
        f"Test it with: torchreid-nas --config {config} (or that of its data set) --root <root> "
        f"--stages test model.name {done.model}{options} model.architecture {done.architecture_file} "
        f"model.load_weights {done.weights}"
    )


def _add(arguments: argparse.Namespace) -> None:
    from torchreid_nas.run.publish import add_run

    licence = {"licence": arguments.licence} if arguments.licence else {}
    entry, path = add_run(arguments.folder, arguments.name, arguments.output, **licence)
    checksum = " ".join(entry.checksum or ())
    print(f'{path}: the entry "{entry.name}", {len(entry.measured)} measured figures, {checksum}')
    print(f"Use it with TORCHREID_NAS_ZOO={path.resolve()} as zoo:{entry.name}")


def _table(arguments: argparse.Namespace) -> None:
    from torchreid_nas import zoo
    from torchreid_nas.zoo.table import zoo_markdown

    print(zoo_markdown(zoo.list_entries()), end="")
