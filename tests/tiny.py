"""The config of the end-to-end tests."""

TINY = {
    "model.name": "two_stream_resnet18", "model.width": 0.125, "model.pretrained": False,
    "data.height": 48, "data.width": 24, "data.workers": 0, "data.transforms": ["random_flip", "random_erase"],
    "sampler.num_instances": 2, "train.batch_size": 16, "train.num_batches": 3, "train.max_epoch": 3,
    "train.lr": 0.002, "train.warmup_epochs": 1, "train.ema": 0.9, "train.stepsize": [2],
    "search.max_epoch": 3, "search.warmup_epochs": 1, "search.arch_lr": 0.1,
}
"""A config that trains on the tiny data in seconds."""
