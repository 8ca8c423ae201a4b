"""Where processes of our own command begin: ``torchreid-nas`` and ``python tools/main.py``.

Importing :mod:`torchreid_nas` registers its parts in torchreid and so imports
torch, which takes seconds; that is what a user's script wants and what
``--help`` does not. A package cannot see who imports it, and its own modules
are imported after it. Hence this module beside the package: where it is loaded,
the process is the command's, and the package leaves registration to the
command, which does it once it knows that there is work (``torchreid_nas.register``).
A hook on the import of torchreid would do without, at the price of changing
imports in the processes of others.
"""
from __future__ import annotations

__all__ = ["main"]

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see :func:`torchreid_nas.cli.main`."""
    from torchreid_nas import cli
    from torchreid_nas.process import prepare_process

    # Before the command imports NumPy and torch.
    prepare_process()
    return cli.main(argv)
