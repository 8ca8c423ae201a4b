"""Rows of the section ``search``.

CM-NAS publishes no recipe of its search. The defaults are those of TF-NAS (Hu et al., ECCV 2020, the same group) where
TF-NAS has the key.
"""
from __future__ import annotations

__all__ = ["SEARCH"]

from dataclasses import replace

from torchreid_nas.architecture import BN_SPACE, FORMATS
from torchreid_nas.architecture_format import FORMER_NAMES
from torchreid_nas.config.key import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, RISING_EPOCHS, Check, Key, Need, one_of
from torchreid_nas.neck_names import NECKS

_ROWS = {
    "neck": Key("", 'neck of a CDNet while searching; "" is model.neck', "CDNet", one_of("", *NECKS)),
    "space": Key(
        BN_SPACE, "search space; norm_split is which norms the modalities share (formerly bn_split)", "CM-NAS",
        Check(
            lambda value: value in FORMATS,
            ", ".join(f'"{name}"' for name in FORMATS) + " or a space that is registered from outside",
        ),
        spellings=FORMER_NAMES,
    ),
    "method": Key(
        "auto", "how choices are found: gradient (bilevel), or paths (ours: one network trained by train's recipe on random "
        "architectures, whose retrieval then scores the slots); auto is paths in norm_split, gradient in other spaces",
        "ours", one_of("auto", "gradient", "paths"),
    ),
    "paths": Key(
        80, "architectures whose retrieval scores the slots in a search by paths", "ours",
        Check(lambda value: value >= 4, "a whole number of at least 4"),
    ),
    "margin": Key(
        1.0, "standard deviations by which splitting must raise the loss before a search by paths shares a slot",
        "ours", NOT_NEGATIVE,
    ),
    "max_epoch": Key(90, "epochs", "TF-NAS", AT_LEAST_ONE),
    "warmup_epochs": Key(10, "epochs in which only the weights are trained", "TF-NAS", NOT_NEGATIVE),
    "interval": Key(2, "an architecture step comes at every n-th batch", "TF-NAS", AT_LEAST_ONE),
    "order": Key(
        1, "order of the architecture's gradient: 1, or 2 with DARTS's finite differences",
        "ours", Check(lambda value: value in (1, 2), "1 or 2"),
    ),
    "lr": Key(0.025, "learning rate of the weights (SGD)", "TF-NAS", POSITIVE),
    "lr_min": Key(0.0, "learning rate of the weights at the end of the cosine", "ours", NOT_NEGATIVE),
    "momentum": Key(0.9, "momentum of the weights' SGD", "TF-NAS", FRACTION),
    "weight_decay": Key(5e-4, "weight decay of the weights", "ours", NOT_NEGATIVE),
    "grad_clip": Key(5.0, "largest norm of the weights' gradient; 0 clips nothing", "TF-NAS", NOT_NEGATIVE),
    "arch_lr": Key(0.01, "learning rate of the logits (Adam)", "TF-NAS", POSITIVE),
    "arch_beta1": Key(0.5, "Adam's decay of the mean of the logits' gradients", "TF-NAS", FRACTION),
    "arch_beta2": Key(0.999, "Adam's decay of the mean of their squares", "TF-NAS", FRACTION),
    "arch_weight_decay": Key(5e-4, "weight decay of the logits", "TF-NAS", NOT_NEGATIVE),
    "arch_stepsize": Key([], "epochs at which the learning rate of the logits falls", "ours", RISING_EPOCHS, item=0),
    "arch_gamma": Key(0.1, "factor by which the learning rate of the logits falls", "ours", POSITIVE),
    "sampling": Key(
        "softmax", "candidates of a BatchNorm: weighted (softmax; both cost as one), or drawn with noise (gumbel: TF-NAS)",
        "ours",
        one_of("softmax", "gumbel"),
    ),
    "temperature": Key(5.0, "temperature of the relaxation after the warm-up", "TF-NAS", POSITIVE),
    "temperature_decay": Key(
        0.96, "factor of the temperature per epoch", "TF-NAS", Check(lambda value: 0 < value <= 1, "above 0 and at most 1"),
    ),
    "split": Key(
        "identity", "validation part by identity (metric losses) or by image (cross-entropy too)",
        "ours", one_of("identity", "image"),
    ),
    "val_fraction": Key(
        0.0, "share of the validation part; 0 is the official 296 / 99 of SYSU-MM01, a quarter of others", "ours", FRACTION,
    ),
    "split_cost": Key(0.0, "loss weight of the expected share of split slots"),
    "train_affine": Key(False, "train the candidates' scales and shifts as well; off as in DARTS"),
    "patience": Key(0, "stop when the architecture has not changed for n epochs; 0 never stops", "ours", NOT_NEGATIVE),
    "relaxation": Key(
        "topk", "relaxation of block spaces: topk (CDNet), softmax (DARTS) or gumbel (GDAS)",
        "CDNet", one_of("topk", "softmax", "gumbel"),
    ),
    "k": Key(2, "candidates that the relaxation topk keeps", "CDNet", AT_LEAST_ONE),
    "tie_jitter": Key(1e-6, "size of the noise that breaks the ties of topk's start", "ours", NOT_NEGATIVE),
    "last_conv": Key(True, "the last 1x1 convolution, which only CDNet's search network has", "CDNet"),
    "val_images": Key(4, "images per identity of the validation part", "CDNet", AT_LEAST_ONE),
    "overlap": Key(False, "leave them in the training part too, as CDNet's authors do"),
    "budget.macs": Key(0.0, "target for the network at test time, in multiply-adds per image; 0 for none", "ours", NOT_NEGATIVE),
    "budget.parameters": Key(0.0, "target for the network at test time, in parameters; 0 for none", "ours", NOT_NEGATIVE),
    "budget.latency": Key(
        0.0, "target for the network at test time, in milliseconds for one image on this machine; 0 for none",
        "ours", NOT_NEGATIVE,
    ),
    "budget.weight": Key(1.0, "loss weight of the budget", "ours", POSITIVE),
    "keep_weights": Key(False, "start the training of the found network from the supernet's weights"),
}
_SEARCHED = (Need("model.architecture", "search"),)
SEARCH = {name: replace(row, needs=_SEARCHED, decides=("search",)) for name, row in _ROWS.items()}
