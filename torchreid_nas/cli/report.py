"""``torchreid-nas report``: the page, the table and the pictures of a run, made again from what its folder holds."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from pathlib import Path

import torchreid_nas
from torchreid_nas.errors import InputError
from torchreid_nas.run.folder import RunFolder


def main(argv: list[str] | None = None) -> int:
    """Write the page of a run or of several, show the table of a run, draw its pictures again, and return 0.

    Raises:
        InputError: the folder holds no run, or one of its files is broken; the page then shows what the others hold.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas report",
        description="Write the page of a run, show its table and draw its pictures again. Nothing is trained or tested.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs or of series; several stand side by side")
    parser.add_argument("--out", metavar="FILE.html", help="the page; default report.html in the folder, of several runs here")
    arguments = parser.parse_args(argv)
    folders = [RunFolder(Path(run).expanduser()) for run in arguments.runs]
    for folder in folders:
        if not (folder.is_run() or folder.results.is_file() or len(folders) > 1 and folder.members()):
            raise InputError(f'"{folder}" is no folder of a run: it has no {folder.config.name}; name the --output of a run')
    default = folders[0].page if len(folders) == 1 else Path(folders[0].page.name)
    out = default if arguments.out is None else Path(arguments.out).expanduser()
    if out.suffix != ".html":
        raise InputError(f'--out is "{out}", expected the name of a page that ends with .html')
    torchreid_nas.register()
    if len(folders) == 1:
        _report(folders[0], out)
    else:
        from torchreid_nas.run.page.write import write_comparison

        write_comparison([folder.path for folder in folders], out)
        print(f"page:    {out}")
    return 0


def _report(folder: RunFolder, out: Path) -> None:
    """Write the page, show the table and draw the pictures of a run or of a series."""
    if not any(path.exists() for path in (folder.results, folder.search.history, folder.train.history)):
        raise InputError(f'"{folder}" holds nothing to report yet: no epoch is finished; run its stages first')
    from torchreid_nas.evidence.published import published_table
    from torchreid_nas.report import results_table
    from torchreid_nas.run.closing import closing_lines
    from torchreid_nas.run.page.write import write_page
    from torchreid_nas.run.pictures import draw_pictures

    # First of all: the page of a damaged run shows what is whole.
    write_page(folder, out)
    draw_pictures(folder)
    if folder.results.exists():
        results = folder.read_results()
        print(results_table(results))
        published = published_table(results)
        if published:
            print(f"\n{published}")
    if out != folder.page:
        print(f"page:    {out}")
    print("\n".join(closing_lines(folder)))
