"""``torchreid-nas doctor``: what is wrong with a data set, with the way out."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import logging
import sys
from pathlib import Path

import torchreid_nas
from torchreid_nas.cli.options import positive_int
from torchreid_nas.errors import InputError

logger = logging.getLogger("torchreid_nas")


def main(argv: list[str] | None = None) -> int:
    """Examine the data set that ``argv`` (default: the command line) names and say what was found, the worst first.

    Returns 0 where nothing or notes alone were found, 1 for warnings, 2 for errors in the data.

    Raises:
        InputError: there is no such data set, it cannot be read, or an option is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas doctor",
        description="Find faults of a data set before they cost figures: missing images and persons, damaged files, copies "
        "across training and test, wrong modalities, doubtful labels. The exit code is 0, 1 (warnings) or 2 (errors).",
    )
    parser.add_argument(
        "source", metavar="PATH|NAME",
        help="a folder, a CSV file, or a data set such as sysu_mm01, regdb, llcm, market1501, msmt17",
    )
    parser.add_argument("--root", default="reid-data", metavar="DIR", help="folder of named data sets (default reid-data)")
    parser.add_argument("--layout", default="", metavar="PATTERN", help="of own images, such as '{pid}/{camid}_{frame}'")
    parser.add_argument("--split-id", type=int, default=0, metavar="N", help="RegDB's trial whose parts are examined (default 0)")
    parser.add_argument("--quick", action="store_true", help="decode no image: counts, lists, persons, cameras alone")
    parser.add_argument("--html", metavar="FILE", help="also write the report as one page with pictures")
    parser.add_argument("--json", action="store_true", help="print JSON with all files instead of text")
    parser.add_argument(
        "--model", metavar="RUN_OR_NAME",
        help="judges the labels: folder of a run, or a name of the zoo; with --weights a model's name, such as osnet_x1_0; "
        "default: ImageNet weights that lie in torch's cache",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of the model that --model names")
    parser.add_argument("--device", help="of the model: cpu, cuda, …; default: a GPU where there is one")
    parser.add_argument("--workers", metavar="N", help="processes that decode images; default: one per core")
    parser.add_argument(
        "--cache", metavar="FILE", help='where measurements are kept, or "off"; default: in the cache folder of the user',
    )
    arguments = parser.parse_args(argv)
    if arguments.weights is not None and arguments.model is None:
        raise InputError("--weights names a file and --model is missing; say by --model which network the weights are of")
    workers = None if arguments.workers is None else positive_int("--workers", arguments.workers)

    torchreid_nas.register()
    from torchreid_nas.doctor.examine import examine
    from torchreid_nas.doctor.page import render_page
    from torchreid_nas.doctor.reading import read_data
    from torchreid_nas.doctor.report import as_dict, as_text
    from torchreid_nas.doctor.scan import cache_file
    from torchreid_nas.doctor.suspects import make_judge
    from torchreid_nas.files import as_json, check_folder, write_text

    if arguments.html:
        check_folder(Path(arguments.html).parent, "--html")
        if Path(arguments.html).is_dir():
            raise InputError(f'--html: "{arguments.html}" is a folder, expected a file such as doctor.html')
    judge = None if arguments.quick else make_judge(arguments.model, arguments.weights, arguments.device)
    data = read_data(arguments.source, arguments.root, arguments.split_id, arguments.layout)
    store = {None: cache_file(data.root), "off": None}.get(arguments.cache, Path(arguments.cache or ""))
    report = examine(data, not arguments.quick, judge, store, workers)
    if judge is None and not arguments.quick:
        report.left_out.append("label suspects: no ImageNet weights lie in torch's cache; give --model")
    if arguments.json:
        sys.stdout.write(as_json(as_dict(report), "the report", indent=2) + "\n")
    else:
        logger.info("%s", as_text(report))
    if arguments.html:
        write_text(arguments.html, render_page(report))
        if not arguments.json:
            logger.info("\n%s: the same with pictures; open it in a browser", arguments.html)
    elif not arguments.json and report.findings:
        logger.info("\n--html FILE writes a page with pictures, --json names all files")
    return int(report.severity)
