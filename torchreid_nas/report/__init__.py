"""Pictures and tables of a finished run: how its architecture came about, how its training went, what it reached."""
from __future__ import annotations

from torchreid_nas.report.ablation_figure import draw_ablation
from torchreid_nas.report.bn_split_figure import draw_bn_split
from torchreid_nas.report.genotype_figure import draw_genotype
from torchreid_nas.report.history import decision_epochs, read_history
from torchreid_nas.report.network_parts import NetworkPart, network_parts
from torchreid_nas.report.table import results_table
from torchreid_nas.report.training_figure import draw_training
from torchreid_nas.slots import short_names, stages

__all__ = [
    "NetworkPart", "decision_epochs", "draw_ablation", "draw_bn_split", "draw_genotype",
    "draw_training", "network_parts", "read_history", "results_table", "short_names", "stages",
]
