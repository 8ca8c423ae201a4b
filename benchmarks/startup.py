"""Start-up of the command line: what ``--help`` and a mistyped key take, against importing the package with torch."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import arguments, machine, take_turns
from results import Report

ROOT = Path(__file__).resolve().parents[1]
PLAIN = 'python -c "import torchreid_nas"'
TARGET = 0.5
COMMANDS = ("", "camstyle", "export", "features", "match", "synthetic", "zoo")


def main() -> None:
    options = arguments(__doc__).parse_args()
    script = str(ROOT / "tools" / "main.py")
    calls = {PLAIN: ("-c", "import torchreid_nas")}
    calls |= {f"python tools/main.py {name} --help".replace("  ", " "): (script, *name.split(), "--help") for name in COMMANDS}
    calls["python tools/main.py train.lrr 0.1 (refused)"] = (script, "train.lrr", "0.1")
    turns = take_turns({name: lambda call=call: _run(*call) for name, call in calls.items()}, options.repetitions, 1)
    rows = [
        [
            f"`{name}`", f"{turns.median(name):.2f}", f"{turns.speedup(name, PLAIN):.0f} ×" if name != PLAIN else "",
            "" if name == PLAIN else f"{TARGET} s: {'reached' if turns.median(name) < TARGET else 'missed'}",
        ]
        for name in calls
    ]
    with Report(machine(), options.json) as report:
        report.table(rows, ["process", "seconds", "faster than the import", "target"])


def _run(*call: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *call], env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 2) or "Traceback" in done.stderr:
        raise RuntimeError(done.stderr)


if __name__ == "__main__":
    main()
