#!/usr/bin/env python
"""The model zoo from a clone: ``python tools/zoo.py list`` is ``torchreid-nas zoo list``."""
import sys

if __name__ == "__main__":
    # The package recognises its command by this name and does not import torch yet.
    sys.argv[0] = "torchreid-nas"
    from torchreid_nas.__main__ import main

    sys.exit(main(["zoo", *sys.argv[1:]]))
