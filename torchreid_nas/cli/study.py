"""``torchreid-nas study``: run a grid of configs and make one table of it."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from collections.abc import Sequence
from pathlib import Path

import torchreid_nas
from torchreid_nas.cli.options import positive_int
from torchreid_nas.errors import InputError, shown

_DESCRIPTION = """\
Run a study: every row of a table in every column with every seed. Stages that several runs have in common are made once.
The same command goes on at the first unfinished run. It writes study.json, table.txt, table.md, table.tex, table.csv and
figures/study.png.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study that ``argv`` (default: the command line) names, or list the shipped studies, and return 0.

    Raises:
        InputError: the study or an option is at fault, or runs have failed; what is finished is kept.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(prog="torchreid-nas study", description=_DESCRIPTION)
    parser.add_argument(
        "name", metavar="NAME|FILE.yaml|list", help="a shipped study, a file, or list: all shipped ones with their cost",
    )
    parser.add_argument("--seeds", metavar="LIST", help="values of train.seed, such as 1,2,3; default those of the study")
    parser.add_argument("--jobs", default="1", metavar="N", help="runs side by side, which share the cores (default 1)")
    parser.add_argument("--small", action="store_true", help="the small form, on generated images")
    parser.add_argument("--rows", metavar="LIST", help="only these rows, by their names, with ; between them")
    parser.add_argument("--columns", metavar="LIST", help="only these columns, likewise")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (data.root)")
    parser.add_argument("--output", metavar="DIR", help="folder of the study; default runs/study_NAME")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and build their networks; train nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, for every run")
    arguments = parser.parse_intermixed_args(argv)
    torchreid_nas.register()
    if arguments.name == "list":
        if arguments.overrides:
            word = shown(arguments.overrides[0])
            raise InputError(f'study list takes no further word, got "{word}"; write study NAME to run one')
        print(_listed())
        return 0

    from torchreid_nas.study.definition import read_study
    from torchreid_nas.study.execute import dry_run_study, run_study
    from torchreid_nas.study.grid import expand
    from torchreid_nas.study.record import StudyFolder

    study = read_study(arguments.name, arguments.small).part(_names(arguments.rows), _names(arguments.columns))
    output = Path(arguments.output or f"runs/study_{study.name}{'_small' if arguments.small else ''}")
    overrides = list(arguments.overrides)
    for key, value in (("data.root", arguments.root), ("device", arguments.device)):
        overrides += [key, value] if value is not None else []
    jobs = positive_int("--jobs", arguments.jobs)
    members = expand(study, output, _seeds(arguments.seeds), overrides)
    if arguments.dry_run:
        print(dry_run_study(study, members))
        return 0
    run_study(study, members, output, jobs)
    folder = StudyFolder(output)
    print(f"table:   {folder.table('md')} (also .txt, .tex, .csv)\nfigure:  {folder.figure}\nrecord:  {folder.record}")
    return 0


def _names(text: str | None) -> list[str]:
    return [] if text is None else [name.strip() for name in text.split(";")]


def _seeds(text: str | None) -> list[int]:
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) < 10 for word in words) or len(set(map(int, words))) < len(words):
        raise InputError(f'--seeds is "{shown(text)}", expected different whole numbers such as 1,2,3')
    return list(map(int, words))


def _listed() -> str:
    """Return the table of the shipped studies: name, paper, cost and title."""
    from tabulate import tabulate

    from torchreid_nas.study.definition import read_study, shipped_studies
    from torchreid_nas.study.grid import cost, expand

    rows = []
    for name in shipped_studies():
        study = read_study(name)
        counts = cost(expand(study, "runs"))
        rows.append([name, study.paper, *map(str, counts.values()), study.title])
    rows.sort(key=lambda row: row[1])
    return tabulate(rows, headers=["study", "paper", "runs", "searches", "trainings", "what it compares"], disable_numparse=True)
