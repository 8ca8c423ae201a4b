"""Retrieval metrics and the protocols of the data sets; they see distances, features and labels, never a network."""
from __future__ import annotations

from torchreid_nas.metrics.fast_ranking import evaluate_rank, use_fast_ranking
from torchreid_nas.metrics.protocols import (
    PROTOCOLS,
    Protocol,
    evaluate_llcm,
    evaluate_market1501,
    evaluate_regdb,
    evaluate_sysu_mm01,
    find_protocol,
    register_protocol,
)
from torchreid_nas.metrics.query_scores import QueryScores
from torchreid_nas.metrics.ranking import average_results, rank_queries
from torchreid_nas.metrics.reranking import re_rank_features, re_ranking
from torchreid_nas.metrics.scores import SCORES, Ranked, Score, find_score, register_score
from torchreid_nas.metrics.streaming import rank_features
from torchreid_nas.metrics.tally import RankingResult

__all__ = [
    "PROTOCOLS", "Protocol", "QueryScores", "Ranked", "RankingResult", "SCORES", "Score", "average_results",
    "evaluate_llcm", "evaluate_market1501", "evaluate_rank", "evaluate_regdb", "evaluate_sysu_mm01", "find_protocol",
    "find_score", "rank_features", "rank_queries", "re_rank_features", "re_ranking", "register_protocol", "register_score",
    "use_fast_ranking",
]
