"""Pictures and tables of a finished run: how its architecture came about, how its training went, what it reached."""
from __future__ import annotations

from torchreid_nas.report.architecture_figure import draw_architecture
from torchreid_nas.report.history import decision_epochs, read_history
from torchreid_nas.report.slots import short_names, stages
from torchreid_nas.report.table import results_table
from torchreid_nas.report.training_figure import draw_training

__all__ = [
    "decision_epochs", "draw_architecture", "draw_training", "read_history", "results_table", "short_names", "stages",
]
