#!/usr/bin/env python
"""Run the benchmarks of speed and memory, keep their figures as JSON, and render RESULTS.md: ``make bench``.

    python benchmarks/run_all.py                     # all of them
    python benchmarks/run_all.py ranking memory      # some
    python benchmarks/run_all.py --render            # none: only RESULTS.md, from the files in results/

A script's figures replace the figures of the same benchmark on the same machine. A script that fails leaves its old
figures in place.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import write_page, write_result

from torchreid_nas.process import variables

_FOLDER = Path(__file__).resolve().parent
_SCRIPTS = (
    "normalization", "backbones", "training_step", "memory", "ranking", "reranking", "data", "inference", "startup", "growth",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"some of {', '.join(_SCRIPTS)}; default: all")
    parser.add_argument("--device", help="cpu, cuda, …; default: a GPU where there is one")
    parser.add_argument("--render", action="store_true", help="run nothing, only render RESULTS.md")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.scripts if name not in _SCRIPTS]
    if unknown:
        parser.error(f'there is no benchmark "{unknown[0]}", expected some of {", ".join(_SCRIPTS)}')
    if arguments.render:
        write_page()
        return
    failed = [name for name in arguments.scripts or _SCRIPTS if not _run(name, arguments.device or _default_device())]
    if failed:
        sys.exit(f"failed, their figures are as before: {', '.join(failed)}")


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _run(name: str, device: str) -> bool:
    print(f"== {name}", flush=True)
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        done = subprocess.run(
            [sys.executable, str(_FOLDER / f"{name}.py"), "--device", device, "--json", str(path)], check=False,
            env={**variables(), **os.environ},
        )
        if done.returncode:
            return False
        found = json.loads(path.read_text(encoding="utf-8"))
    write_result({
        "benchmark": name, "command": f"python benchmarks/{name}.py", "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(), "seconds": round(time.time() - start), **found,
    })
    write_page()
    return True


def _commit() -> str:
    """Return the short name of the commit that is measured, with a plus sign for changes; empty outside a clone."""
    git = ["git", "-C", str(_FOLDER)]
    done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "..", ":!results", ":!RESULTS.md"], capture_output=True, text=True, check=False,
    )
    return done.stdout.strip() + ("+" if done.stdout.strip() and changed.stdout.strip() else "")


if __name__ == "__main__":
    main()
