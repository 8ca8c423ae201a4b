"""Rows of the section ``test``."""
from __future__ import annotations

__all__ = ["TEST"]

from torchreid_nas.config.classification import OF_REID
from torchreid_nas.config.key import AT_LEAST_ONE, POSITIVE, Check, Key, Need, one_of

TEST = {
    "batch_size": Key(128, "images per batch", "ours", AT_LEAST_ONE),
    "precision": Key(
        "fp32", "number format of the network, fp32 as figures are published; auto is bf16 where that is faster",
        "ours", one_of("fp32", "bf16", "auto"),
    ),
    "compile": Key(False, "torch.compile of the network, for large targets"),
    "dist_metric": Key("euclidean", "distance of features", "CM-NAS", one_of("euclidean", "cosine"), OF_REID),
    "normalize_feature": Key(True, "features have length 1", "CM-NAS", needs=OF_REID),
    "ranks": Key(
        [1, 5, 10, 20], "ranks of the CMC that are reported", "torchreid",
        Check(lambda value: len(value) >= 1 and all(1 <= x <= 20 for x in value), "ranks between 1 and 20"),
    ),
    "protocol": Key(
        [], 'protocols of the targets by name, see docs/data-sets-and-protocols.md; [] for the usual one, "all" for all of a '
        "target, side by side", "ours", needs=OF_REID, item="",
    ),
    "flip": Key(False, "mean of the features of an image and of its mirror image, as CAJ and DEEN test", needs=OF_REID),
    "shot": Key(
        1, "images per identity and camera in the gallery of SYSU-MM01, where test.protocol is []; papers have 1 or 10", "CM-NAS",
        AT_LEAST_ONE,
    ),
    "gallery_draw": Key(
        "random", "galleries of SYSU-MM01: drawn as the common code draws them, or official from rand_perm_cam.mat", "CM-NAS",
        one_of("random", "official"),
    ),
    "num_trials": Key(
        10, "galleries of SYSU-MM01 and LLCM whose mean is reported", "CM-NAS",
        Check(lambda value: 1 <= value <= 10, "between 1 and 10"),
    ),
    "averaged": Key(
        True, "test the averaged weights of a training with train.ema; False tests the weights themselves", "CM-NAS",
        needs=(Need("model.load_weights", ""),),
    ),
    "keep_features": Key(True, "keep the features of a test, up to 1 GiB, for `torchreid-nas verify`", "ours"),
    "trapezoid_map": Key(False, "also report the mAP that is integrated by trapezoids, as ECN's authors report it"),
    "rerank": Key(False, "re-rank by k-reciprocal neighbours", "torchreid", needs=OF_REID),
    "matrix_gib": Key(
        4.0, "largest distance matrix that is made, in GiB; rankings of a larger one are counted by blocks", "ours", POSITIVE,
    ),
    "visrank": Key(False, "write images of the rankings", "torchreid", needs=OF_REID),
    "visrank_topk": Key(10, "ranked images per query", "torchreid", AT_LEAST_ONE, (Need("test.visrank", True),)),
}
