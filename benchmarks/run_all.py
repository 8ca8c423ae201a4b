#!/usr/bin/env python
"""Run the benchmarks of speed and memory and put what they print into RESULTS.md: ``make bench``.

    python benchmarks/run_all.py                     # all of them
    python benchmarks/run_all.py ranking memory      # some

What a script printed stands between two comments that name it and the kind of
device, so that a run on a machine with a GPU adds its figures beside those of
the CPU, and everything else in the file stays as it was written. A script that
fails leaves its old section in place.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from torchreid_nas.files import write_text
from torchreid_nas.process import variables

_FOLDER = Path(__file__).resolve().parent
_RESULTS = _FOLDER / "RESULTS.md"
_SCRIPTS = {
    "normalization": "Split and searched BatchNorm",
    "training_step": "A whole training step of CM-NAS",
    "memory": "ECN's memory",
    "ranking": "Protocols and ranking",
    "reranking": "k-reciprocal re-ranking",
    "data": "Images into the training step",
    "inference": "Inference",
    "startup": "Start-up of the command line",
    "growth": "How cost grows",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"some of {', '.join(_SCRIPTS)}; default: all")
    parser.add_argument("--device", help="cpu, cuda, …; default: a GPU where there is one")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.scripts if name not in _SCRIPTS]
    if unknown:
        parser.error(f'there is no benchmark "{unknown[0]}", expected some of {", ".join(_SCRIPTS)}')
    failed = [name for name in arguments.scripts or _SCRIPTS if not _run(name, arguments.device or _default_device())]
    if failed:
        sys.exit(f"failed, their sections are as before: {', '.join(failed)}")


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _run(name: str, device: str) -> bool:
    print(f"== {name}", flush=True)
    start = time.time()
    done = subprocess.run(
        [sys.executable, str(_FOLDER / f"{name}.py"), "--device", device], capture_output=True, text=True, check=False,
        env={**variables(), **os.environ},
    )
    if done.returncode:
        print(f"{done.stdout}{done.stderr}", file=sys.stderr, flush=True)
        return False
    text = f"`python benchmarks/{name}.py` ({time.strftime('%B %Y')}, {time.time() - start:.0f} s): {done.stdout.strip()}"
    print(f"{text}\n", flush=True)
    write_text(_RESULTS, replace_section(_RESULTS.read_text(encoding="utf-8"), name, device.partition(":")[0], text))
    return True


def replace_section(results: str, name: str, device: str, text: str) -> str:
    """Return ``results`` with ``text`` in the place of what a benchmark printed before, or at the end under its title."""
    begin, end = f"<!-- {name} on {device} -->", f"<!-- end of {name} on {device} -->"
    section = f"{begin}\n{text}\n{end}"
    if begin in results:
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        return pattern.sub(lambda _: section, results)
    other = re.search(f"<!-- end of {name} on \\w+ -->", results)
    if other:
        return f"{results[:other.end()]}\n\n{section}{results[other.end():]}"
    return f"{results.rstrip()}\n\n## {_SCRIPTS[name]}\n\n{section}\n"


if __name__ == "__main__":
    main()
