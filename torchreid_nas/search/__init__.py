"""Search: the bilevel optimiser and the spaces it walks."""
from torchreid_nas.search.bilevel import BilevelOptimizer
from torchreid_nas.search.bn_space import BNSplitSpace
from torchreid_nas.search.depth_space import CombinedDepthSpace, CombinedSpace
from torchreid_nas.search.space import SearchSpace

__all__ = ["BNSplitSpace", "BilevelOptimizer", "CombinedDepthSpace", "CombinedSpace", "SearchSpace"]
