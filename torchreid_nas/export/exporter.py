"""Export of a trained model: write, check, and only then keep."""
from __future__ import annotations

__all__ = ["Check", "ExportedFile", "export_model", "quantize_files", "quantization_cost"]

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from torchreid_nas.checkpoints.trained import TrainedModel
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.export.check import TOLERANCE, Agreement, Network, check_graph, compare, latencies
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
    """The result of a check at one batch size.

    Attributes:
        batch_size: images at once.
        random: agreement on random images.
        real: agreement on real images; None without real images.
        eager: seconds per image of the network in PyTorch.
        exported: seconds per image of the file.
        unquantized: seconds per image of the float graph that an int8 graph was made from, else None.
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
        modality: of the images; None for models of one modality.
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
    """Write the test-time network of each modality to a file of its own, and compare the file with the network.

    The files appear when all files have passed the check: a valid graph, and
    features on random and on real images, at every batch size, within ``TOLERANCE``.

    Args:
        trained: see :func:`torchreid_nas.zoo.trained.load_trained`.
        folder: of the files ``<model>[-<modality>].onnx``, or ``.pt2`` with a JSON beside it.
        format: one of ``FORMATS``.
        modality: the only one to export of a two-stream model.
        opset: of ONNX.
        with_preprocessing: the file normalises its images (ours).
        images: real images to compare on.
        batch_sizes: at which file and network are compared.
        device: of the comparison. A program of ``torch`` runs on this device only.

    Raises:
        InputError: format or modality is unknown, the opset or a batch size is out of range, a
            package is missing, the folder cannot be written, or a file does not pass its check.

    .. code-block:: python

        trained = load_trained("runs/regdb")
        for file in export_model(trained, "export"):
            print(file.path, file.checks[0].random.relative)
    """
    device = torch.device(device)
    if format not in FORMATS:
        raise InputError(f'the format "{format}" is unknown, expected {" or ".join(FORMATS)}{nearest(format, FORMATS)}')
    if not batch_sizes or min(batch_sizes) < 1:
        raise InputError(f"the batch sizes are {list(batch_sizes)}, expected whole numbers of at least 1")
    if format == "onnx":
        require_onnx()
    names = _modalities(trained, modality)
    with contextlib.ExitStack() as files, _bar("export", len(names) * (1 + len(batch_sizes))) as bar:
        exported = []
        for name in names:
            path = Path(folder) / f"{_file_name(trained, name)}{FORMATS[format]}"
            temporary = files.enter_context(atomic_path(path))
            network = trained.network(name).eval()
            written = _deployed(network, trained)
            if with_preprocessing:
                written = Preprocessed(written, trained.norm_mean, trained.norm_std)
            metadata = describe(trained, name, with_preprocessing)
            if format == "onnx":
                export_onnx(written, temporary, trained.height, trained.width, metadata, opset)
                check_graph(temporary)
                candidate: nn.Module = OnnxNetwork(temporary, device)
            else:
                metadata["device"] = str(device)
                export_program(written.to(device), temporary, trained.height, trained.width, metadata)
                _write_json_beside(files, path, metadata)
                candidate = load_program(temporary)
            bar.update()
            checks = _check(trained, network, candidate, name, with_preprocessing, images, batch_sizes, device, bar)
            for check in checks:
                for found in filter(None, (check.random, check.real)):
                    if found.relative > TOLERANCE:
                        raise InputError(
                            f'"{path.name}" differs from the network by {found.difference:.3g} at batch size '
                            f"{check.batch_size}, {found.relative:.3g} of the mean length of the features, more than the "
                            f"tolerance of {TOLERANCE:g}; no file was kept, try another --opset or --format"
                        )
            exported.append(ExportedFile(path, name, with_preprocessing, checks))
    return exported


def quantize_files(
    trained: TrainedModel, exported: Sequence[ExportedFile], kind: str, images: ImagePool | None = None,
    batch_sizes: Sequence[int] = (1, 8), device: torch.device | str = "cpu",
) -> list[ExportedFile]:
    """Write the int8 form of every graph beside the graph, ``…-int8.onnx``, and compare it with the network.

    Args:
        trained: as for :func:`export_model`.
        exported: the graphs, from :func:`export_model`.
        kind: ``"dynamic"`` or ``"static"``; see :func:`torchreid_nas.export.quantize_graph`.
        images: for the calibration and the comparison.
        batch_sizes: as for :func:`export_model`.
        device: as for :func:`export_model`.

    Raises:
        InputError: :func:`torchreid_nas.export.quantize_graph` refuses the arguments, the int8 form is no valid
            graph, or a feature is not finite.
    """
    device = torch.device(device)
    quantized = []
    with _bar("quantisation", len(exported) * (1 + len(batch_sizes))) as bar:
        for file in exported:
            quantized.append(_quantize(trained, file, kind, images, batch_sizes, device, bar))
    return quantized


def _quantize(
    trained: TrainedModel, file: ExportedFile, kind: str, images: ImagePool | None, batch_sizes: Sequence[int],
    device: torch.device, bar: tqdm,
) -> ExportedFile:
    calibration = images.take(_CALIBRATED, file.modality, calibration=True) if images and kind == "static" else None
    if calibration is not None and not file.normalises_images:
        calibration = normalise(calibration, trained.norm_mean, trained.norm_std)
    path = file.path.with_name(f"{file.path.stem}-int8{file.path.suffix}")
    with atomic_path(path) as temporary:
        quantize_graph(file.path, temporary, kind, calibration)
        check_graph(temporary)
        bar.update()
        checks = _check(
            trained, trained.network(file.modality).eval(), OnnxNetwork(temporary, device), file.modality,
            file.normalises_images, images, batch_sizes, device, bar, OnnxNetwork(file.path, device),
        )
    return dataclasses.replace(file, path=path, checks=checks)


def quantization_cost(
    trained: TrainedModel, exported: Sequence[ExportedFile], quantized: Sequence[ExportedFile], run_data: RunData,
    device: torch.device | str = "cpu",
) -> dict[str, tuple[RankingResult, RankingResult]]:
    """Return the results of the float graphs and of the int8 graphs on every target of the run.

    The images of a modality that was not exported pass the float network both times.

    Args:
        trained: the model.
        exported: float graphs, from :func:`export_model`.
        quantized: int8 graphs, from :func:`quantize_files`.
        run_data: the data of the run.
        device: where onnxruntime computes.

    Returns:
        The name of each target -> (float, int8) results.
    """
    results = []
    for files in (exported, quantized):
        networks: dict[str | None, Network] = {file.modality: _on_normalised(trained, file, device) for file in files}
        for modality in trained.modalities:
            if modality not in networks:
                networks[modality] = trained.network(modality).eval()
        results.append(accuracy(run_data, networks))
    before, after = results
    return {name: (before[name], after[name]) for name in before}


def _deployed(network: nn.Module, trained: TrainedModel) -> nn.Module:
    """Return the test-time form of a network; the networks of torchreid have no method for it."""
    if isinstance(network, DeployedNetwork):
        return network
    return deploy_network(network, trained.feature_dim, images=torch.zeros(2, 3, trained.height, trained.width))


def _file_name(trained: TrainedModel, modality: str | None) -> str:
    """Return the stem of a model's file: the last part of its name, and the modality."""
    name = Path(trained.name.removeprefix("zoo:")).expanduser()
    stem = re.sub(r"[^\w.-]+", "_", (name.resolve() if name.is_dir() else name).name) or "model"
    return f"{stem}-{modality}" if modality else stem


def _write_json_beside(files: contextlib.ExitStack, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the metadata of a program to ``<stem>.json``. The file appears together with the program."""
    write_json(files.enter_context(atomic_path(path.with_suffix(".json"))), metadata)


def _modalities(trained: TrainedModel, modality: str | None) -> Sequence[str | None]:
    if modality is not None:
        trained.check_modality(modality, "--modality")
        return [modality]
    return trained.modalities or [None]


def _check(
    trained: TrainedModel, network: nn.Module, candidate: nn.Module, modality: str | None, with_preprocessing: bool,
    images: ImagePool | None, batch_sizes: Sequence[int], device: torch.device, bar: tqdm,
    unquantized: nn.Module | None = None,
) -> tuple[Check, ...]:
    """Compare a file with the network at every batch size, on images of values in [0, 1]."""
    def on_plain(module: nn.Module, normalises: bool) -> Network:
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
        bar.update()
    return tuple(checks)


def _bar(title: str, steps: int) -> tqdm:
    return tqdm(total=steps, desc=title, unit="step", disable=None, leave=False)


def _on_normalised(trained: TrainedModel, file: ExportedFile, device: torch.device | str) -> Network:
    """Return the file as a function of normalised images, which the loaders of a run give."""
    network = OnnxNetwork(file.path, device)
    if not file.normalises_images:
        return network
    mean, std = (torch.tensor(list(values)).view(1, 3, 1, 1) for values in (trained.norm_mean, trained.norm_std))
    return lambda images: network(images * std + mean)
