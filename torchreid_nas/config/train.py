"""Rows of the sections ``loss``, ``train``, ``adam`` and ``sgd``."""
from __future__ import annotations

__all__ = ["ADAM", "LOSS", "SGD", "TRAIN_KEYS"]

from dataclasses import replace

from torchreid_nas.config.classification import OF_REID
from torchreid_nas.config.key import (
    AT_LEAST_ONE,
    AUTO_OR_BOOL,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    RECIPE,
    RISING_EPOCHS,
    TRAIN,
    TRAIN_AND_SEARCH,
    Check,
    Key,
    Need,
    one_of,
)

_BOOLEANS = {True: True, False: False}
_STAGED = (Need("train.staged_lr", True),)
_STEPS = (Need("train.lr_scheduler", "warmup_multi_step", "multi_step", "single_step"),)
_WARMUP = (Need("train.lr_scheduler", "warmup_multi_step"),)

_SQUARED = (Need("loss.triplet.kind", "squared_difference"),)

_LOSS = {
    "softmax.label_smooth": Key(False, "smooth the labels of the cross-entropy", "CM-NAS", decides=TRAIN_AND_SEARCH),
    "triplet.kind": Key(
        "batch_hard", "triplet loss of two-stream networks: batch_hard within and across the modalities, weighted (AGW) or "
        "squared_difference (CAJ) over all images; the last two have no margin", "CM-NAS",
        one_of("batch_hard", "weighted", "squared_difference"), decides=TRAIN_AND_SEARCH,
    ),
    "triplet.margin": Key(
        0.4, "margin of the triplet loss", "CM-NAS", NOT_NEGATIVE, (Need("loss.triplet.kind", "batch_hard"),), TRAIN_AND_SEARCH,
    ),
    "triplet.normalize": Key(
        False, "bring features to length 1 before the triplet loss; an option of the authors' code", "CM-NAS",
        needs=(Need("loss.triplet.kind", "batch_hard", "weighted"),), decides=TRAIN_AND_SEARCH,
    ),
    "triplet.alpha": Key(
        1.0, "sharpness of the weights of pairs in the squared difference", "CAJ", NOT_NEGATIVE, _SQUARED, TRAIN_AND_SEARCH,
    ),
    "triplet.gamma": Key(1.0, "factor of the squared difference", "CAJ", NOT_NEGATIVE, _SQUARED, TRAIN_AND_SEARCH),
    "triplet.weight_x": Key(1.0, "loss weight of the cross-entropy", "CM-NAS", NOT_NEGATIVE, decides=TRAIN_AND_SEARCH),
    "triplet.weight_t": Key(1.0, "loss weight of the triplet loss", "CM-NAS", NOT_NEGATIVE, decides=TRAIN_AND_SEARCH),
    "c3mmd.weight_correlation": Key(
        5.0, "loss weight of C3MMD's correlation consistency", "CM-NAS", NOT_NEGATIVE, decides=TRAIN_AND_SEARCH,
    ),
    "c3mmd.weight_mmd": Key(0.05, "loss weight of C3MMD's class-specific MMD", "CM-NAS", NOT_NEGATIVE, decides=TRAIN_AND_SEARCH),
}

# Cross-entropy alone is the loss of every task.
LOSS = {
    name: row if name == "softmax.label_smooth" else replace(row, needs=(*row.needs, *OF_REID)) for name, row in _LOSS.items()
}

TRAIN_KEYS = {
    "seed": Key(
        1, "seed of everything random", "ours", Check(lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295"),
        decides=TRAIN_AND_SEARCH,
    ),
    "max_epoch": Key(120, "epochs", "CM-NAS", AT_LEAST_ONE, decides=RECIPE),
    "batch_size": Key(
        128, "images per batch: P identities × K visible and K infrared ones; a second visible copy comes on top", "CM-NAS",
        Check(lambda value: value >= 2, "at least 2"), decides=TRAIN_AND_SEARCH,
    ),
    "num_batches": Key(
        0, "batches per epoch (CDNet, ECN: at most); 0 is floor(max(visible, infrared) / 64) + 1", "CM-NAS", NOT_NEGATIVE,
        decides=TRAIN_AND_SEARCH,
    ),
    "optim": Key("adam", "optimiser", "CM-NAS", one_of("adam", "amsgrad", "sgd", "rmsprop", "radam"), decides=RECIPE),
    "lr": Key(0.01, "learning rate, of the new layers if train.staged_lr", "CM-NAS", POSITIVE, decides=RECIPE),
    "weight_decay": Key(5e-4, "weight decay", "CM-NAS", NOT_NEGATIVE, decides=RECIPE),
    "staged_lr": Key(
        True, "all layers but the new ones learn at train.base_lr_mult of the learning rate", "CM-NAS", decides=RECIPE,
    ),
    "new_layers": Key(
        ["bnneck", "classifier"], "layers that learn at the whole learning rate", "CM-NAS", needs=_STAGED, decides=RECIPE,
    ),
    "base_lr_mult": Key(0.1, "factor of the other layers' learning rate", "CM-NAS", NOT_NEGATIVE, _STAGED, RECIPE),
    "lr_scheduler": Key(
        "warmup_multi_step", "schedule of the learning rate", "CM-NAS",
        one_of("warmup_multi_step", "multi_step", "single_step", "cosine"), decides=RECIPE,
    ),
    "stepsize": Key([40, 70], "epochs at which the learning rate falls", "CM-NAS", RISING_EPOCHS, _STEPS, RECIPE),
    "gamma": Key(0.1, "factor by which the learning rate falls", "CM-NAS", POSITIVE, _STEPS, RECIPE),
    "warmup_epochs": Key(10, "epochs in which the learning rate rises in a line", "CM-NAS", NOT_NEGATIVE, _WARMUP, RECIPE),
    "warmup_factor": Key(
        0.01, "factor of the learning rate at the start of the warm-up", "CM-NAS",
        Check(lambda value: 0 < value <= 1, "above 0 and at most 1"), _WARMUP, RECIPE,
    ),
    "ema": Key(
        0.997, "decay per step of the average of the weights, which is tested; 0 averages nothing",
        "CM-NAS", FRACTION, decides=TRAIN,
    ),
    "amp": Key(
        "auto", "precision of training: fp32 (none), bf16 or fp16 autocast; auto is bf16 where the device is faster with it",
        "ours", one_of("none", "bf16", "fp16", "auto"), decides=TRAIN_AND_SEARCH,
    ),
    "channels_last": Key(
        "auto", "memory format of network and images; auto is True where the device is faster with it", "ours", AUTO_OR_BOOL,
        decides=TRAIN_AND_SEARCH, spellings=_BOOLEANS,
    ),
    "fused": Key(
        "auto", "one kernel for the steps of Adam and SGD (the other optimisers have none); auto is True where torch has one",
        "ours", AUTO_OR_BOOL, decides=TRAIN_AND_SEARCH, spellings=_BOOLEANS,
    ),
    "accumulate": Key(1, "batches per step of the optimiser", "ours", AT_LEAST_ONE, decides=TRAIN_AND_SEARCH),
    "sync_bn": Key(
        True, "several processes: BatchNorms take statistics over the whole batch of all processes, per modality where split, as "
        "one process does (True), or each process over its own images, averaged after each epoch (False; fewer messages)", "ours",
        decides=TRAIN_AND_SEARCH,
    ),
    "checkpoint_minutes": Key(
        15.0, "minutes after which a checkpoint is written inside an epoch, from which --resume goes on to the same numbers; "
        "0: at the end of each epoch alone", "ours", NOT_NEGATIVE,
    ),
    "keep_checkpoints": Key(
        2, "newest checkpoints that stay; --resume takes the newest that is whole", "ours", AT_LEAST_ONE,
    ),
    "compile": Key(False, "torch.compile of the network; gained nothing on a CPU", decides=TRAIN_AND_SEARCH),
    "holdout": Key(
        0.0, "share of the training identities that chooses the best epoch; 0 takes the last. A search sees them all", "ours",
        FRACTION, decides=TRAIN,
    ),
    "eval_freq": Key(10, "epochs between two looks at the held-out identities", "ours", AT_LEAST_ONE, decides=TRAIN),
}

_ADAM = (Need("train.optim", "adam", "amsgrad", "radam"),)
ADAM = {
    "beta1": Key(0.5, "decay of the mean of the gradients", "CM-NAS", FRACTION, _ADAM, RECIPE),
    "beta2": Key(0.999, "decay of the mean of the squared gradients", "CM-NAS", FRACTION, _ADAM, RECIPE),
}

SGD = {
    "momentum": Key(0.9, "momentum", "torchreid", FRACTION, (Need("train.optim", "sgd", "rmsprop"),), RECIPE),
    "nesterov": Key(False, "Nesterov's momentum", "torchreid", None, (Need("train.optim", "sgd"),), RECIPE),
}
