"""The config of the end-to-end tests."""

PLAIN = {"report.enabled": False}
"""No page at the end of a run: it costs more than the run. Tests of the page write it themselves."""

EXACT = {"train.amp": "none", "train.channels_last": False}
"""Full precision on every machine, for tests that compare numbers."""

TINY = {
    **EXACT, **PLAIN,
    "model.name": "two_stream_resnet18", "model.width": 0.125, "model.pretrained": False,
    "data.height": 48, "data.width": 24, "data.workers": 0, "data.transforms": ["random_flip", "random_erase"],
    "sampler.num_instances": 2, "train.batch_size": 16, "train.num_batches": 3, "train.max_epoch": 3,
    "train.lr": 0.002, "train.warmup_epochs": 1, "train.ema": 0.9, "train.stepsize": [2],
    "search.max_epoch": 3, "search.paths": 6, "search.warmup_epochs": 1, "search.arch_lr": 0.1,
}
"""A config that trains on the tiny data in seconds."""

TINY_CDNET = {
    **EXACT, **PLAIN,
    "model.name": "cdnet", "model.width": 0.125, "model.pretrained": False,
    "data.sources": ["market1501"], "data.targets": ["market1501"],
    "data.height": 64, "data.width": 32, "data.workers": 0, "data.transforms": ["random_flip"],
    "sampler.num_instances": 2, "train.batch_size": 8, "train.num_batches": 3, "train.max_epoch": 2,
    "train.lr": 0.002, "train.staged_lr": False, "train.warmup_epochs": 1, "train.ema": 0.0, "train.stepsize": [2],
    "loss.triplet.margin": 0.3, "search.space": "combined_depth", "search.max_epoch": 2, "search.warmup_epochs": 0,
    "search.interval": 1, "search.arch_lr": 0.1, "search.val_images": 4,
}
"""The same for CDNet and its search."""

TINY_ECN = {
    **EXACT, **PLAIN,
    "model.name": "ecn_resnet18", "model.architecture": "none", "model.width": 0.125, "model.pretrained": False,
    "model.feature_dim": 16, "model.frozen_stages": -1, "model.dropout": 0.5,
    "data.sources": ["dukemtmcreid"], "data.targets": ["market1501"],
    "data.height": 64, "data.width": 32, "data.workers": 0, "data.transforms": ["random_flip"],
    "sampler.num_instances": 2, "train.batch_size": 8, "train.max_epoch": 3, "train.lr": 0.01, "train.optim": "sgd",
    "train.staged_lr": False, "train.lr_scheduler": "single_step", "train.stepsize": [2], "train.ema": 0.0,
    "ecn.camstyle": "statistics", "ecn.num_neighbours": 4, "ecn.neighbour_epoch": 1,
}
"""The same for ECN: a Duke-like source, a Market-like target."""
