"""``torchreid-nas report``: the table and the pictures of a run, made again from what its folder holds."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from pathlib import Path

import torchreid_nas
from torchreid_nas.errors import InputError
from torchreid_nas.run.folder import RunFolder


def main(argv: list[str] | None = None) -> int:
    """Show the table of a run, draw its pictures again, say where they are, and return 0.

    Raises:
        InputError: the folder holds no run, or one of its files is broken.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas report",
        description="Show the table of a run and draw its pictures again. Nothing is searched, trained or tested.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run, or of a series of runs")
    folder = RunFolder(Path(parser.parse_args(argv).run).expanduser())
    if not (folder.is_run() or folder.results.is_file()):
        raise InputError(f'"{folder}" is no folder of a run: it has no {folder.config.name}; name the --output of a run')

    torchreid_nas.register()
    from torchreid_nas.evidence.published import published_table
    from torchreid_nas.report import results_table
    from torchreid_nas.run.closing import closing_lines
    from torchreid_nas.run.pictures import draw_pictures

    drawn = draw_pictures(folder)
    if folder.results.exists():
        results = folder.read_results()
        print(results_table(results))
        published = published_table(results)
        if published:
            print(f"\n{published}")
    if not drawn and not folder.results.exists():
        raise InputError(f'"{folder}" holds nothing to report yet: no stage is finished; run its stages first')
    print("\n".join(closing_lines(folder)))
    return 0
