"""Features of images from trained models, matching by them, and thresholds for a chosen false-accept rate."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "extractor": ("FeatureExtractor", "UnreadableWarning"),
    "feature_set": ("FeatureSet",),
    "labels": ("Label", "read_label"),
    "matching": ("GalleryRanking", "Matches", "pairwise_distances"),
    "registered": ("register_trained",),
    "threshold": ("ROC", "OperatingPoint", "compute_roc"),
})
