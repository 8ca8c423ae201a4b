"""``data.json``: which images a run read, so that it is not resumed on others."""
from __future__ import annotations

__all__ = ["check_data", "describe_parts", "keep_data", "quick_summary"]

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torchreid_nas.data import CrossModalityDataset, OwnDataset, ReIDDataManager
from torchreid_nas.data.class_manager import ClassDataManager
from torchreid_nas.data.dataset import MODALITIES, Item
from torchreid_nas.data.own.write import write_table
from torchreid_nas.doctor import Data, quick_checks, quick_line, records_of
from torchreid_nas.errors import InputError
from torchreid_nas.files import file_digest, read_json, write_json
from torchreid_nas.metrics.protocols import find_protocol
from torchreid_nas.run.folder import RunFolder

FORMAT = 1


def describe_parts(data: ReIDDataManager | ClassDataManager, root: str, contents: bool) -> dict[str, dict[str, Any]]:
    """Return what each part holds: images, identities, cameras (null where not known), modalities and a digest.

    The identities of a classification are its classes; there are no cameras and no modalities.

    Args:
        data: after reading.
        root: of the data sets; the digest names files below it, those of own images below their own folder.
        contents: digest the bytes of the files too, beside names, sizes, identities and cameras.

    Raises:
        InputError: a file cannot be read.
    """
    if isinstance(data, ClassDataManager):
        images = {f"train of {name}": data.datasets[name].train for name in data.sources}
        images.update((f"test of {name}", data.datasets[name].test) for name in data.targets)
        return {
            name: {
                "images": len(part), "identities": len(set(part.labels)), "cameras": None, "modalities": [],
                "digest": _digest([(path, label, 0) for path, label in zip(part.paths, part.labels)], root, contents),
            }
            for name, part in images.items()
        }
    parts: list[tuple[str, CrossModalityDataset, Sequence[Item]]] = [
        (f"train of {name}", data.datasets[name], data.datasets[name].train) for name in data.sources
    ]
    for name, tests in data.test_dataset.items():
        parts += [(f"{part} of {name}", data.datasets[name], items) for part, items in tests.items()]
    target = getattr(data, "trainset_t", None)
    if target is not None:
        parts.append(("unlabelled target", target, target.train))
    return {name: _describe(dataset, items, root, contents) for name, dataset, items in parts}


def check_data(folder: RunFolder, data: ReIDDataManager | ClassDataManager, root: str, contents: bool) -> dict[str, Any]:
    """Refuse data that are not those of the run in a folder, and return their parts: those of the folder and the new ones.

    Args:
        folder: of the run.
        data: that a stage is to read.
        root: see :func:`describe_parts`.
        contents: likewise.

    Raises:
        InputError: a part differs, or a file cannot be read.
    """
    parts, before = describe_parts(data, root, contents), _read(folder, contents)
    for name, part in parts.items():
        if name in before and before[name] != part:
            raise InputError(
                f'the {name} is not what the run in "{folder}" was made with ("{folder.data}" holds counts and digest; there are '
                f'{part["images"]:,} images now); restore the data to resume, or choose another --output'
            )
    return {**before, **parts}


def keep_data(folder: RunFolder, data: ReIDDataManager | ClassDataManager, root: str, contents: bool, resume: bool) -> None:
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
    if resume:
        parts = check_data(folder, data, root, contents)
    else:
        parts = {**_read(folder, contents), **describe_parts(data, root, contents)}
    own = [one for one in data.datasets.values() if isinstance(one, OwnDataset) and one.divided]
    for number, dataset in enumerate(own):
        write_table(dataset.records, folder.split(number))
    write_json(folder.data, {"format": FORMAT, "contents": contents, "parts": parts})


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
    return {
        "images": len(items), "identities": len({item[1] for item in items}), "cameras": dataset.count_cameras(items),
        "modalities": [MODALITIES[number] for number in sorted({dataset.modality_of(item[2]) for item in items})],
        "digest": _digest(items, base, contents),
    }


def _digest(items: Iterable[Sequence[Any]], base: str | os.PathLike[str], contents: bool) -> str:
    """Return the digest of items (path, label, camera, …); a file that packs many images is read once."""
    of_file: dict[str, str] = {}

    def file_of(path: str) -> str:
        if path not in of_file:
            size = f"{os.path.relpath(path, base).replace(os.sep, '/')}\t{Path(path).stat().st_size}"
            of_file[path] = size if not contents else f"{size}\t{file_digest(Path(path), 'sha256')}"
        return of_file[path]

    try:
        lines = sorted(f"{file_of(path)}\t{pid}\t{camid}" for path, pid, camid, *_ in items)
    except OSError as error:
        raise InputError(f'the image "{error.filename}" cannot be read ({error.strerror}); restore the data') from error
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
