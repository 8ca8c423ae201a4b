#!/usr/bin/env python
"""Break the package as ``listed.py`` says, one line at a time, and run the tests that must notice: ``make mutants``.

    python tests/mutants/run.py                # all
    python tests/mutants/run.py losses data    # those of files whose names hold one of the words

Each mutant lives in a temporary copy of the package; the files of the repository stay as they are. The exit code is 1
where a mutant is alive: its tests passed, or they could not run.
"""
from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from listed import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
# Exit codes of pytest.
PASSED, FAILED = 0, 1
# A mutant may make a test wait for ever; such a test has noticed it.
MOST_SECONDS = 900


def run_tests(copy: Path, tests: list[str], output: Path) -> None:
    """Run test files on the package in ``copy`` and exit with pytest's code; this process ends here."""
    with output.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        sys.path.insert(0, str(copy))
        assert Path(importlib.import_module("torchreid_nas").__file__ or "").is_relative_to(copy)
        pytest = importlib.import_module("pytest")
        code = int(pytest.main(["-x", "-p", "no:cacheprovider", *(f"tests/{name}" for name in tests)]))
        sys.stdout.flush()
        os._exit(code)


def outcome(mutant: Mutant, copy: Path) -> str:
    """Return ``killed`` or why the mutant is alive; the copy of the package is whole afterwards."""
    path = copy / "torchreid_nas" / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        return "no such text"
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    # Bytecode is chosen by second and size: a mutant of the same length would run the code of the one before.
    for folder in (copy / "torchreid_nas").rglob("__pycache__"):
        shutil.rmtree(folder)
    try:
        output = copy / "output.txt"
        process = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(copy, mutant.tests.split(), output))
        process.start()
        process.join(MOST_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            return "killed (waited for ever)"
        if process.exitcode not in (PASSED, FAILED):
            return f"the tests did not run: exit code {process.exitcode}, {last_line(output)}"
        return "killed" if process.exitcode == FAILED else "ALIVE"
    finally:
        path.write_text(source, encoding="utf-8")


def last_line(output: Path) -> str:
    """Return the last line of a text that is not blank."""
    lines = output.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no output")


def copy_of_package(folder: Path) -> Path:
    """Copy what the tests need: the package and the tests; the other files of the repository are links."""
    copy = folder / "copy"
    copy.mkdir()
    for source in ROOT.iterdir():
        if source.name in ("torchreid_nas", "tests"):
            shutil.copytree(source, copy / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not source.name.startswith("."):
            (copy / source.name).symlink_to(source)
    return copy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants of files whose names hold one of the words")
    words = parser.parse_args().words
    mutants = [mutant for mutant in MUTANTS if not words or any(word in mutant.file for word in words)]
    if not mutants:
        parser.error(f"no mutant is of a file whose name holds {' or '.join(words)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The server imports once what all processes need; the package itself differs from mutant to mutant.
    preload = ["torch", "torchvision", "pytest", "hypothesis", "scipy.stats"]
    multiprocessing.get_context("forkserver").set_forkserver_preload(preload)
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_package(Path(folder))
        for number, mutant in enumerate(mutants, start=1):
            start = time.monotonic()
            found = outcome(mutant, copy)
            alive += not found.startswith("killed")
            line = " ".join(mutant.new.split()) or f"without {' '.join(mutant.old.split())}"
            print(f"{number:3}/{len(mutants)}  {found:8}  {time.monotonic() - start:4.0f} s  {mutant.file}: {line}", flush=True)
            if found == "ALIVE":
                print(f"         its tests passed: {mutant.tests}", flush=True)
    print(f"{len(mutants) - alive} of {len(mutants)} mutants are killed" + (f", {alive} are alive" if alive else ""))
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
