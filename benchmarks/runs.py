"""Runs of tools/main.py side by side, for the benchmarks that compare trainings."""
from __future__ import annotations

__all__ = ["REPOSITORY", "run_main"]

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def run_main(config: str, folder: Path, jobs: int, overrides: Sequence[str]) -> None:
    """Run a config in ``folder``, going on with what is there, with this process's share of the cores; exit where it fails."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    command = [
        sys.executable, str(REPOSITORY / "tools" / "main.py"), "--config", config, "--output", str(folder), "--resume",
        *overrides,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": threads}, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    print(f"done: {folder}", flush=True)
