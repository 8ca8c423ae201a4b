"""Rows of the section ``model``."""
from __future__ import annotations

__all__ = ["MODEL"]

from torchreid_nas.config.key import AT_LEAST_ONE, FRACTION, TRAIN, TRAIN_AND_SEARCH, Check, Key, Need, one_of
from torchreid_nas.neck_names import NECKS

MODEL = {
    "name": Key(
        "two_stream_resnet50", "network: any that torchreid knows, this package's among them", "CM-NAS",
        decides=TRAIN_AND_SEARCH,
    ),
    "backbone": Key(
        "resnet50", "backbone of the network: any of torchreid, or timm:NAME, any of timm", "ours",
        needs=(Need("model.name", "two_stream"),), decides=TRAIN_AND_SEARCH,
    ),
    "pretrained": Key(
        "imagenet",
        'weights that a search and a training start from: "imagenet", "" for random ones, a file, or the folder of a run',
        "CM-NAS", decides=TRAIN_AND_SEARCH, spellings={True: "imagenet", False: ""},
    ),
    "load_weights": Key(
        "", "checkpoint (ours, the authors' or zoo:NAME) that is tested, or that a training starts from", "torchreid",
        decides=TRAIN,
    ),
    "architecture": Key(
        "search", "the architecture that the search found (search) or the split advisor advises (advise), a preset, or a file",
        "CM-NAS",
        decides=TRAIN,
    ),
    "width": Key(
        1.0, "factor of the numbers of channels", "CM-NAS", Check(lambda value: 0 < value <= 4, "above 0 and at most 4"),
        decides=TRAIN_AND_SEARCH,
    ),
    "last_stride": Key(
        1, "stride of the last stage of a ResNet, of MobileNetV2, or of a model.backbone that has one", "CM-NAS",
        Check(lambda value: value in (1, 2), "1 or 2"),
        decides=TRAIN_AND_SEARCH, binds=TRAIN,
    ),
    "neck": Key(
        "own", "head of the network: its own (fblneck of a CDNet), or one of CDNet's paper behind a CDNet, OSNet, MobileNetV2 "
        "or ResNet; fblneck has global and local features, the others global ones", "CDNet",
        one_of("own", *NECKS), decides=TRAIN_AND_SEARCH,
    ),
    "small_images": Key(
        False, "the stem of the CIFAR networks of CDNet's authors: 3x3 at stride 1, no pooling", "CDNet",
        decides=TRAIN_AND_SEARCH,
    ),
    "dropout": Key(
        0.2, "probability of the dropout in the neck and in ECN's heads, where the paper has 0.5", "CDNet", FRACTION,
        decides=TRAIN_AND_SEARCH,
    ),
    "fusion_gate": Key(
        True, "the blocks of a CDNet weigh the channels of their branches; False adds the branches up", "CDNet",
        decides=TRAIN_AND_SEARCH, binds=TRAIN,
    ),
    "convolutions": Key(
        "lite", "3x3 convolutions in the blocks of a CDNet: lite (pointwise, then depthwise), or standard", "CDNet",
        one_of("lite", "standard"), decides=TRAIN_AND_SEARCH, binds=TRAIN,
    ),
    "classifier_dropout": Key(
        0.0, "probability of a dropout before a two-stream network's classifier; an option of the authors' code", "CM-NAS",
        FRACTION, decides=TRAIN_AND_SEARCH,
    ),
    "separate": Key(
        "norms", "what each modality has of its own at a split slot: the BatchNorm (norms), or the convolution before it too "
        "(convolutions)", "CM-NAS", one_of("norms", "convolutions"), decides=TRAIN, binds=TRAIN,
    ),
    "feature_dim": Key(4096, "length of ECN's embedding and of the memory's entries", "ECN", AT_LEAST_ONE, decides=TRAIN),
    "frozen_stages": Key(
        2, "ECN: stages of the ResNet that stand still; 2 is conv1 to layer2, 0 the stem alone, -1 nothing", "ECN",
        Check(lambda value: -1 <= value <= 4, "-1 to 4"), decides=TRAIN,
    ),
    "freeze_downsample": Key(
        True, "ECN: frozen stages also freeze the BatchNorms of downsampling, as in the paper's text; the authors' code does not",
        "ECN", decides=TRAIN,
    ),
    "standardize_input": Key(
        False, "each modality's images are standardised by their own statistics: the control beside split BatchNorms",
        decides=TRAIN_AND_SEARCH,
    ),
}
