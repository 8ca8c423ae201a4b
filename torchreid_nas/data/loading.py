"""Data sets by their names in torchreid's registry, with what torchreid's own readers leave to the file system and to luck."""
from __future__ import annotations

__all__ = ["load_dataset"]

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchreid_nas.data.dataset import CrossModalityDataset, as_cross_modality, copy_facts
from torchreid_nas.data.full_names import FULL_READERS
from torchreid_nas.data.registered import dataset_facts, registered_dataset
from torchreid_nas.data.splits import relabel
from torchreid_nas.errors import InputError

# torchreid's readers that download from addresses given up long ago, over plain HTTP: a mistyped root must not ask there.
_MARKET_LIKE = ("market1501", "dukemtmcreid")


def load_dataset(name: str, options: dict[str, Any]) -> CrossModalityDataset:
    """Make a data set of torchreid's registry, e.g. with ``root``; classes that do not know an option ignore it.

    Raises:
        InputError: unknown name, or missing or broken data.
    """
    cls, root = registered_dataset(name), options["root"]
    own = getattr(cls, "__module__", "").startswith("torchreid.")
    folder = Path(os.path.abspath(Path(root).expanduser()), getattr(cls, "dataset_dir", None) or "")  # noqa: PTH100  links are kept
    if own and name in _MARKET_LIKE and not folder.exists():
        raise _missing(name, root, f'"{folder}" does not exist')
    if isinstance(cls, type):
        cls = FULL_READERS.get(cls, cls)
    try:
        with _leaving_no_empty_folders(folder):
            dataset = cls(verbose=False, **options)
    except (RuntimeError, OSError) as error:
        raise _missing(name, root, error) from error
    except InputError:
        raise
    except (AttributeError, AssertionError, LookupError, ValueError) as error:
        if not own:
            raise
        raise InputError(
            f'torchreid\'s reader of "{name}" met an empty folder, or a file name or line that it does not know '
            f'({type(error).__name__}{f": {error}" if str(error) else ""}); leave nothing but the data set\'s own files in '
            f'its folder under "{root}", or unpack it again'
        ) from error
    return dataset if isinstance(dataset, CrossModalityDataset) else _in_order(as_cross_modality(dataset))


def _missing(name: str, root: str | os.PathLike, problem: object) -> InputError:
    # torchreid's own data sets say only which path is not found, or how a download failed.
    layout = dataset_facts(name).stand_in
    stand_in = f", or write a stand-in: torchreid-nas synthetic {layout} --root {shlex.quote(str(root))}" if layout else ""
    return InputError(
        f'the data set "{name}" is missing or incomplete: {problem}; put it under "{root}" as torchreid expects it{stand_in}'
    )


@contextlib.contextmanager
def _leaving_no_empty_folders(folder: Path) -> Iterator[None]:
    """On an error in the block remove the folders that were made for a download which then failed, down to ``folder``."""
    absent = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        yield
    except BaseException:
        for part in absent:
            with contextlib.suppress(OSError):
                part.rmdir()
        raise


def _in_order(dataset: CrossModalityDataset) -> CrossModalityDataset:
    """Return a data set of torchreid's own with its images by name, and training labels in the order of these.

    torchreid's readers take images as the file system lists them, and labels from
    a set that was filled in that order: a copy of the same files would train
    another network.
    """
    train, left_out = sorted(dataset.train), sorted(dataset.left_out)
    labels = {pid: label for label, pid in enumerate(dict.fromkeys(item[1] for item in [*train, *left_out]))}
    ordered = CrossModalityDataset(
        relabel(train, labels), sorted(dataset.query), sorted(dataset.gallery), infrared_camids=dataset.infrared_camids,
        left_out=relabel(left_out, labels), verbose=False,
    )
    copy_facts(dataset, ordered)
    return ordered
