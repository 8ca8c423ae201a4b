"""Checkpoints of the authors turned into files of this package."""
from __future__ import annotations

__all__ = ["Converted", "convert"]

import dataclasses
import os
import re
from pathlib import Path

from torchreid_nas.architecture import Architecture
from torchreid_nas.checkpoints.load import load_authors_checkpoint
from torchreid_nas.checkpoints.recognise import Recognised, recognise
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.files import save_checkpoint
from torchreid_nas.host import MODELS
from torchreid_nas.layers import norm_slots
from torchreid_nas.models import CDNet, TwoStreamNetwork
from torchreid_nas.zoo.networks import build_model


@dataclasses.dataclass(frozen=True)
class Converted:
    """The outcome of a conversion.

    Attributes:
        found: the content of the checkpoint.
        model, architecture: of the network in the new file.
        weights, architecture_file: the files written.
    """

    found: Recognised
    model: str
    architecture: Architecture
    weights: Path
    architecture_file: Path


def convert(
    path: str | os.PathLike[str], model: str | None = None, architecture: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None, weights: str = "model",
) -> Converted:
    """Write the authors' checkpoint ``path`` in this package's layout, its architecture beside it.

    Args:
        path: a file of the CDNet or the CM-NAS authors.
        model: the model that the caller expects; None takes the model that the file shows.
        architecture: a preset or file; None takes the architecture that the file shows.
        output: the new file; None puts ``<name>_converted.pth`` beside ``path``.
        weights: of CM-NAS, ``"model"`` or ``"ema"``.

    Raises:
        InputError: a layout that is not known or is ours already, another model
            than given, an architecture that is needed or does not fit, or an
            output that exists. Nothing is written then.
    """
    path = Path(path)
    found = recognise(path)
    # The layouts of others show their model.
    if found.format == "ours" or found.model is None:
        raise InputError(f'the checkpoint "{path}" is in the layout of this package already; use it as it is')
    name = _model_name(found.model, model, path)
    output = Path(output) if output is not None else path.with_name(_stem(path) + "_converted.pth")
    architecture_file = output.with_name(_stem(output) + "_architecture.json")
    for file in (output, architecture_file):
        if file.exists():
            raise InputError(f'"{file}" exists already; remove it or choose another --output')
    chosen = architecture if architecture is not None else found.architecture
    if chosen is None:
        raise InputError(
            f'the checkpoint "{path}" does not show which BatchNorms it splits (it holds all, and none is untouched by '
            "training); give the authors' file with --architecture config.cfg"
        )
    network = build_model(name, found.num_classes or 1, chosen, **found.options)
    assert isinstance(network, (CDNet, TwoStreamNetwork)), f"the layouts of others are of these networks, not {name}"
    load_authors_checkpoint(network, path, weights)
    if isinstance(network, TwoStreamNetwork):
        resolved = Architecture.resolve(chosen, norm_slots(network.backbone))
    else:
        resolved = network.architecture
    save_checkpoint(output, {"state_dict": network.state_dict()})
    resolved.save(architecture_file)
    return Converted(found, name, resolved, output, architecture_file)


def _model_name(found: str, model: str | None, path: Path) -> str:
    """Return the model to build; ``cdnet`` and ``cnet`` are one network with different defaults."""
    if model is None or model == found:
        return found
    if model not in MODELS:
        raise InputError(f'the model "{model}" is unknown to torchreid{nearest(model, MODELS)}')
    if {model, found} == {"cdnet", "cnet"}:
        return model
    raise InputError(f'the checkpoint "{path}" is of a {found}, not of a {model}; leave out --model')


def _stem(path: Path) -> str:
    return re.sub(r"(\.pth)?(\.(tar|pth|pt|pkl))?$", "", path.name)
