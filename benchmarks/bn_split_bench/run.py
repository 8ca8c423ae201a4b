#!/usr/bin/env python
"""Train what the table of the benchmark lacks; stop it at any time and start it again.

    python benchmarks/bn_split_bench/run.py --workers 2

Every finished training is a file of the folder --output. Workers claim trainings by a lock, so that any number of
processes may run side by side.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

# glibc gives the memory of large tensors back to the system at every step and clears it again; kept memory saves a tenth.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "OMP_NUM_THREADS": "1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/bn_split_bench"))
    parser.add_argument("--data", type=Path, default=Path("reid-data/bn_split_bench"), help="folder of the generated images")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread")
    parser.add_argument("--weights", default="imagenet", help="ImageNet weights of MobileNetV2: a file, or imagenet")
    parser.add_argument("--table", choices=("imagenet", "scratch"), default="imagenet")
    parser.add_argument("--kinds", nargs="+", help="some of stages, standardised, slots, long; default: all")
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1" or arguments.workers > 1:
        command = [sys.executable, __file__, *sys.argv[1:], "--workers", "1"]
        workers = [subprocess.Popen(command, env={**os.environ, **_KEEP_MEMORY}) for _ in range(arguments.workers)]
        sys.exit(max(worker.wait() for worker in workers))
    work(arguments)


def work(arguments: argparse.Namespace) -> None:
    """Run every training that has no result and that no other process works at."""
    import filelock
    from jobs import all_jobs
    from training import Trainer

    from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
    from torchreid_nas.files import write_json
    from torchreid_nas.layers import bn_slots

    # Deprecations of libraries, which every training would print.
    warnings.filterwarnings("ignore")
    overrides = ["model.pretrained", arguments.weights] if arguments.table == "imagenet" else []
    trainer = Trainer(arguments.table, "choice", arguments.data, overrides)
    setup = trainer.setup(1)
    slots = bn_slots(setup.method.build_unsearched(1, pretrained=False).backbone)
    folder = arguments.output / arguments.table
    folder.mkdir(parents=True, exist_ok=True)
    for job in all_jobs(arguments.table):
        if arguments.kinds and job.kind not in arguments.kinds:
            continue
        path = folder / f"{job.name}.json"
        try:
            with filelock.FileLock(path.with_suffix(".lock"), timeout=0):
                if path.exists():
                    continue
                choices = tuple((slot, SPLIT if bit == "1" else SHARE) for slot, bit in zip(slots, job.bits))
                started = time.process_time()
                trained = trainer.train(Architecture(BN_SPACE, choices), job.seed, job.overrides, job.looks)
                write_json(path, {
                    "kind": job.kind, "bits": job.bits, "seed": job.seed, "steps": trained.steps,
                    "seconds": round(trained.seconds, 1), "processor_seconds": round(time.process_time() - started, 1),
                    **trained.scores.as_lists(),
                    "looks": {epoch: scores.as_lists() for epoch, scores in trained.looks.items()},
                })
        except filelock.Timeout:
            continue
        shown = "{:.1f} {:.1f}, mAP {:.1f} {:.1f}".format(*trained.scores.rank1, *trained.scores.mean_ap)
        print(f"{time.strftime('%H:%M:%S')} {job.name}: Rank-1 {shown}, {trained.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
