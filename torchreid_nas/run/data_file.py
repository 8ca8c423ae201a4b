"""``data.json``: which images a run read, so that it is not resumed on others."""
from __future__ import annotations

__all__ = ["describe_parts", "keep_data", "quick_summary"]

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchreid_nas.data import CrossModalityDataset, OwnDataset, ReIDDataManager
from torchreid_nas.data.dataset import MODALITIES, Item
from torchreid_nas.data.own.write import write_table
from torchreid_nas.doctor import Data, quick_checks, quick_line, records_of
from torchreid_nas.errors import InputError
from torchreid_nas.files import read_json, write_json
from torchreid_nas.hub.checks import file_digest
from torchreid_nas.metrics.protocols import find_protocol
from torchreid_nas.run.folder import RunFolder

FORMAT = 1


def describe_parts(data: ReIDDataManager, root: str, contents: bool) -> dict[str, dict[str, Any]]:
    """Return what each part holds: images, identities, cameras (null where not known), modalities and a digest.

    Args:
        data: after reading.
        root: of the data sets; the digest names files below it, those of own images below their own folder.
        contents: digest the bytes of the files too, beside names, sizes, identities and cameras.

    Raises:
        InputError: a file cannot be read.
    """
    parts: list[tuple[str, CrossModalityDataset, Sequence[Item]]] = [
        (f"train of {name}", data.datasets[name], data.datasets[name].train) for name in data.sources
    ]
    for name, tests in data.test_dataset.items():
        parts += [(f"{part} of {name}", data.datasets[name], items) for part, items in tests.items()]
    target = getattr(data, "trainset_t", None)
    if target is not None:
        parts.append(("unlabelled target", target, target.train))
    return {name: _describe(dataset, items, root, contents) for name, dataset, items in parts}


def keep_data(folder: RunFolder, data: ReIDDataManager, root: str, contents: bool, resume: bool) -> None:
    """Write ``data.json``, and ``split.csv`` for own images that a rule divided; what other stages wrote stays.

    Args:
        folder: of the run.
        data: of a stage.
        root: see :func:`describe_parts`.
        contents: likewise.
        resume: whether the stage goes on with what the folder holds.

    Raises:
        InputError: a resumed run finds other data, or a file cannot be read or written.
    """
    parts = describe_parts(data, root, contents)
    before = _read(folder, contents)
    for name, part in parts.items() if resume else ():
        if name in before and before[name] != part:
            raise InputError(
                f'the {name} is not what the run in "{folder}" was made with ("{folder.data}" holds counts and digest; there are '
                f'{part["images"]:,} images now); restore the data to resume, or choose another --output'
            )
    for number, dataset in enumerate(one for one in data.datasets.values() if isinstance(one, OwnDataset) and one.divided):
        write_table(dataset.records, folder.split(number))
    write_json(folder.data, {"format": FORMAT, "contents": contents, "parts": {**before, **parts}})


def quick_summary(data: ReIDDataManager) -> str:
    """Return one line per source: what the cheap checks found, see :func:`torchreid_nas.doctor.quick_checks`."""
    lines = []
    for name in data.sources:
        dataset = data.datasets[name]
        records = records_of(dataset, same_numbers=isinstance(dataset, OwnDataset))
        lines.append(f"{name}: {quick_line(quick_checks(Data(name, Path(), records, find_protocol(dataset.protocol))))}")
    return "\n".join(lines)


def _read(folder: RunFolder, contents: bool) -> dict[str, Any]:
    """Return the parts that the folder holds; nothing of another kind of digest, with which none compares.

    Raises:
        InputError: the file is damaged.
    """
    if not folder.data.exists():
        return {}
    kept = read_json(folder.data)
    if not isinstance(kept, dict) or not isinstance(kept.get("parts"), dict):
        raise InputError(f'"{folder.data}" holds no parts of data; restore the file, or remove it to write it again')
    parts: dict[str, Any] = kept["parts"]
    return parts if kept.get("contents") is contents else {}


def _describe(dataset: CrossModalityDataset, items: Sequence[Item], root: str, contents: bool) -> dict[str, Any]:
    base = dataset.records.base if isinstance(dataset, OwnDataset) else root
    try:
        lines = sorted(
            f"{os.path.relpath(path, base).replace(os.sep, '/')}\t{Path(path).stat().st_size}\t{pid}\t{camid}"
            + (f"\t{file_digest(Path(path), 'sha256')}" if contents else "") for path, pid, camid, *_ in items
        )
    except OSError as error:
        raise InputError(f'the image "{error.filename}" cannot be read ({error.strerror}); restore the data') from error
    return {
        "images": len(items), "identities": len({item[1] for item in items}), "cameras": dataset.count_cameras(items),
        "modalities": [MODALITIES[number] for number in sorted({dataset.modality_of(item[2]) for item in items})],
        "digest": hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest(),
    }
