#!/usr/bin/env python
"""Train a StarGAN across cameras and write its images:
``python tools/train_camstyle.py --dataset market1501 --root reid-data --output runs/camstyle``."""
import os
import sys

# Read when torch loads: on a shared machine threads that wait by spinning made a step ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from torchreid_nas.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["camstyle", *sys.argv[1:]]))
