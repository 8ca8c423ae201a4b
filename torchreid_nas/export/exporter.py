"""Export of a trained model: write, check, and only then keep."""
from __future__ import annotations

__all__ = ["Check", "ExportedFile", "export_model", "quantize_files", "quantization_cost"]

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from torchreid_nas.checkpoints.trained import TrainedModel
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.export.check import TOLERANCE, Agreement, compare, latencies
from torchreid_nas.export.graph import (
    DEFAULT_OPSET,
    FORMATS,
    Preprocessed,
    describe,
    export_onnx,
    export_program,
    load_program,
)
from torchreid_nas.export.images import ImagePool, normalise, random_images
from torchreid_nas.export.quantize import quantize_graph
from torchreid_nas.export.run_data import RunData, accuracy
from torchreid_nas.export.runtime import OnnxNetwork, require_onnx
from torchreid_nas.files import atomic_path, write_json
from torchreid_nas.metrics import RankingResult
from torchreid_nas.models import DeployedNetwork, deploy_network

_CHECKED, _CALIBRATED = 16, 128


@dataclass(frozen=True)
class Check:
    """What was found at one batch size.

    Attributes:
        batch_size: images at once.
        random, real: agreement on random and on real images, the latter None without any.
        eager, exported: seconds per image of the network in PyTorch and of the file.
        unquantized: the same of the float graph that an int8 one was made from, else None.
    """

    batch_size: int
    random: Agreement
    real: Agreement | None
    eager: float
    exported: float
    unquantized: float | None = None


@dataclass(frozen=True)
class ExportedFile:
    """A file that passed its check.

    Attributes:
        path: of the file.
        modality: of its images; None for models of one modality.
        normalises_images: whether the graph takes RGB in [0, 1].
        checks: one per batch size.
    """

    path: Path
    modality: str | None
    normalises_images: bool
    checks: tuple[Check, ...]


def export_model(
    trained: TrainedModel, folder: str | os.PathLike, format: str = "onnx", modality: str | None = None,
    opset: int = DEFAULT_OPSET, with_preprocessing: bool = False, images: ImagePool | None = None,
    batch_sizes: Sequence[int] = (1, 8), device: torch.device | str = "cpu",
) -> list[ExportedFile]:
    """Write the test-time network of each modality to a file of its own, and compare it with the network.

    The files appear when all of them have passed: features on random and on
    real images, at every batch size, within ``TOLERANCE``.

    Args:
        trained: see :func:`torchreid_nas.zoo.trained.load_trained`.
        folder: where the files go, ``<model>[-<modality>].onnx`` or ``.pt2``, the latter with a JSON beside it.
        format: one of ``FORMATS``.
        modality: only this one of a two-stream model.
        opset: of ONNX.
        with_preprocessing: the file normalises its images (ours).
        images: real images to compare on.
        batch_sizes: to compare at.
        device: to compare on; a program of ``torch`` runs on that one only.

    Raises:
        InputError: unknown format or modality, an opset or batch size out of range, a
            missing package, a folder that cannot be written, or a difference beyond the tolerance.
    """
    device = torch.device(device)
    if format not in FORMATS:
        raise InputError(f'the format "{format}" is unknown, expected {" or ".join(FORMATS)}{nearest(format, FORMATS)}')
    if not batch_sizes or min(batch_sizes) < 1:
        raise InputError(f"the batch sizes are {list(batch_sizes)}, expected whole numbers of at least 1")
    if format == "onnx":
        require_onnx()
    with contextlib.ExitStack() as files:
        exported = []
        for name in _modalities(trained, modality):
            path = Path(folder) / f"{_file_name(trained, name)}{FORMATS[format]}"
            temporary = files.enter_context(atomic_path(path))
            network = trained.network(name).eval()
            written = _deployed(network, trained)
            if with_preprocessing:
                written = Preprocessed(written, trained.norm_mean, trained.norm_std)
            metadata = describe(trained, name, with_preprocessing)
            if format == "onnx":
                export_onnx(written, temporary, trained.height, trained.width, metadata, opset)
                candidate = OnnxNetwork(temporary, device)
            else:
                metadata["device"] = str(device)
                export_program(written.to(device), temporary, trained.height, trained.width, metadata)
                _write_json_beside(files, path, metadata)
                candidate = load_program(temporary)
            checks = _check(trained, network, candidate, name, with_preprocessing, images, batch_sizes, device)
            for check in checks:
                for found in filter(None, (check.random, check.real)):
                    if found.relative > TOLERANCE:
                        raise InputError(
                            f'"{path.name}" differs from the network by {found.difference:.3g} at batch size '
                            f"{check.batch_size}, {found.relative:.3g} of the features' mean length, beyond the "
                            f"tolerance of {TOLERANCE:g}; no file was kept, try another --opset or --format"
                        )
            exported.append(ExportedFile(path, name, with_preprocessing, checks))
    return exported


def quantize_files(
    trained: TrainedModel, exported: Sequence[ExportedFile], kind: str, images: ImagePool | None = None,
    batch_sizes: Sequence[int] = (1, 8), device: torch.device | str = "cpu",
) -> list[ExportedFile]:
    """Write the int8 form of every graph beside it, ``…-int8.onnx``, and compare it with the network.

    Args:
        kind: ``"dynamic"`` or ``"static"``; see :func:`torchreid_nas.export.quantize_graph`.
        images: to calibrate by and to compare on.
        others: as :func:`export_model`.

    Raises:
        InputError: what :func:`torchreid_nas.export.quantize_graph` refuses, or features that are not finite.
    """
    device = torch.device(device)
    quantized = []
    for file in exported:
        calibration = images.take(_CALIBRATED, file.modality, calibration=True) if images and kind == "static" else None
        if calibration is not None and not file.normalises_images:
            calibration = normalise(calibration, trained.norm_mean, trained.norm_std)
        path = file.path.with_name(f"{file.path.stem}-int8{file.path.suffix}")
        with atomic_path(path) as temporary:
            quantize_graph(file.path, temporary, kind, calibration)
            checks = _check(
                trained, trained.network(file.modality).eval(), OnnxNetwork(temporary, device), file.modality,
                file.normalises_images, images, batch_sizes, device, OnnxNetwork(file.path, device),
            )
        quantized.append(dataclasses.replace(file, path=path, checks=checks))
    return quantized


def quantization_cost(
    trained: TrainedModel, exported: Sequence[ExportedFile], quantized: Sequence[ExportedFile], run_data: RunData,
    device: torch.device | str = "cpu",
) -> dict[str, tuple[RankingResult, RankingResult]]:
    """Return the results of the float and of the int8 graphs on every target of the run.

    A modality that was not exported goes through the float network both times.
    """
    results = []
    for files in (exported, quantized):
        networks: dict[str | None, Callable] = {file.modality: _on_normalised(trained, file, device) for file in files}
        for modality in trained.modalities:
            if modality not in networks:
                networks[modality] = trained.network(modality).eval()
        results.append(accuracy(run_data, networks))
    before, after = results
    return {name: (before[name], after[name]) for name in before}


def _deployed(network: nn.Module, trained: TrainedModel) -> nn.Module:
    """Return the test-time form of a network: torchreid's own and those of others have no method that gives it."""
    if isinstance(network, DeployedNetwork):
        return network
    return deploy_network(network, trained.feature_dim, images=torch.zeros(2, 3, trained.height, trained.width))


def _file_name(trained: TrainedModel, modality: str | None) -> str:
    """Return the stem of a model's file: the last part of its name, and the modality."""
    name = Path(trained.name.removeprefix("zoo:")).expanduser()
    stem = re.sub(r"[^\w.-]+", "_", (name.resolve() if name.is_dir() else name).name) or "model"
    return f"{stem}-{modality}" if modality else stem


def _write_json_beside(files: contextlib.ExitStack, path: Path, metadata: Mapping) -> None:
    """Write the metadata of a program to ``<stem>.json``; it appears together with the program."""
    write_json(files.enter_context(atomic_path(path.with_suffix(".json"))), metadata)


def _modalities(trained: TrainedModel, modality: str | None) -> Sequence[str | None]:
    if modality is not None:
        trained.check_modality(modality, "--modality")
        return [modality]
    return trained.modalities or [None]


def _check(
    trained: TrainedModel, network: nn.Module, candidate: nn.Module, modality: str | None, with_preprocessing: bool,
    images: ImagePool | None, batch_sizes: Sequence[int], device: torch.device, unquantized: nn.Module | None = None,
) -> tuple[Check, ...]:
    """Compare a file with the network at every batch size, on images of values in [0, 1]."""
    def on_plain(module: nn.Module, normalises: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        if normalises:
            return module
        return lambda batch: module(normalise(batch, trained.norm_mean, trained.norm_std))

    eager, file = on_plain(network.to(device), False), on_plain(candidate, with_preprocessing)
    timed = [eager, file] if unquantized is None else [eager, file, on_plain(unquantized, with_preprocessing)]
    real = images.take(_CHECKED, modality) if images else None
    checks = []
    for size in batch_sizes:
        drawn = random_images(size, trained.height, trained.width).to(device)
        times = latencies(timed, drawn)
        checks.append(Check(
            size, compare(eager, file, drawn, size),
            None if real is None else compare(eager, file, real.to(device), size), *times,
        ))
    return tuple(checks)


def _on_normalised(trained: TrainedModel, file: ExportedFile, device: torch.device | str) -> Callable:
    """Return the file as a function of normalised images, as the loaders of a run give them."""
    network = OnnxNetwork(file.path, device)
    if not file.normalises_images:
        return network
    mean, std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (trained.norm_mean, trained.norm_std))
    return lambda images: network(images * std + mean)
