#!/usr/bin/env python
"""The model zoo: ``python tools/zoo.py list``, the same as ``torchreid-nas zoo list``."""
import os
import sys

# Read when torch loads: on a shared machine threads that wait by spinning made a step ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from torchreid_nas.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["zoo", *sys.argv[1:]]))
