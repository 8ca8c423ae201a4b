"""A tabular benchmark of the BatchNorm space: the scores of trained networks by architecture, seed and identity."""
from torchreid_nas.search.bench.bench import TABLES, Answer, SplitBench
from torchreid_nas.search.bench.noise import Components
from torchreid_nas.search.bench.predictor import SplitPredictor
from torchreid_nas.search.bench.searchers import (
    SEARCHERS,
    Found,
    Searcher,
    random_search,
    regularised_evolution,
    thompson_sampling,
    upper_confidence_bound,
)
from torchreid_nas.search.bench.table import Row, Table, read_table, write_table

__all__ = [
    "SEARCHERS", "TABLES", "Answer", "Components", "Found", "Row", "Searcher", "SplitBench", "SplitPredictor", "Table",
    "random_search", "read_table", "regularised_evolution", "thompson_sampling", "upper_confidence_bound", "write_table",
]
