#!/usr/bin/env python
"""The model zoo: ``python tools/zoo.py list``, the same as ``torchreid-nas zoo list``."""
import sys

from torchreid_nas_command import main

if __name__ == "__main__":
    sys.exit(main(["zoo", *sys.argv[1:]]))
