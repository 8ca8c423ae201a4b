"""The configuration of a run: defaults, files, overrides, and a clear word for what does not fit.

Keys are torchreid's where torchreid has one. The defaults are the recipe of
CM-NAS (Fu et al., ICCV 2021); what the paper leaves open is marked "ours".
"""
from __future__ import annotations

__all__ = ["default_config", "load_config", "config_to_yaml", "changed_keys"]

import ast
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from torchreid_nas.config.ranges import AUTO_OR_BOOL, RANGES, check_together
from torchreid_nas.config.shipped import find_config
from torchreid_nas.errors import InputError, nearest

# What lists hold whose defaults are empty and so do not tell.
_ITEMS: dict[str, Any] = {"ecn.ablation": "", "search.arch_stepsize": 0}


def default_config() -> CfgNode:
    """Return all keys with their defaults, the recipe of CM-NAS."""
    cfg = CfgNode()
    cfg.device = ""  # "" takes a GPU where there is one; else "cpu", "cuda", "cuda:1", …

    cfg.model = CfgNode()
    cfg.model.name = "two_stream_resnet50"
    cfg.model.pretrained = "imagenet"  # "imagenet", "" (from scratch), or the path of a weights file
    cfg.model.load_weights = ""  # a checkpoint (ours or the authors') to test, or to start training from
    cfg.model.architecture = "search"  # what the search stage found, a preset, or an architecture file
    cfg.model.width = 1.0
    cfg.model.last_stride = 1
    cfg.model.neck = "fblneck"  # CDNet: "fblneck" or "blneck"
    cfg.model.dropout = 0.2  # of CDNet's neck, of ECN's heads (0.5 in the paper)
    cfg.model.feature_dim = 4096  # ECN: length of the embedding and of the memory's slots
    cfg.model.frozen_stages = 2  # ECN: 2 freezes conv1 to layer2, 0 the stem, -1 nothing
    cfg.model.standardize_input = False  # ours: the control beside split BatchNorms

    cfg.data = CfgNode()
    cfg.data.root = "reid-data"
    cfg.data.sources = ["regdb"]
    cfg.data.targets = ["regdb", "regdb_ir2vis"]
    cfg.data.split_id = 0  # RegDB trial, 0-based
    cfg.data.height = 256
    cfg.data.width = 128
    cfg.data.transforms = ["pad_crop", "random_flip", "random_erase"]
    cfg.data.norm_mean = [0.485, 0.456, 0.406]
    cfg.data.norm_std = [0.229, 0.224, 0.225]
    cfg.data.workers = 4  # processes that decode where the cache does not serve
    cfg.data.cache = "auto"  # ours: images are decoded once and augmented in batches; "off": torchreid's PIL pipeline
    cfg.data.cache_dir = ""  # of decoded images; "": <data.root>/.cache, or the user's cache folder where that is read-only
    cfg.data.save_dir = "runs/cmnas"

    cfg.sampler = CfgNode()
    cfg.sampler.num_instances = 4  # K images of each modality per identity

    cfg.loss = CfgNode()
    cfg.loss.softmax = CfgNode()
    cfg.loss.softmax.label_smooth = False
    cfg.loss.triplet = CfgNode()
    cfg.loss.triplet.margin = 0.4
    cfg.loss.triplet.weight_x = 1.0
    cfg.loss.triplet.weight_t = 1.0
    cfg.loss.c3mmd = CfgNode()
    cfg.loss.c3mmd.weight_correlation = 5.0
    cfg.loss.c3mmd.weight_mmd = 0.05

    # Domain adaptation (ECN, CVPR 2019).
    cfg.ecn = CfgNode()
    cfg.ecn.weight_target = 0.3  # λ; 0 trains on the source alone, 1 reads no label at all
    cfg.ecn.target_epoch = 0  # ours: zero-based epoch in which the target sets in; before it the source alone
    cfg.ecn.temperature = 0.05  # β
    cfg.ecn.num_neighbours = 6  # k; 0 leaves neighbourhood invariance out
    cfg.ecn.neighbour_epoch = 5  # zero-based epoch in which it sets in
    cfg.ecn.momentum_step = 0.01  # a slot keeps α = momentum_step · epoch of itself, epochs counted from target_epoch
    cfg.ecn.camstyle = "files"  # "files" (released or trained), "fourier", "statistics" (ours, no training), "none"
    cfg.ecn.epoch_length = "source"  # whose length an epoch has: "source", "target" or "longer"
    cfg.ecn.batch_size_target = 0  # 0: as train.batch_size
    cfg.ecn.memory_init = "zeros"  # ours: "features" of the target under the weights at target_epoch
    cfg.ecn.memory_dtype = "float32"  # ours: "bfloat16" and "float16" halve it
    cfg.ecn.chunk_size = 16384  # ours: slots per step of the walk over the memory; bounds the logits
    cfg.ecn.positive_prediction = False  # ECN++: a graph network trained on the source chooses the neighbours
    cfg.ecn.num_candidates = 100  # ECN++: slots that it chooses from
    cfg.ecn.positive_threshold = 0.9  # ECN++: probability above which a slot is chosen
    cfg.ecn.positive_lr = 1e-3  # ours: learning rate of that network
    cfg.ecn.ablation = []  # train all of these in turn: source, exemplar, camera, neighbourhood, all, supervised

    cfg.train = CfgNode()
    cfg.train.seed = 1
    cfg.train.max_epoch = 120
    cfg.train.batch_size = 128  # P identities × K visible + K infrared
    cfg.train.num_batches = 0  # iterations per epoch (CDNet, ECN: at most); 0: floor(max(visible, infrared) / 64) + 1 (paper)
    cfg.train.optim = "adam"
    cfg.train.lr = 0.01
    cfg.train.weight_decay = 5e-4
    cfg.train.staged_lr = True
    cfg.train.new_layers = ["bnneck", "classifier"]
    cfg.train.base_lr_mult = 0.1
    cfg.train.lr_scheduler = "warmup_multi_step"
    cfg.train.stepsize = [40, 70]
    cfg.train.gamma = 0.1
    cfg.train.warmup_epochs = 10
    cfg.train.warmup_factor = 0.01
    cfg.train.ema = 0.997  # decay per step; 0 turns it off
    # "auto" follows from the device: bf16, channels-last and fused where its hardware and torch are faster with them.
    cfg.train.amp = "auto"  # "none", or "bf16" or "fp16" autocast
    cfg.train.channels_last = "auto"  # True or False
    cfg.train.fused = "auto"  # True or False: one kernel for the steps of Adam and SGD (the others have none)
    cfg.train.accumulate = 1  # batches per step of the optimiser
    cfg.train.compile = False  # torch.compile of the network; it gained nothing on a CPU
    # Ours: share of the training identities that chooses the best epoch; 0: the last epoch. A search sees them all.
    cfg.train.holdout = 0.0
    cfg.train.eval_freq = 10  # epochs between two looks at the held-out identities

    cfg.adam = CfgNode()
    cfg.adam.beta1 = 0.5
    cfg.adam.beta2 = 0.999
    cfg.sgd = CfgNode()
    cfg.sgd.momentum = 0.9
    cfg.sgd.nesterov = False

    # The paper publishes no search recipe. Defaults are those of TF-NAS (ECCV 2020, the same group) where it has
    # the key; the rest is ours.
    cfg.search = CfgNode()
    cfg.search.neck = ""  # CDNet: the neck while searching; "": model.neck
    cfg.search.space = "bn_split"
    cfg.search.max_epoch = 90
    cfg.search.warmup_epochs = 10  # weights only
    cfg.search.interval = 2  # an architecture step every n-th iteration
    cfg.search.order = 1
    cfg.search.lr = 0.025
    cfg.search.lr_min = 0.0  # end of the cosine
    cfg.search.momentum = 0.9
    cfg.search.weight_decay = 5e-4
    cfg.search.grad_clip = 5.0
    cfg.search.arch_lr = 0.01
    cfg.search.arch_beta1 = 0.5
    cfg.search.arch_beta2 = 0.999
    cfg.search.arch_weight_decay = 5e-4
    cfg.search.arch_stepsize = []  # epochs at which arch_lr is multiplied by arch_gamma
    cfg.search.arch_gamma = 0.1
    cfg.search.sampling = "softmax"  # ours: both candidates are computed at the price of one, noise would only add variance
    cfg.search.temperature = 5.0
    cfg.search.temperature_decay = 0.96
    cfg.search.split = "identity"  # validation part by "identity" (metric losses) or by "image" (cross-entropy too)
    cfg.search.val_fraction = 0.0  # 0: the official 296/99 on SYSU-MM01, a quarter elsewhere
    cfg.search.split_cost = 0.0  # weight of the expected share of split slots in the architecture loss
    cfg.search.train_affine = False  # train the candidates' scales and shifts too; off as in DARTS
    cfg.search.patience = 0  # stop when the architecture has not changed for n epochs; 0: never
    cfg.search.relaxation = "topk"  # block spaces: "topk" (CDNet), "softmax" (DARTS) or "gumbel" (GDAS)
    cfg.search.k = 2
    cfg.search.tie_jitter = 1e-6  # ours: seeded noise that breaks the ties of the start
    cfg.search.last_conv = True  # block spaces: the last 1x1 convolution that only CDNet's search network has
    cfg.search.val_images = 4  # block spaces: images per identity of the validation part
    cfg.search.overlap = False  # leave them in the training part too, as CDNet's authors do
    cfg.search.budget = CfgNode()  # ours, block spaces: at most one target for the network at test time; 0 for none
    cfg.search.budget.macs = 0.0
    cfg.search.budget.parameters = 0.0
    cfg.search.budget.latency = 0.0  # milliseconds for one image on this machine
    cfg.search.budget.weight = 1.0
    cfg.search.keep_weights = False  # start the training of the found network from the supernet's weights

    cfg.test = CfgNode()
    cfg.test.batch_size = 128
    cfg.test.precision = "fp32"  # as figures are published, whatever train.amp; ours: "bf16", or "auto" where it is fast
    cfg.test.compile = False  # ours: torch.compile of the network, for large targets
    cfg.test.dist_metric = "euclidean"
    cfg.test.normalize_feature = True
    cfg.test.ranks = [1, 5, 10, 20]
    cfg.test.shot = 1  # SYSU-MM01: images per identity and camera in the gallery
    cfg.test.gallery_draw = "random"  # SYSU-MM01: "random" as the common code, "official" from rand_perm_cam.mat
    cfg.test.num_trials = 10  # SYSU-MM01 galleries
    cfg.test.trapezoid_map = False  # also report mAP integrated by trapezoid, as ECN's authors do
    cfg.test.rerank = False
    cfg.test.matrix_gib = 4.0  # ours: a larger distance matrix is never made, its rankings are counted by blocks
    cfg.test.visrank = False
    cfg.test.visrank_topk = 10

    # A stand-in written in the real layout where the data set is missing; never for figures of the real one.
    cfg.synthetic = CfgNode()
    cfg.synthetic.enabled = False
    cfg.synthetic.identities = 120
    cfg.synthetic.images = 10
    cfg.synthetic.height = 128
    cfg.synthetic.width = 64
    cfg.synthetic.gap = 0.7
    cfg.synthetic.difficulty = 0.5
    cfg.synthetic.cameras = 6  # at most: Market-1501 has 6, DukeMTMC-reID 8
    cfg.synthetic.seed = 0
    return cfg


def load_config(path: str | os.PathLike | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Return the defaults, changed by a YAML file, then by ``KEY VALUE`` overrides, checked.

    Args:
        path: a YAML file with any part of the keys, the name of a shipped config such as ``"demo"``, or None.
        overrides: ``["train.lr", "0.02", …]`` as on torchreid's command line.

    Raises:
        InputError: unreadable file, unknown key (the nearest known one is
            named), wrong type, value out of range.
    """
    cfg = default_config()
    defaults = dict(_flatten(cfg))
    if path is not None:
        path = find_config(path)
        for key, value in _flatten(_read_yaml(path)):
            _set(cfg, key, value, f'the config "{path}"')
    file = next((word for word in overrides[::2] if word.endswith((".yaml", ".yml"))), None)
    if file is not None:
        raise InputError(f'"{file}" stands where a key is expected; write --config {file}')
    if len(overrides) % 2:
        raise InputError(f'the override "{overrides[-1]}" has no value; write KEY VALUE pairs, e.g. train.lr 0.02')
    for key, text in zip(overrides[::2], overrides[1::2]):
        value = _parse(text)
        # What reads as a number may be the name of a folder: 1.10 is not 1.1.
        if isinstance(defaults.get(key), str) and type(value) in (int, float):
            value = text
        _set(cfg, key, value, "the command line")
    check_together(cfg)
    cfg.freeze()
    return cfg


def config_to_yaml(cfg: CfgNode) -> str:
    """Return the config as YAML text with every key."""
    return cfg.dump(sort_keys=False)


def changed_keys(old: dict, new: CfgNode, among: Sequence[str], but: Sequence[str] = ()) -> list[str]:
    """Return ``key: old -> new`` for every key that differs between a saved config and ``new``.

    Args:
        old: a config as read from YAML.
        new: the config to compare with.
        among: keys and sections to look at.
        but: keys to leave out.
    """
    before = dict(_flatten(old))
    return [
        f"{key}: {before.get(key)} -> {value}" for key, value in _flatten(new)
        if (key in among or key.split(".")[0] in among) and key not in but and before.get(key) != value
    ]


def _read_yaml(path: str | os.PathLike) -> dict:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f'the config "{path}" cannot be read ({error.strerror}); `torchreid-nas configs` lists the shipped ones'
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f'the config "{path}"{where} is not valid YAML; mend the file') from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f'the config "{path}" holds no keys; expected sections such as "train:"')
    return content


def _flatten(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _set(cfg: CfgNode, key: str, value: Any, origin: str) -> None:
    known = [name for name, _ in _flatten(cfg)]
    if value is None and any(name.startswith(f"{key}.") for name in known):
        return  # a section of a file whose keys are all commented out
    if key not in known:
        raise InputError(f'{origin} has the unknown key "{key}"{nearest(key, known)}')
    *sections, name = key.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    node[name] = _coerce(key, value, node[name], origin)
    if isinstance(node[name], float) and not math.isfinite(node[name]):
        raise InputError(f"{origin} sets {key} to {value!r}, expected a finite number")
    if key in RANGES:
        valid, expected = RANGES[key]
        if not valid(node[name]):
            raise InputError(f"{origin} sets {key} to {value!r}, expected {expected}")


def _coerce(key: str, value: Any, default: Any, origin: str) -> Any:
    kind = type(default)
    if kind is float and isinstance(value, str):
        value = _parse(value)  # YAML 1.1 reads 5e-4 as text
    if kind is float and type(value) is int:
        return float(value)
    if kind is list and isinstance(value, (list, tuple)):
        return [_coerce(key, item, default[0] if default else _ITEMS[key], origin) for item in value]
    if kind is list and isinstance(value, str):
        if value.startswith("["):
            # A shell takes the quotes away that are not quoted themselves.
            meant = json.dumps([word.strip() for word in value.strip("[] ").split(",")])
            raise InputError(f"{origin} sets {key} to {value}, which is no list; write it as '{meant}'")
        return _coerce(key, [value], default, origin)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    # torchreid writes model.pretrained as a boolean.
    if key == "model.pretrained" and isinstance(value, bool):
        return "imagenet" if value else ""
    # YAML 1.1 reads on and off as booleans.
    if key == "data.cache" and isinstance(value, bool):
        return "on" if value else "off"
    if RANGES.get(key) is AUTO_OR_BOOL:
        return value
    if type(value) is not kind:
        names = {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list"}
        raise InputError(f"{origin} sets {key} to {value!r}, expected {names[kind]}")
    # A shell expands ~ neither in a file nor in --output=~/runs.
    return os.path.expanduser(value) if kind is str else value


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)
