"""Rows of the section ``classification``, and the key ``task``."""
from __future__ import annotations

__all__ = ["CLASSIFICATION", "OF_REID", "TASK"]

from dataclasses import replace

from torchreid_nas.config.key import NOT_NEGATIVE, TRAIN, TRAIN_AND_SEARCH, Check, Key, Need, one_of

TASK = Key(
    "reid", "what the network learns: to tell persons (reid), or to name the class of an image (classification)", "ours",
    one_of("reid", "classification"), decides=TRAIN_AND_SEARCH, binds=TRAIN,
)

OF_REID = (Need("task", "reid"),)
"""What a key needs that a classification would not heed."""

_AT_LEAST_TWO = Check(lambda value: value >= 2, "at least 2")
_ROWS = {
    "padding": Key(
        4, "pixels that pad_crop adds on each side", "CDNet", NOT_NEGATIVE, (Need("data.transforms", "pad_crop"),),
        TRAIN_AND_SEARCH,
    ),
    "cutout": Key(
        16, "side of the square that the transform cutout sets to the mean, in pixels", "CDNet", _AT_LEAST_TWO,
        (Need("data.transforms", "cutout"),), TRAIN_AND_SEARCH,
    ),
    "resize": Key(
        0, "shorter side of test images before their centre is cropped, in pixels; 0 resizes them to the input", "CDNet",
        NOT_NEGATIVE, decides=TRAIN_AND_SEARCH,
    ),
    "download": Key(False, "download CIFAR where it is missing", "torchreid", decides=TRAIN_AND_SEARCH),
}
CLASSIFICATION = {
    name: replace(row, needs=(*row.needs, Need("task", "classification"))) for name, row in _ROWS.items()
}
