"""Rows of the sections ``data``, ``sampler`` and ``synthetic``."""
from __future__ import annotations

__all__ = ["DATA", "SAMPLER", "SYNTHETIC"]

from torchreid_nas.config.classification import OF_REID
from torchreid_nas.config.key import AT_LEAST_ONE, NOT_NEGATIVE, TRAIN, TRAIN_AND_SEARCH, Check, Key, Need, one_of

_AT_LEAST_16 = Check(lambda value: value >= 16, "at least 16")
_ERASED = (Need("data.transforms", "random_erase"),)
_CHANNELS = one_of("none", "exchange", "adaptive")
_ENABLED = (Need("synthetic.enabled", True),)

DATA = {
    "root": Key("reid-data", "folder of the data sets", "torchreid"),
    "sources": Key(
        ["regdb"], "data sets to train on, own images as folder:PATH or csv:FILE", "CM-NAS",
        Check(lambda value: len(value) >= 1, "at least one data set"),
        decides=TRAIN_AND_SEARCH,
    ),
    "targets": Key(
        ["regdb", "regdb_ir2vis"], "data sets to test on, own images likewise; ECN also adapts to their training images",
        "CM-NAS",
    ),
    "split_id": Key(
        0, "zero-based number of a fixed split of the data set: RegDB's trial", "torchreid", NOT_NEGATIVE,
        decides=TRAIN_AND_SEARCH, binds=TRAIN_AND_SEARCH,
    ),
    "layout": Key(
        "", 'where the paths of folder:PATH say what, such as "{modality}/{pid}/{camid}_{frame}"; "" recognises it', "ours",
        decides=TRAIN_AND_SEARCH, binds=TRAIN_AND_SEARCH,
    ),
    "split_seed": Key(
        0, "seed by which the persons of own images without a split are divided", "ours", NOT_NEGATIVE,
        decides=TRAIN_AND_SEARCH, binds=TRAIN_AND_SEARCH,
    ),
    "train_share": Key(
        0.5, "share of the persons of own images without a split that train", "ours",
        Check(lambda value: 0 < value < 1, "above 0 and below 1"), decides=TRAIN_AND_SEARCH, binds=TRAIN_AND_SEARCH,
    ),
    "digest": Key(
        "sizes", "what data.json digests beside names: sizes of the files, or their contents, which reads every file", "ours",
        one_of("sizes", "contents"),
    ),
    "height": Key(256, "height of the network's input, in pixels", "CM-NAS", _AT_LEAST_16, decides=TRAIN_AND_SEARCH, binds=TRAIN),
    "width": Key(128, "width of the network's input, in pixels", "CM-NAS", _AT_LEAST_16, decides=TRAIN_AND_SEARCH, binds=TRAIN),
    "transforms": Key(
        ["pad_crop", "random_flip", "random_erase"], "augmentations of training images, in this order", "CM-NAS",
        decides=TRAIN_AND_SEARCH,
    ),
    "interpolation": Key(
        "bilinear", "how images are resized; CM-NAS, AGW and DDAG have lanczos, ECN has bicubic", "torchreid",
        one_of("bilinear", "bicubic", "lanczos"), decides=TRAIN_AND_SEARCH, binds=TRAIN,
    ),
    "random_erase.probability": Key(
        0.5, "share of the images that random_erase erases a rectangle of", "CM-NAS",
        Check(lambda value: 0 <= value <= 1, "between 0 and 1"), _ERASED, TRAIN_AND_SEARCH,
    ),
    "random_erase.area": Key(
        [0.02, 0.4], "smallest and largest share of the image that random_erase erases; ECN has 0.02 and 0.2", "CM-NAS",
        Check(lambda value: len(value) == 2 and 0 < value[0] <= value[1] < 1, "two rising values above 0 and below 1"),
        _ERASED, TRAIN_AND_SEARCH,
    ),
    "random_erase.aspect": Key(
        [0.3, 1 / 0.3], "smallest and largest height over width of what random_erase erases; ECN has 0.3 and 3", "CM-NAS",
        Check(lambda value: len(value) == 2 and 0 < value[0] <= value[1], "two rising values above 0"), _ERASED,
        TRAIN_AND_SEARCH,
    ),
    "random_erase.fill": Key(
        [], "values of the three channels of an erased pixel after normalisation; [] is norm_mean; CAJ: 0.4914, 0.4822, 0.4465",
        "torchreid", Check(lambda value: len(value) in (0, 3), "three values, or none"), _ERASED, TRAIN_AND_SEARCH, item=0.5,
    ),
    "channels.visible": Key(
        "none", "what becomes of the channels of visible training images: none; exchange: one of the channels, three times; "
        "adaptive: the same for three quarters of the images, grey for an eighth", "CM-NAS", _CHANNELS, decides=TRAIN_AND_SEARCH,
    ),
    "channels.second_visible": Key(
        "", 'the same for a second copy of every visible image, for batches of [visible; visible; infrared]; "" is no copy, '
        "CAJ has exchange", "CM-NAS", one_of("", "none", "exchange", "adaptive"), decides=TRAIN_AND_SEARCH,
    ),
    "channels.infrared": Key(
        "none", "the same for infrared training images; CAJ has adaptive", "CM-NAS", _CHANNELS, decides=TRAIN_AND_SEARCH,
    ),
    "norm_mean": Key(
        [0.485, 0.456, 0.406], "mean of the RGB channels, in [0, 1]; ImageNet's", "CM-NAS",
        Check(lambda value: len(value) == 3, "three values"), decides=TRAIN_AND_SEARCH, binds=TRAIN,
    ),
    "norm_std": Key(
        [0.229, 0.224, 0.225], "standard deviation of the RGB channels, in [0, 1]; ImageNet's", "CM-NAS",
        Check(lambda value: len(value) == 3 and all(x > 0 for x in value), "three values above 0"),
        decides=TRAIN_AND_SEARCH, binds=TRAIN,
    ),
    "workers": Key(
        4, "processes that decode images where the cache does not serve", "torchreid", NOT_NEGATIVE, decides=TRAIN_AND_SEARCH,
    ),
    "cache": Key(
        "auto", "decode images once and augment them in batches (on), or use torchreid's PIL pipeline (off)", "ours",
        one_of("auto", "on", "off"), decides=TRAIN_AND_SEARCH, spellings={True: "on", False: "off"},
    ),
    "cache_dir": Key("", 'folder of decoded images; "" is <data.root>/.cache, or the user\'s cache folder if that is read-only'),
    "save_dir": Key("runs/cmnas", "folder of the run", "torchreid", Check(lambda value: value != "", "a folder")),
}

SAMPLER = {
    "num_instances": Key(
        4, "K: images of each modality per identity in a batch", "CM-NAS", AT_LEAST_ONE, OF_REID, TRAIN_AND_SEARCH,
    ),
}

# Ranges of these values: torchreid_nas/data/synthetic/settings.py.
SYNTHETIC = {
    "enabled": Key(
        False, "write generated images in the layout of a data set that is missing; never for figures of the real one",
        decides=TRAIN_AND_SEARCH,
    ),
    "identities": Key(120, "number of persons", needs=_ENABLED, decides=TRAIN_AND_SEARCH),
    "images": Key(
        10, "images per person and modality (RegDB), sensor (LLCM) or camera (all others)", needs=_ENABLED,
        decides=TRAIN_AND_SEARCH,
    ),
    "height": Key(128, "height of the stored images, in pixels", needs=_ENABLED, decides=TRAIN_AND_SEARCH),
    "width": Key(64, "width of the stored images, in pixels", needs=_ENABLED, decides=TRAIN_AND_SEARCH),
    "gap": Key(
        0.7, "how far the infrared sensor is from the visible one: 0 alike, 1 far, 2 farthest",
        needs=_ENABLED, decides=TRAIN_AND_SEARCH,
    ),
    "difficulty": Key(
        0.5, "how much images of one person differ, and persons look alike: 0 to 1", needs=_ENABLED, decides=TRAIN_AND_SEARCH,
    ),
    "cameras": Key(6, "cameras, at most 6 of Market-1501 and 8 of DukeMTMC-reID", needs=_ENABLED, decides=TRAIN_AND_SEARCH),
    "seed": Key(0, "seed of the generator", needs=_ENABLED, decides=TRAIN_AND_SEARCH),
}
