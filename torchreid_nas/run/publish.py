"""The entry of a finished run, for a zoo of one's own."""
from __future__ import annotations

__all__ = ["add_run"]

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from yacs.config import CfgNode

from torchreid_nas.architecture import Architecture
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.files import file_digest, write_text
from torchreid_nas.hub.catalogue import list_entries
from torchreid_nas.hub.entry import Entry
from torchreid_nas.layers import SplitNorm, modality_context
from torchreid_nas.methods import make_method
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.published import measured_figure
from torchreid_nas.zoo.networks import build

_UNSTATED = "not stated by those who trained it"


def add_run(
    run: str | os.PathLike[str], name: str | None = None, output: str | os.PathLike[str] | None = None, licence: str = _UNSTATED,
) -> tuple[Entry, Path]:
    """Write the zoo entry of a finished run, and return the entry with its file.

    The network is built from the entry, and its weights are loaded, before
    the entry is written: an entry that was written works.

    Args:
        run: its folder, with the stages train and test finished.
        name: name of the entry; None takes the name of the folder.
        output: the YAML file; None puts ``zoo.yaml`` into the folder.
        licence: licence of the weights.

    Raises:
        InputError: an unfinished run, a name that is taken, or a file that exists.
    """
    folder = RunFolder(Path(run))
    missing = folder.missing()
    if missing is not None:
        raise InputError(
            f'"{run}" is no finished run: it lacks {missing.relative_to(folder.path)}; run the stages train and test there first'
        )
    output = Path(output) if output is not None else folder.zoo_entries
    if output.exists():
        raise InputError(f'"{output}" exists already; remove it or choose another --output')
    name = name or folder.path.resolve().name
    if name in {entry.name for entry in list_entries()}:
        raise InputError(f'the zoo has an entry "{name}" already; choose another --name')
    cfg, results = load_config(folder.config), folder.read_results()
    weights = folder.train.weights
    content: dict[str, Any] = {
        "name": name,
        "model": cfg.model.name,
        "architecture": _architecture(cfg, folder),
        "options": make_method(cfg, torch.device("cpu")).model_options(),
        "dataset": "+".join(cfg.data.sources),
        "modality": "visible",
        "feature_dim": 1,
        "height": cfg.data.height,
        "width": cfg.data.width,
        "norm_mean": list(cfg.data.norm_mean),
        "norm_std": list(cfg.data.norm_std),
        "interpolation": cfg.data.interpolation,
        "format": "ours",
        "source": {"kind": "file", "path": _relative(weights, output)},
        "file": weights.name,
        "licence": licence,
        "size": weights.stat().st_size,
        "checksum": {"sha256": file_digest(weights, "sha256")},
        "config": {"file": _relative(folder.config, output)},
        **({"generated": True} if cfg.synthetic.enabled else {}),
        "measured": [_measured(row, cfg, results) for row in results["results"]],
    }
    # Only the network itself tells these two.
    network = build(Entry.from_mapping(content, output))
    content["feature_dim"] = _feature_dim(network, cfg.data.height, cfg.data.width)
    if hasattr(network, "bnneck") or any(isinstance(module, SplitNorm) for module in network.modules()):
        content["modality"] = "visible-infrared"
    entry = Entry.from_mapping(content, output)
    write_text(output, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
    return entry, output


def _architecture(cfg: CfgNode, folder: RunFolder) -> Any:
    """Return the architecture that the run was trained with, so that the entry needs no other file."""
    if cfg.model.architecture == "none":
        return None
    architecture = folder.kept_architecture(cfg.model.architecture)
    if isinstance(architecture, (str, os.PathLike)):
        if not Path(architecture).is_file():
            return architecture
        architecture = Architecture.load(architecture)
    assert isinstance(architecture, Architecture)
    return {"space": architecture.space, "choices": dict(architecture.choices)}


def _measured(row: Mapping[str, Any], cfg: CfgNode, results: Mapping[str, Any]) -> dict[str, Any]:
    figure = measured_figure(row)
    generated = "generated images, " if cfg.synthetic.enabled else ""
    return {
        "dataset": figure.dataset,
        **{score: round(value, 2) for score, value in figure.scores.items()},
        "protocol": generated + figure.protocol,
        **({"feature": figure.feature} if figure.feature else {}),
        "source": f"torchreid_nas {results['version']}, config {results['config']}, seed {results['seed']}",
    }


def _feature_dim(network: nn.Module, height: int, width: int) -> int:
    with torch.no_grad(), modality_context("visible"):
        features: torch.Tensor = network(torch.zeros(1, 3, height, width))
    return features.shape[1]


def _relative(path: Path, output: Path) -> str:
    """Return ``path`` as seen from the folder of ``output`` where it lies below it, so that both can move together."""
    path, folder = path.resolve(), output.resolve().parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
