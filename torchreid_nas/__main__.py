"""The process of the command line: ``torchreid-nas`` and ``python -m torchreid_nas``."""
from __future__ import annotations

__all__ = ["main"]

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see :func:`torchreid_nas.cli.main`."""
    from torchreid_nas.process import prepare_process

    # NumPy and torch read the settings of the process when they are imported.
    prepare_process()
    from torchreid_nas import cli

    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(main())
