#!/usr/bin/env python
"""Search, train and test: ``python tools/main.py --config configs/cmnas_regdb.yaml``."""
import sys

from torchreid_nas_command import main

if __name__ == "__main__":
    sys.exit(main())
