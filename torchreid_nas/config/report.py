"""Rows of the section ``report``, and the key ``logger``."""
from __future__ import annotations

__all__ = ["LOGGER", "REPORT"]

from torchreid_nas.config.key import Key, one_of

LOGGER = Key(
    "tensorboard", "who else gets the numbers and pictures of a run: a folder of TensorBoard events, Weights & Biases or MLflow "
    "by their own clients and settings, or nobody", "torchreid", one_of("tensorboard", "wandb", "mlflow", "none"),
)

REPORT = {
    "enabled": Key(True, "write report.html at the end of a run, its page for people; `torchreid-nas report` writes it later"),
}
