"""``python -m torchreid_nas.cli``, which is ``python -m torchreid_nas``."""
import sys

from torchreid_nas.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
