"""``torchreid-nas verify``: whether the figures of a run follow from what its folder holds."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import logging

import torchreid_nas

logger = logging.getLogger("torchreid_nas")


def main(argv: list[str] | None = None) -> int:
    """Verify the run that ``argv`` (default: the command line) names; returns 0, or 1 where something does not agree.

    Raises:
        InputError: the folder holds no certificate, or the images that ``--full`` needs are not there.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas verify",
        description="Hold the figures of a tested run against its certificate, the scores of its queries, and its features.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run whose test stage is finished")
    parser.add_argument("--full", action="store_true", help="also extract the features from the images again")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets; default: where they were at the test")
    parser.add_argument("--device", help="for --full: cpu, cuda, …; default: the config's")
    arguments = parser.parse_args(argv)

    torchreid_nas.register()
    from torchreid_nas.run.verifying import verify_run

    findings = verify_run(arguments.run, arguments.full, arguments.root, arguments.device)
    marks = {True: "agrees   ", False: "DISAGREES", None: "not seen "}
    for finding in findings:
        logger.info("%s  %s: %s", marks[finding.agrees], finding.what, finding.said)
    wrong = [finding.what for finding in findings if finding.agrees is False]
    logger.info("%s: %s", arguments.run, f"does not agree ({', '.join(dict.fromkeys(wrong))})" if wrong else "agrees")
    return 1 if wrong else 0
