"""Neural architecture search: spaces, the relaxations of their choices, the bilevel optimiser."""
from torchreid_nas.search.bilevel import BilevelOptimizer
from torchreid_nas.search.bn_space import BNSplitSpace
from torchreid_nas.search.depth_space import CombinedDepthSpace, CombinedSpace
from torchreid_nas.search.space import SPACES, SearchSpace, draw_architecture, find_space, register_space

__all__ = [
    "SPACES", "BNSplitSpace", "BilevelOptimizer", "CombinedDepthSpace", "CombinedSpace", "SearchSpace", "draw_architecture",
    "find_space", "register_space",
]
