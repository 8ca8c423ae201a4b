"""Print the equality table: each piece of distributed training, and how far 2 and 3 processes are from one.

    python tests/distributed/table.py [--json FILE]

One interpreter imports the package and forks the processes, which join by gloo. Numbers are in float64 where the name of a
piece says nothing else. A difference is relative to the largest number of its tensor.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from engines import write_data
from pieces import ONLY_TWO, PIECES

from torchreid_nas.distributed import process_group

WORLDS = (2, 3)
# Largest number of a tensor that is read as zero: a gradient of zero is what rounding leaves.
SMALLEST = 1e-4
# Seconds after which a process counts as stuck.
PATIENCE = 120


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def compute(folder: Path, world: int, number: int, port: int) -> None:
    """Compute all pieces as one of ``world`` processes and write the results."""
    torch.set_num_threads(1)
    os.environ.update(WORLD_SIZE=str(world), RANK=str(number), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with process_group("cpu"):
        chosen = {name: function for name, function in PIECES.items() if world < 3 or name not in ONLY_TWO}
        # Of a training that speaks the numbers are looked at alone.
        with contextlib.redirect_stdout(None):
            torch.save({name: function() for name, function in chosen.items()}, folder / f"{world}-{number}.pt")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference of two tensors, infinite where their shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    found, expected = found.double(), expected.double()
    largest = (found - expected).abs().max() / expected.abs().max().clamp(min=SMALLEST)
    return float(largest) if largest.isfinite() else float("inf")


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return the largest difference over the processes by piece, number of processes and tensor."""
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stdout(None):
            write_data(folder / "data")
        ports = {world: free_port() for world in (1, *WORLDS)}
        running = {
            (world, number): fork.Process(target=compute, args=(folder, world, number, port))
            for world, port in ports.items() for number in range(world)
        }
        for process in running.values():
            process.start()
        for process in running.values():
            process.join(PATIENCE)
        failed = {key: process.exitcode for key, process in running.items() if process.exitcode}
        stuck = [key for key, process in running.items() if process.exitcode is None]
        for key in stuck:
            running[key].kill()
        if failed or stuck:
            raise SystemExit(f"of (processes, number): failed with {failed}, stuck {stuck}")
        results = {key: torch.load(folder / f"{key[0]}-{key[1]}.pt") for key in running}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for title, expected in results[1, 0].items():
        for world in WORLDS:
            if title not in results[world, 0]:
                continue
            found = [results[world, number][title] for number in range(world)]
            assert all(result.keys() == expected.keys() for result in found), title
            table.setdefault(title, {})[str(world)] = {
                key: max(difference(result[key], value) for result in found) for key, value in expected.items()
            }
    return table


def main() -> int:
    """Print the table; with --json write all differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the differences by piece, number of processes and tensor")
    options = parser.parse_args()
    table = measure()
    if options.json:
        options.json.write_text(json.dumps(table), encoding="utf-8")
    print(f"| piece | {' | '.join(f'{world} processes' for world in WORLDS)} |\n|---|{'---|' * len(WORLDS)}")
    for title, worlds in table.items():
        largest = [f"{max(worlds[str(world)].values()):.1e}" if str(world) in worlds else "" for world in WORLDS]
        print(f"| {title} | {' | '.join(largest)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
