"""A test-time network as a file for any batch size: an ONNX graph, or a program of ``torch.export``."""
from __future__ import annotations

__all__ = [
    "DEFAULT_OPSET", "FORMATS", "OPSETS", "Preprocessed", "describe", "export_onnx", "export_program", "load_program",
]

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import torchreid_nas
from torchreid_nas.checkpoints.trained import TrainedModel
from torchreid_nas.errors import InputError
from torchreid_nas.export.runtime import quiet

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
"""Name of each format -> suffix of its files."""

# torch writes opset 18 and converts it upwards. Asked for a lower opset, torch writes 18 and only logs that it did.
OPSETS = range(18, 24)
DEFAULT_OPSET = 18

_BATCH = 2


class Preprocessed(nn.Module):
    """A network with the normalisation of its images: RGB in [0, 1], (B, 3, H, W) -> (B, D).

    Args:
        network: takes normalised images.
        norm_mean, norm_std: of the three channels.

    >>> network = Preprocessed(nn.Flatten(), norm_mean=(0.5, 0.5, 0.5), norm_std=(0.25, 0.5, 1.0))
    >>> network(torch.ones(1, 3, 1, 1))
    tensor([[2.0000, 1.0000, 0.5000]])
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, norm_mean: Sequence[float], norm_std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(norm_mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(norm_std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of ``images`` (B, 3, H, W), RGB in [0, 1]."""
        return self.network((images - self.mean) / self.std)


def describe(trained: TrainedModel, modality: str | None, with_preprocessing: bool) -> dict[str, Any]:
    """Return what the user of a file must know, as plain values that are written into the file or beside it.

    Args:
        trained: the model.
        modality: of the file; None for models of one modality.
        with_preprocessing: whether the file normalises its images.
    """
    images = "RGB, float32 (batch, 3, height, width), values in [0, 1]"
    return {
        "model": trained.name,
        "modality": modality or "",
        "height": trained.height,
        "width": trained.width,
        "norm_mean": list(trained.norm_mean),
        "norm_std": list(trained.norm_std),
        "images": images if with_preprocessing else f"{images}, then (x - norm_mean) / norm_std",
        "normalises_images": with_preprocessing,
        "feature_dim": trained.feature_dim,
        "features": "float32 (batch, feature_dim), as the network gives them",
        "torchreid_nas": torchreid_nas.__version__,
        "torch": torch.__version__,
    }


def export_onnx(
    network: nn.Module, path: str | os.PathLike, height: int, width: int, metadata: Mapping[str, Any],
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write an ONNX graph with input ``images`` (batch, 3, height, width) and output ``features`` (batch, D).

    The file holds the weights, and ``metadata`` as texts (other values as
    JSON). The file holds nothing of this machine: the lines of code that torch
    writes to every node are removed.

    Args:
        network: in eval mode.
        path: of the file.
        height: of the images, in pixels.
        width: of the images, in pixels.
        metadata: see :func:`describe`.
        opset: one of ``OPSETS``.

    Raises:
        InputError: the opset is out of range, or torch cannot express the network as a graph.
    """
    if opset not in OPSETS:
        raise InputError(
            f"opset is {opset}, expected {OPSETS[0]} to {OPSETS[-1]}, which the exporter of torch writes; "
            f"leave it out for {DEFAULT_OPSET}"
        )
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                network, (_example(network, height, width),), dynamo=True, opset_version=opset, external_data=False,
                input_names=["images"], output_names=["features"], dynamic_shapes=(_free_batch(),), verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise _not_expressible(network, "ONNX graph", error) from error
    if program is None:
        raise InputError(f"torch {torch.__version__} wrote no ONNX graph; install torch 2.6 or later")
    model = program.model
    for node in model.graph:
        node.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    )
    with quiet():
        program.save(os.fspath(path), external_data=False)


def export_program(
    network: nn.Module, path: str | os.PathLike, height: int, width: int, metadata: Mapping[str, Any],
) -> None:
    """Write a program for ``torch.export.load``; the program holds ``metadata`` as ``metadata.json``.

    The program runs on the device of the network. Arguments as :func:`export_onnx`.

    Raises:
        InputError: torch cannot express the network as a program.
    """
    content = io.BytesIO()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                network, (_example(network, height, width),), dynamic_shapes=(_free_batch(),)
            )
            torch.export.save(program, content, extra_files={"metadata.json": json.dumps(metadata)})
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        raise _not_expressible(network, "program of torch.export", error) from error
    Path(path).write_bytes(content.getbuffer())


def load_program(path: str | os.PathLike) -> nn.Module:
    """Return the module of a program: (B, 3, H, W) -> (B, D), on the device that the program was written for.

    Args:
        path: of the file.

    Raises:
        InputError: the file is missing, or is no program.
    """
    try:
        with quiet():
            return torch.export.load(os.fspath(path)).module()
    except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(
            f'the program "{path}" cannot be loaded ({str(error).splitlines()[0]}); export it again'
        ) from error


def _example(network: nn.Module, height: int, width: int) -> torch.Tensor:
    # Two images: the exporter takes a dimension of one for a constant.
    device = next(network.parameters()).device
    return torch.rand(_BATCH, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)


def _free_batch() -> dict[int, Any]:
    return {0: torch.export.Dim("batch")}


def _not_expressible(network: nn.Module, what: str, error: Exception) -> InputError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InputError(
        f"torch {torch.__version__} cannot write {type(network).__name__} as {what} for any batch size ({reason}); "
        "its forward pass must not depend on the values or the number of the images"
    )
