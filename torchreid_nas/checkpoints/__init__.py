"""Checkpoints: the layout of a file of weights, and loading it into a network."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "load": (
        "checkpoint_num_classes", "classifier_size", "load_authors_checkpoint", "load_weights", "read_weights", "resolve_weights",
    ),
    "recognise": ("Recognised",),
    "trained": ("TrainedModel", "wrap_model"),
})
