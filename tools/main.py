#!/usr/bin/env python
"""Search, train and test: ``python tools/main.py --config configs/cmnas_regdb.yaml``."""
import os
import sys

# Read when torch loads: on a shared machine threads that wait by spinning made a step ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from torchreid_nas.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
