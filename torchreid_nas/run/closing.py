"""The last lines of a command: where the table, the pictures and the page of a run are, and what to do next."""
from __future__ import annotations

__all__ = ["closing_lines"]

import shlex

from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.run.folder import SEARCHED, RunFolder
from torchreid_nas.zoo.trained import load_trained


def closing_lines(folder: RunFolder) -> list[str]:
    """Return the lines with the paths of table, pictures and page, and one next command.

    Args:
        folder: of a run or of a series of runs.
    """
    pictures = [
        path for path in (folder.architecture_figure, folder.training_figure, folder.ablation_figure) if path.exists()
    ]
    lines = [f"table:   {folder.results}"] if folder.results.exists() else []
    if pictures:
        lines.append("figures: " + ", ".join(map(str, pictures)))
    if folder.page.exists():
        lines.append(f"page:    {folder.page}")
    following = _next_command(folder)
    return [*lines, f"next:    {following}"] if following else lines


def _next_command(folder: RunFolder) -> str:
    """Return the command that makes use of what is there, of variants their comparison; empty after a test of other weights."""
    run = next((one for one in (folder, *folder.trials()) if one.train.weights.is_file()), None)
    tested = [str(one) for one in folder.members() if one.results.is_file()]
    if run is None and len(tested) > 1:
        return shlex.join(["torchreid-nas", "compare", *tested])
    if run is None:
        return _stages_command(folder, "train,test") if folder.is_searched() else ""
    if not run.results.is_file():
        return _stages_command(run, "test")
    cfg = load_config(run.config)
    if cfg.task == "classification":
        # Its weights are what a re-ID starts from.
        searched = ["model.architecture", str(run.architecture)] if cfg.model.architecture == SEARCHED else []
        words = ["--config", "cdnet_market1501", "model.name", cfg.model.name, *searched, "model.pretrained", str(run)]
        return shlex.join(["torchreid-nas", *words])
    try:
        modalities = load_trained(run.path).modalities
    except InputError:
        return ""
    words = ["torchreid-nas", "match", "QUERY", "GALLERY", "--model", str(run)]
    for option, modality in zip(("--query-modality", "--gallery-modality"), modalities):
        words += [option, modality]
    return shlex.join(words)


def _stages_command(run: RunFolder, stages: str) -> str:
    return shlex.join(["torchreid-nas", "--config", str(run.config), "--output", str(run), "--stages", stages])
