"""Features of images from trained models, matching by them, and thresholds for a chosen false-accept rate."""
from __future__ import annotations

from torchreid_nas.features.extractor import FeatureExtractor, UnreadableWarning
from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.labels import Label, read_label
from torchreid_nas.features.matching import GalleryRanking, Matches, pairwise_distances
from torchreid_nas.features.registered import register_trained
from torchreid_nas.features.threshold import ROC, OperatingPoint, compute_roc

__all__ = [
    "FeatureExtractor", "FeatureSet", "GalleryRanking", "Label", "Matches", "OperatingPoint", "ROC",
    "UnreadableWarning", "compute_roc", "pairwise_distances", "read_label", "register_trained",
]
