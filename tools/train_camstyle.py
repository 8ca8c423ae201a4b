#!/usr/bin/env python
"""Train a StarGAN across cameras and write its images:
``python tools/train_camstyle.py --dataset market1501 --root reid-data --output runs/camstyle``.
"""
import sys

from torchreid_nas_command import main

if __name__ == "__main__":
    sys.exit(main(["camstyle", *sys.argv[1:]]))
