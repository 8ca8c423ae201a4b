"""``torchreid-nas export``: a trained model as an ONNX graph or a program of ``torch.export``, checked."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torchreid_nas
from torchreid_nas.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

    from torchreid_nas.export.images import ImagePool


def main(argv: Sequence[str] | None = None) -> int:
    """Export the model that ``argv`` names, print what the check found, and return 0.

    Raises:
        InputError: an option, the model, the images or the folder is at fault, or a file does not pass its check.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)

    torchreid_nas.register()
    from torchreid_nas.device import find_device
    from torchreid_nas.export import exporter, graph, quantize, table
    from torchreid_nas.export.images import ImagePool
    from torchreid_nas.export.run_data import RunData
    from torchreid_nas.export.runtime import default_device, require_onnx
    from torchreid_nas.run.folder import RunFolder
    from torchreid_nas.zoo.trained import load_trained

    onnx = arguments.format == "onnx"
    _check_options(arguments, graph.OPSETS, tuple(graph.FORMATS), quantize.QUANTIZATIONS)
    if onnx:
        require_onnx()
    device = find_device(arguments.device or (default_device() if onnx else None))
    trained = load_trained(arguments.model)
    run = RunFolder(Path(arguments.model).expanduser())
    output = Path(arguments.output or (run.exported if run.is_run() else RunFolder(Path()).exported)).expanduser()
    try:
        run_data, missing = RunData(arguments.model), ""
    except InputError as error:
        run_data, missing = None, str(error).splitlines()[0]
    pool = ImagePool(trained.height, trained.width, arguments.images, run_data)
    if arguments.quantize == "static" and not pool.origin:
        raise InputError(
            f"static quantisation measures activations on images and has none ({missing}); pass --images DIR"
        )

    opset = arguments.opset or graph.DEFAULT_OPSET
    exported = exporter.export_model(
        trained, output, arguments.format, arguments.modality, opset, arguments.with_preprocessing, pool,
        arguments.batch_sizes, device,
    )
    runtime = "onnxruntime" if onnx else "exported"
    print(table.check_table(exported, runtime))
    print(_legend(pool, missing, device, output))
    if not arguments.quantize:
        return 0
    quantized = exporter.quantize_files(trained, exported, arguments.quantize, pool, arguments.batch_sizes, device)
    print(f"\n== int8, {arguments.quantize} quantisation")
    print(table.check_table(quantized, runtime))
    if arguments.quantize == "static":
        print("Activations outside the ranges of the calibration images are cut: judge by real images, not by random ones.")
    for file in quantized:
        print(_coverage(file.path, arguments.quantize))
    if run_data is None:
        print(f"Rank-1 and mAP were not measured: the data of the run are missing ({missing}).")
        return 0
    left_float = [name for name in trained.modalities if arguments.modality and name != arguments.modality]
    cost = exporter.quantization_cost(trained, exported, quantized, run_data, device)
    print(table.accuracy_table(cost, {name: run_data.manager.direction(name) for name in cost}))
    if left_float:
        print(f"The {left_float[0]} images passed the float network both times: the {left_float[0]} network was not exported.")
    if run_data.cfg.synthetic.enabled:
        print("The images are generated: these figures say nothing about the real data set.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchreid-nas export",
        description="Write the test-time network of a trained model (BatchNorms folded, no classifier, any batch size) "
        "for other programs, one file per modality, and compare it with the original.",
    )
    parser.add_argument("--model", required=True, metavar="RUN_OR_NAME", help="folder of a run, or a name of the zoo")
    parser.add_argument("--format", default="onnx", help="onnx (default) or torch (torch.export, .pt2)")
    parser.add_argument("--modality", help="visible or infrared, of two-stream models; default: both")
    parser.add_argument("--output", metavar="DIR", help="default: export/ in the folder of the run, or ./export")
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX, 18 (default) to 23")
    parser.add_argument(
        "--with-preprocessing", action="store_true", help="the file takes RGB in [0, 1] and normalises it itself"
    )
    parser.add_argument("--quantize", metavar="KIND", help="also write an int8 form: dynamic or static")
    parser.add_argument(
        "--images", metavar="DIR",
        help="to compare on and to calibrate by, DIR/visible and DIR/infrared where they exist; default: the run's",
    )
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[1, 8], metavar="N", help="to compare at (default 1 8)"
    )
    parser.add_argument("--device", help="to compare on: cpu, cuda, …; default: a GPU that can be used")
    return parser


def _check_options(
    arguments: argparse.Namespace, opsets: range, formats: Sequence[str], quantizations: Sequence[str],
) -> None:
    """Raise InputError for options that are at fault whatever the model is."""
    for option, value, known in (
        ("--format", arguments.format, formats), ("--quantize", arguments.quantize, quantizations),
    ):
        if value is not None and value not in known:
            raise InputError(f'{option} is "{value}", expected {" or ".join(known)}{nearest(value, known)}')
    if arguments.format != "onnx":
        for option, value in (("--opset", arguments.opset), ("--quantize", arguments.quantize)):
            if value is not None:
                raise InputError(f"{option} is for --format onnx, not for {arguments.format}; leave it out")
    if arguments.opset is not None and arguments.opset not in opsets:
        raise InputError(f"--opset is {arguments.opset}, expected {opsets[0]} to {opsets[-1]}")
    if min(arguments.batch_sizes) < 1:
        raise InputError(f"--batch-sizes has {min(arguments.batch_sizes)}, expected at least 1")


def _legend(pool: ImagePool, missing: str, device: torch.device, output: Path) -> str:
    from torchreid_nas.export.check import TOLERANCE

    lines = [
        f"Written to {output}. Latency: median of 10 on {device}, turn by turn. Tolerance: {TOLERANCE:g} of the mean "
        "length of the features."
    ]
    if pool.origin:
        lines.append(f"Real images: from {pool.origin}.")
    else:
        lines.append(f"Compared on random images only: {missing}; add real images by --images DIR.")
    if pool.skipped:
        lines.append(f"{len(pool.skipped)} of these images cannot be read and were left out, the first: {pool.skipped[0]}")
    return "\n".join(lines)


def _coverage(path: Path, kind: str) -> str:
    from torchreid_nas.export.quantize import quantized_operators

    integer, floating = quantized_operators(path)
    covered = ", ".join(f"{count} {name}" for name, count in sorted(integer.items())) or "nothing"
    left = ", ".join(f"{count} {name}" for name, count in sorted(floating.items())) or "none"
    line = f"{path.name}: computed in integers: {covered}; in float: {left}."
    if kind == "dynamic":
        line += " Activations are quantised anew at every call, which may cost more time than integers save."
    return line
