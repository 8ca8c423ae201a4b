"""Evidence: how sure a figure is, and whether two figures differ."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "intervals": ("Interval", "interval"),
    "pairs": ("PairedTest", "holm", "paired_test"),
})
