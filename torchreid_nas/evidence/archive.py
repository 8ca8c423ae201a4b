"""Reading the arrays that a test left, whole or not at all."""
from __future__ import annotations

__all__ = ["read_arrays"]

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError
from torchreid_nas.files import check_archive


@contextlib.contextmanager
def read_arrays(path: Path, missing: str) -> Iterator[Any]:
    """Open a file of arrays; errors of the block that a damaged file causes become one sentence.

    Args:
        path: of the file.
        missing: what is not known without the file, and the way out.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f'"{path}" does not exist, so {missing}')
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except InputError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, RecursionError,
            zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError) as error:
        raise InputError(f'"{path}" is damaged ({type(error).__name__}); test the run again (--stages test)') from error
