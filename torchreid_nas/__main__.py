"""The process of the command line: ``torchreid-nas`` and ``python -m torchreid_nas``."""
from __future__ import annotations

__all__ = ["main"]

import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see :func:`torchreid_nas.cli.main`."""
    from torchreid_nas.process import prepare_process

    # NumPy and torch read the settings of the process when they are imported.
    prepare_process()
    from torchreid_nas import cli

    try:
        code = cli.main(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has stopped, as `| head` does. Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
