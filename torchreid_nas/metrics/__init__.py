"""Retrieval metrics and the protocols of the data sets; they see distances, features and labels, never a network."""
from __future__ import annotations

from torchreid_nas.metrics.fast_ranking import evaluate_rank, use_fast_ranking
from torchreid_nas.metrics.protocols import PROTOCOLS, evaluate_market1501, evaluate_regdb, evaluate_sysu_mm01
from torchreid_nas.metrics.ranking import average_results, rank_queries
from torchreid_nas.metrics.reranking import re_rank_features, re_ranking
from torchreid_nas.metrics.streaming import rank_features
from torchreid_nas.metrics.tally import RankingResult

__all__ = [
    "PROTOCOLS", "RankingResult", "average_results", "evaluate_market1501", "evaluate_rank", "evaluate_regdb",
    "evaluate_sysu_mm01", "rank_features", "rank_queries", "re_rank_features", "re_ranking", "use_fast_ranking",
]
