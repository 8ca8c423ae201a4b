"""Features of what a command names: images that a model sees now, or a file that ``torchreid-nas features`` wrote."""
from __future__ import annotations

__all__ = ["feature_blocks"]

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchreid_nas.errors import InputError

if TYPE_CHECKING:
    from torchreid_nas.features.extractor import FeatureExtractor
    from torchreid_nas.features.feature_set import FeatureSet

_SAVED = ".npz"


def feature_blocks(
    extractor: FeatureExtractor, sources: Sequence[str], what: str, stride: int = 1, boxes: str | None = None,
    boxes_option: str = "--boxes",
) -> Iterator[FeatureSet]:
    """Yield the features of sources in blocks.

    Args:
        extractor: of the model and modality that the command needs.
        sources: each an image, a video, a folder, an ``.npz`` of features, or own images by their name, ``folder:PATH`` or
            ``csv:FILE``.
        what: what the command needs the features for, e.g. "the query", for an error.
        stride: of the frames of videos.
        boxes: file with the boxes of persons.
        boxes_option: the option that named ``boxes``, for an error.

    Raises:
        InputError: a source cannot be read, or its features are of another model.
    """
    from torchreid_nas.data.own.names import is_own

    # Boxes may count their frames through all images.
    if not any(is_own(source) or Path(source).suffix == _SAVED for source in sources):
        yield from extractor.batches(sources[0] if len(sources) == 1 else sources, stride, boxes)
        return
    for source in sources:
        if is_own(source):
            yield from _own_blocks(extractor, source, what, boxes, boxes_option)
        elif Path(source).suffix == _SAVED:
            yield from _saved_blocks(extractor, source, what, boxes, boxes_option)
        else:
            yield from extractor.batches(source, stride, boxes)


def _saved_blocks(
    extractor: FeatureExtractor, source: str, what: str, boxes: str | None, boxes_option: str,
) -> Iterator[FeatureSet]:
    """Yield the features of a file that ``torchreid-nas features`` wrote."""
    if boxes is not None:
        raise InputError(
            f'{boxes_option}: the features "{source}" are extracted already; give the boxes to torchreid-nas features'
        )
    from torchreid_nas.features.feature_set import FeatureSet

    saved = FeatureSet.load(source)
    expected = (extractor.trained.name, extractor.modality or "")
    # A folder may be called in several ways, and another model be trained in it.
    same = saved.fingerprint == extractor.trained.fingerprint if saved.fingerprint else saved.model == expected[0]
    if not same and saved.model == expected[0]:
        raise InputError(
            f'the features "{source}" were made by the model "{saved.model}" when it had other weights; extract them '
            "again (torchreid-nas features)"
        )
    if not same or saved.modality != expected[1]:
        raise InputError(
            f'the features "{source}" were made by the model "{saved.model}"'
            + (f" for {saved.modality} images" if saved.modality else "")
            + f', {what} needs "{expected[0]}"' + (f" for {expected[1]} images" if expected[1] else "")
            + "; extract them again with that (torchreid-nas features)"
        )
    yield from saved.blocks(2**16)


def _own_blocks(
    extractor: FeatureExtractor, source: str, what: str, boxes: str | None, boxes_option: str,
) -> Iterator[FeatureSet]:
    """Yield the features of own images, with persons and cameras as the layout or the table says them."""
    import numpy as np

    from torchreid_nas.data.own.reading import read_records

    if boxes is not None:
        raise InputError(
            f'{boxes_option}: "{source}" names images of single persons; give the scenes by their path, or leave the option out'
        )
    records = read_records(source)
    rows = [row for row in records.rows if extractor.modality is None or (row.modality or "visible") == extractor.modality]
    if not rows:
        raise InputError(
            f'"{source}" has {records.modalities[0]} images only, and {what} needs {extractor.modality} ones; name another source'
        )
    of_path = {row.path: row for row in rows}
    for block in extractor.batches([row.path for row in rows]):
        own = [of_path[path] for path in block.paths]
        camids = np.array([_camera(row.camid) for row in own], dtype=np.int64)
        yield dataclasses.replace(block, labels=tuple(row.pid for row in own), camids=camids)


def _camera(name: str) -> int:
    """Return the number of a camera, the same in every source: 0-based where the name is a number, else a digest of the name."""
    from torchreid_nas.features.labels import NO_CAMERA

    if not name:
        return NO_CAMERA
    is_number = name.isascii() and name.isdecimal() and len(name) < 10 and int(name) > 0
    return int(name) - 1 if is_number else zlib.crc32(name.encode("utf-8", "surrogateescape"))
