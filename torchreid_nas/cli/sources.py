"""Features of what a command names: images that a model sees now, or a file that ``torchreid-nas features`` wrote."""
from __future__ import annotations

__all__ = ["feature_blocks"]

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torchreid_nas.errors import InputError

if TYPE_CHECKING:
    from torchreid_nas.features.extractor import FeatureExtractor
    from torchreid_nas.features.feature_set import FeatureSet

_SAVED = ".npz"


def feature_blocks(
    extractor: FeatureExtractor, source: str, what: str, stride: int = 1, boxes: str | None = None, boxes_option: str = "--boxes",
) -> Iterator[FeatureSet]:
    """Yield the features of a source in blocks.

    Args:
        extractor: of the model and modality that the command needs.
        source: images, a video, a folder, or an ``.npz`` of features.
        what: what the command needs the features for, e.g. "the query", for an error.
        stride: of the frames of videos.
        boxes: file with the boxes of persons.
        boxes_option: the option that named ``boxes``, for an error.

    Raises:
        InputError: the source cannot be read, or its features are of another model.
    """
    if Path(source).suffix != _SAVED:
        yield from extractor.batches(source, stride, boxes)
        return
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
