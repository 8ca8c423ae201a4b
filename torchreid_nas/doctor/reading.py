"""From a path or a name to what the doctor examines."""
from __future__ import annotations

__all__ = ["read_data"]

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchreid_nas.data.own import is_own
from torchreid_nas.doctor.records import Data
from torchreid_nas.doctor.sets.llcm import read_llcm
from torchreid_nas.doctor.sets.market import PARTS, read_dukemtmcreid, read_market1501
from torchreid_nas.doctor.sets.msmt17 import FOLDERS, read_msmt17
from torchreid_nas.doctor.sets.own import read_own, read_registered
from torchreid_nas.doctor.sets.regdb import read_regdb
from torchreid_nas.doctor.sets.sysu_mm01 import read_sysu_mm01
from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.host import IMAGE_DATASETS


@dataclass(frozen=True)
class _Known:
    """A data set with a reader here.

    Attributes:
        names: in torchreid's registry.
        places: folders below the root, the first that exists is taken.
        markers: entries of its folder, all of which show what it is; of several sets of entries one suffices.
        read: the reader.
        hint: a word in the path, by which data sets of one layout are told apart.
    """

    names: tuple[str, ...]
    places: tuple[str, ...]
    markers: Sequence[tuple[str, ...]]
    read: Callable[..., Data]
    hint: str = ""


_KNOWN = (
    _Known(("sysu_mm01", "sysu_mm01_indoor"), ("SYSU-MM01",), [("exp", "cam1"), ("exp", "cam3")], read_sysu_mm01),
    _Known(("regdb", "regdb_ir2vis"), ("RegDB",), [("idx", "Visible"), ("idx", "Thermal")], read_regdb),
    _Known(("llcm", "llcm_ir2vis"), ("LLCM",), [("idx", "test_vis"), ("idx", "test_nir")], read_llcm),
    _Known(("dukemtmcreid",), ("dukemtmc-reid/DukeMTMC-reID",), [tuple(PARTS)], read_dukemtmcreid, "duke"),
    _Known(("market1501",), ("market1501/Market-1501-v15.09.15", "market1501"), [tuple(PARTS)], read_market1501),
    _Known(
        ("msmt17",), ("msmt17/MSMT17_V1", "msmt17/MSMT17_V2"), [(pair[0], "list_train.txt") for pair in FOLDERS], read_msmt17,
    ),
)


def read_data(source: str | os.PathLike[str], root: str | os.PathLike[str] = "", split_id: int = 0, layout: str = "") -> Data:
    """Read a data set by its name in torchreid's registry, or what lies at a path: a named data set, or own images.

    Args:
        source: a name such as ``"sysu_mm01"``; a folder; ``folder:PATH`` or ``csv:FILE`` of own data.
        root: folder of the data sets, for names.
        split_id: RegDB's trial, from 0.
        layout: of own images in a folder, see :class:`torchreid_nas.data.own.Pattern`.

    Raises:
        InputError: there is neither a data set of that name nor such a path, or its files cannot be read.
    """
    source = os.fspath(source)
    if is_own(source):
        return read_own(source, layout, root)
    known = next((known for known in _KNOWN if source in known.names), None)
    if known is not None and not layout:
        folders = [Path(os.path.abspath(Path(root).expanduser() / place)) for place in known.places]  # noqa: PTH100  links are kept
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise InputError(
                f'the folder "{folders[0]}" of the data set "{source}" does not exist; name its parent by --root, or give the '
                "folder itself"
            )
        return _call(known, folder, split_id)
    path = Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100  likewise
    if not _exists(path):
        if source in IMAGE_DATASETS:
            return read_registered(source, root, split_id)
        names = [*IMAGE_DATASETS, *(name for known in _KNOWN for name in known.names)]
        raise InputError(
            f'"{shown(source, 200)}" is neither a folder, a CSV file nor the name of a data set{nearest(source, names)}; '
            "give one of them"
        )
    if path.is_dir() and not layout:
        found = _recognise(path)
        if found is not None:
            return _call(*found, split_id)
    return read_own(source, layout, root)


def _call(known: _Known, folder: Path, split_id: int) -> Data:
    return known.read(folder, split_id) if known.read is read_regdb else known.read(folder)


def _recognise(path: Path) -> tuple[_Known, Path] | None:
    """Return the data set that a folder is, or the one that it holds under one of the usual names.

    Raises:
        InputError: the folder holds several.
    """
    found: dict[Path, _Known] = {}
    for known in _KNOWN:
        inside = [path / place for place in known.places] + [path / place.rpartition("/")[2] for place in known.places]
        for folder in (path, *inside):
            fits = any(all(_exists(folder / marker) for marker in markers) for markers in known.markers)
            if fits and known.hint in str(folder).lower():
                found.setdefault(folder, known)
    if path in found:
        return found[path], path
    if len(found) > 1:
        names = ", ".join(known.names[0] for known in found.values())
        raise InputError(f'"{path}" holds several data sets; name one of them: {names}, with --root {path}')
    return next(((known, folder) for folder, known in found.items()), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f'"{shown(path, 200)}" cannot be read ({error.strerror}); change its permissions') from error
