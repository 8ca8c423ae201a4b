"""``torchreid-nas compare``: what several tested runs show of their methods."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import logging
import re
from pathlib import Path

import torchreid_nas
from torchreid_nas.errors import InputError

logger = logging.getLogger("torchreid_nas")


def main(argv: list[str] | None = None) -> int:
    """Compare the runs of ``argv`` (default: the command line), print what can be told, and return 0.

    Raises:
        InputError: a folder is no tested run, the runs do not compare, or an option is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas compare",
        description="Say what tested runs show: the interval of each figure, and whether two methods differ. Runs that differ "
        "in train.seed alone are one method.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of tested runs, or of series over the splits of RegDB")
    parser.add_argument(
        "--control", default="", metavar="RUN", help="compare all others with this run's method; default: all pairs"
    )
    parser.add_argument("--scores", metavar="LIST", help="metrics, default rank1,mAP; of a classification top1")
    parser.add_argument("--dataset", default="", metavar="NAME", help="one target; default: all")
    parser.add_argument("--feature", default="", metavar="NAME", help='one feature, such as "after BNNeck"; default: the last')
    parser.add_argument("--level", type=float, default=0.95, metavar="SHARE", help="of the intervals, default 0.95")
    parser.add_argument("--resamples", type=int, default=10_000, metavar="N", help="drawn test sets, default 10000")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws, default 0")
    parser.add_argument(
        "--out", metavar="DIR", help="also write compare.json, compare.md, compare.png and changed-queries*.png there"
    )
    arguments = parser.parse_args(argv)
    scores = [name.strip() for name in (arguments.scores or "").split(",") if name.strip()]
    if arguments.scores is not None and not scores:
        raise InputError("--scores is empty, expected names of metrics such as rank1,mAP")

    torchreid_nas.register()
    from torchreid_nas.evidence.comparing import compare_runs
    from torchreid_nas.evidence.figures import draw_changes, draw_comparison
    from torchreid_nas.evidence.runs import read_runs
    from torchreid_nas.evidence.words import as_markdown, as_text
    from torchreid_nas.files import check_folder, write_json, write_text

    if arguments.out:
        check_folder(arguments.out, "--out")
    runs = [run for path in arguments.runs for run in read_runs(path)]
    compared = compare_runs(
        runs, scores, arguments.dataset, arguments.feature, arguments.control, arguments.level, arguments.resamples,
        arguments.seed,
    )
    logger.info(as_text(compared))
    if arguments.out:
        out = Path(arguments.out)
        write_json(out / "compare.json", compared.as_dict())
        write_text(out / "compare.md", as_markdown(compared))
        draw_comparison(compared, out / "compare.png")
        written = ["compare.json", "compare.md", "compare.png"]
        root = Path(str(runs[0].config["data.root"]))
        # The changes of a target are those of its average precision, whichever metric a table is of.
        targets = {table.dataset: table for table in compared.tables if any(table.changes.values())}
        for place, (target, table) in enumerate(targets.items()):
            name = f"changed-queries{'-' + re.sub('[^A-Za-z0-9_]+', '-', target) if place else ''}.png"
            missing = draw_changes(table, root, out / name, compared.generated)
            if len(missing) < len({query.path for queries in table.changes.values() for query in queries}):
                written.append(name)
            if missing:
                logger.warning("%d query images are not below data.root and not shown, the first is %s", len(missing), missing[0])
        logger.info("\n%s: %s", out, ", ".join(written))
    return 0
