#!/usr/bin/env python
"""Camera-style images from a clone: ``python tools/train_camstyle.py …`` is ``torchreid-nas camstyle …``."""
import sys

if __name__ == "__main__":
    # The package recognises its command by this name and does not import torch yet.
    sys.argv[0] = "torchreid-nas"
    from torchreid_nas.__main__ import main

    sys.exit(main(["camstyle", *sys.argv[1:]]))
