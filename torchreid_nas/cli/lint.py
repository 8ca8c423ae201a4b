"""``torchreid-nas lint``: rows of a table of figures that do not compare."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import logging

import torchreid_nas

logger = logging.getLogger("torchreid_nas")


def main(argv: list[str] | None = None) -> int:
    """Check the table that ``argv`` (default: the command line) names; returns 0, or 1 where rows do not compare.

    Raises:
        InputError: the file is no such table.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas lint",
        description="Name the rows of a CSV table (method, dataset, protocol, rank1, mAP, source) that do not compare.",
    )
    parser.add_argument("table", metavar="TABLE.csv", help="figures in percent")
    arguments = parser.parse_args(argv)

    torchreid_nas.register()
    from torchreid_nas.evidence.published import lint_table, read_table

    figures = read_table(arguments.table)
    findings = lint_table(figures)
    for finding in findings:
        logger.info("row %d (%s): %s", finding.line, finding.method, finding.said)
    flagged = len({finding.line for finding in findings})
    logger.info("%s: %d rows, %s", arguments.table, len(figures), f"{flagged} do not compare" if flagged else "all compare")
    return 1 if findings else 0
