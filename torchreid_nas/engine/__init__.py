"""Engines: what torchreid's training and evaluation loop drives."""
from torchreid_nas.engine.balance import BalanceNeckEngine
from torchreid_nas.engine.base import ResumableEngine
from torchreid_nas.engine.classification import ClassificationEngine
from torchreid_nas.engine.cross_modality import FEATURES, CrossModalityEngine, CrossModalityLossWeights
from torchreid_nas.engine.domain_adaptation import AdaptationOptions, DomainAdaptationEngine
from torchreid_nas.engine.ema import ExponentialMovingAverage
from torchreid_nas.engine.options import TrainingOptions, seed_everything
from torchreid_nas.engine.path_search import CrossModalityPathSearchEngine, PathOptions
from torchreid_nas.engine.retrieval import EvaluationOptions, RetrievalEngine
from torchreid_nas.engine.search import (
    BalanceNeckSearchEngine,
    BilevelSearch,
    ClassificationSearchEngine,
    CrossModalitySearchEngine,
    SearchOptions,
)

__all__ = [
    "AdaptationOptions", "BalanceNeckEngine", "BalanceNeckSearchEngine", "BilevelSearch", "ClassificationEngine",
    "ClassificationSearchEngine", "CrossModalityEngine", "CrossModalityLossWeights", "CrossModalityPathSearchEngine",
    "CrossModalitySearchEngine", "DomainAdaptationEngine", "EvaluationOptions", "ExponentialMovingAverage", "FEATURES",
    "PathOptions", "ResumableEngine", "RetrievalEngine", "SearchOptions", "TrainingOptions", "seed_everything",
]
