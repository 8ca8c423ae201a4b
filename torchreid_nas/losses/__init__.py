"""Losses: over the two halves of a cross-modality batch, and over the exemplar memory of domain adaptation.

The losses take tensors and labels and know no engine.
"""
from __future__ import annotations

from torchreid_nas.losses.c3mmd import C3MMDLoss, ClassMMDLoss, CorrelationConsistencyLoss
from torchreid_nas.losses.identity import identity_loss
from torchreid_nas.losses.invariance import InvarianceLoss, PositivePredictor
from torchreid_nas.losses.memory import ExemplarMemory
from torchreid_nas.losses.positive_prediction import PositivePrediction
from torchreid_nas.losses.triplet import BatchHardTripletLoss, CrossModalityTripletLoss
from torchreid_nas.losses.weighted_triplet import EnhancedSquaredDifferenceLoss, WeightedRegularizedTripletLoss

__all__ = [
    "BatchHardTripletLoss", "C3MMDLoss", "ClassMMDLoss", "CorrelationConsistencyLoss", "CrossModalityTripletLoss",
    "EnhancedSquaredDifferenceLoss", "ExemplarMemory", "InvarianceLoss", "PositivePrediction", "PositivePredictor",
    "WeightedRegularizedTripletLoss",
    "identity_loss",
]
