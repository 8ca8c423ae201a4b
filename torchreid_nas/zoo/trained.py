"""Trained networks by name: the folder of a run, or an entry of the zoo."""
from __future__ import annotations

__all__ = ["load_trained"]

import os
from pathlib import Path

import torch

from torchreid_nas.checkpoints.load import (
    checkpoint_num_classes,
    classifier_size,
    is_of_authors,
    load_weights,
    read_weights,
    resolve_weights,
)
from torchreid_nas.checkpoints.recognise import recognise
from torchreid_nas.checkpoints.trained import TrainedModel, wrap_model
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.hub.catalogue import find_entry
from torchreid_nas.hub.entry import ZOO_PREFIX
from torchreid_nas.methods import make_method
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.state_dicts import find_state
from torchreid_nas.zoo.networks import build, build_model


def load_trained(spec: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> TrainedModel:
    """Return a trained model by the folder of its run, its name in the zoo, or its class and a file of weights.

    Args:
        spec: a run's folder, whose train stage is finished (see
            :mod:`torchreid_nas.run.folder`), or a name of the zoo. Where both
            exist the folder is taken; ``zoo:NAME`` asks for the other.
        weights: a file of weights for the torchreid model called ``spec``, which then is no run and no entry; see
            :func:`torchreid_nas.checkpoints.load.load_weights`. Images are prepared as torchreid does, 256 x 128.

    Raises:
        InputError: neither exists, the run is not trained, its files are broken, or the weights are of another model.
    """
    name = os.fspath(spec)
    if weights is not None:
        return _from_file(name, weights)
    folder = Path(name).expanduser()
    if not name.startswith(ZOO_PREFIX) and folder.is_dir():
        return _from_run(folder, os.path.normpath(name))
    if not name.startswith(ZOO_PREFIX) and folder.is_file():
        raise InputError(
            f'the model "{name}" is a file; expected the folder of the run that it belongs to, which also holds '
            "config.yaml, or a name of the zoo, or give the file as --weights (weights=FILE) of a model's name"
        )
    return _from_zoo(name.removeprefix(ZOO_PREFIX), name)


def _from_file(name: str, weights: str | os.PathLike[str]) -> TrainedModel:
    path = resolve_weights(weights)
    state = find_state(read_weights(path), f'the checkpoint "{path}"')
    found = recognise(path) if is_of_authors(state) else None
    if found is not None and found.architecture is None:
        raise InputError(
            f'the checkpoint "{path}" does not show which BatchNorms it splits; convert it with the authors\' file first: '
            f"torchreid-nas zoo convert {path} --architecture config.cfg"
        )
    architecture, options = (found.architecture, found.options) if found else (None, {})
    model = load_weights(build_model(name, classifier_size(state) or 1, architecture, **options), path)
    return wrap_model(model, name=f"{name} with {path}")


def _from_run(folder: Path, name: str) -> TrainedModel:
    run = RunFolder(folder)
    weights = run.train.weights
    for path in (run.config, weights):
        if not path.is_file():
            trials = run.trials()
            hint = (
                f"it holds several trials, name one of them: {trials[0]}" if trials
                else "name the folder of a run whose train stage is finished, or a model of the zoo"
            )
            raise InputError(f'the run "{name}" has no {path.relative_to(folder)}; {hint}')
    cfg = load_config(run.config)
    method = make_method(cfg, torch.device("cpu"))
    architecture = run.kept_architecture(cfg.model.architecture)
    model = method.build_model(checkpoint_num_classes(weights) or 1, architecture, pretrained=False)
    load_weights(model, weights)
    return wrap_model(model, cfg.data.height, cfg.data.width, cfg.data.norm_mean, cfg.data.norm_std, name, cfg.data.interpolation)


def _from_zoo(entry_name: str, name: str) -> TrainedModel:
    try:
        entry = find_entry(entry_name)
    except InputError as error:
        if name.startswith(ZOO_PREFIX):
            raise
        raise InputError(f'there is no folder "{name}" of a run, and {error}') from error
    return wrap_model(
        build(entry), entry.height, entry.width, entry.norm_mean, entry.norm_std, f"{ZOO_PREFIX}{entry.name}",
        entry.interpolation,
    )
