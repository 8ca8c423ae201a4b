"""The pictures of a run, drawn from what its folder holds: they can always be made again."""
from __future__ import annotations

__all__ = ["draw_pictures", "try_to_draw"]

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from torchreid_nas import report
from torchreid_nas.architecture import Architecture
from torchreid_nas.config import load_config
from torchreid_nas.methods import make_method
from torchreid_nas.report.style import GENERATED
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.search.space import draw_architecture

logger = logging.getLogger(__name__)


def draw_pictures(folder: RunFolder) -> list[Path]:
    """Draw every picture whose values the folder holds, and return the pictures in the order of the stages.

    Args:
        folder: of a run or of a series of runs.

    Raises:
        InputError: a file of the folder is broken, or the pictures cannot be written.
    """
    drawn = []
    for path, values, draw in (
        (folder.architecture_figure, (folder.architecture, folder.search.history), draw_search),
        (folder.training_figure, (folder.train.history,), draw_training),
        (folder.ablation_figure, (folder.results,), draw_series),
    ):
        if all(value.exists() for value in values) and draw(folder):
            drawn.append(path)
    return drawn


def draw_search(folder: RunFolder) -> bool:
    """Draw how the architecture came about."""
    cfg = load_config(folder.search.config)
    options = make_method(cfg, torch.device("cpu")).figure_options()
    history, architecture = report.read_history(folder.search.history), Architecture.load(folder.architecture)
    draw_architecture(history, architecture, folder.architecture_figure, **options)
    return True


def draw_training(folder: RunFolder) -> bool:
    """Draw the losses and scores of the training."""
    cfg = load_config(folder.train.config)
    images = f", {GENERATED}" if cfg.synthetic.enabled else ""
    title = f"{cfg.model.name}, {' + '.join(cfg.data.sources)}{images}"
    report.draw_training(report.read_history(folder.train.history), folder.training_figure, title)
    return True


def draw_series(folder: RunFolder) -> bool:
    """Draw the variants of an ablation side by side; returns whether the results are of one."""
    results = folder.read_results()
    is_ablation = any("variant" in row for row in results.get("results", ()))
    if is_ablation:
        report.draw_ablation(results, folder.ablation_figure)
    return is_ablation


def try_to_draw(draw: Callable[[RunFolder], object], folder: RunFolder, what: str = "a picture") -> None:
    """Draw a picture of a stage that is finished; a fault becomes a warning, because it must not cost the stage."""
    try:
        draw(folder)
    except Exception as error:
        logger.warning(
            f'{what} of "{folder}" was not drawn ({type(error).__name__}: {error}); the values are saved, and '
            f'"torchreid-nas report {folder}" draws it again'
        )
