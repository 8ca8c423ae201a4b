"""Int8 forms of an ONNX graph by ONNX Runtime, and the operators that they compute in integers."""
from __future__ import annotations

__all__ = ["QUANTIZATIONS", "quantize_graph", "quantized_operators"]

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.export.runtime import quiet, require_onnx

QUANTIZATIONS = ("dynamic", "static")
_BATCH = 8
_INTEGER = re.compile(r"^QLinear|^QGemm|Integer")
_FLOATING = re.compile(r"Conv$|MatMul$|Gemm$|^BatchNormalization$")


def quantize_graph(
    source: str | os.PathLike, target: str | os.PathLike, kind: str, images: torch.Tensor | None = None,
) -> None:
    """Write the int8 form of a graph, with the metadata of the graph and the entry ``quantization``.

    ``"dynamic"``: weights are stored as uint8. Activations are quantised anew at
    every call, by their range in the batch. ONNX Runtime computes convolutions (as
    ConvInteger) and matrix products with constant weights (as MatMulInteger) in
    integers, and all else in float. Dynamic quantisation needs no images, and the
    features of an image depend slightly on the other images of the batch.

    ``"static"``: the ranges of activations (minimum and maximum) are measured
    beforehand on images. Weights are int8 per channel with 7 bits: CPUs without
    VNNI saturate with 8. ONNX Runtime has integer kernels for convolutions, matrix
    products, additions, multiplications, sigmoids and concatenations, and computes
    all else (means, the BNNeck) in float. :func:`quantized_operators` counts both.

    Args:
        source: a graph of :func:`torchreid_nas.export.export_onnx`.
        target: path of the int8 form.
        kind: one of ``QUANTIZATIONS``.
        images: (N, 3, H, W) as the graph takes them, for ``"static"``.

    Raises:
        InputError: the kind is unknown, or is static without images.
    """
    if kind not in QUANTIZATIONS:
        raise InputError(
            f'the quantisation "{kind}" is unknown, expected {" or ".join(QUANTIZATIONS)}{nearest(kind, QUANTIZATIONS)}'
        )
    if images is None:
        images = torch.empty(0, 3, 0, 0)
    if kind == "static" and not len(images):
        raise InputError("static quantisation measures activations on images and has none; pass images (--images DIR)")
    require_onnx()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(os.fspath(source), prepared, skip_symbolic_shape=True)
        if kind == "dynamic":
            # uint8: ONNX Runtime has no ConvInteger for int8 weights on CPUs.
            quantize_dynamic(prepared, quantized, weight_type=QuantType.QUInt8)
        else:
            quantize_static(
                prepared, quantized, _Batches(images), quant_format=QuantFormat.QDQ, per_channel=True,
                reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )
        model = onnx.load(quantized)
        metadata = {entry.key: entry.value for entry in onnx.load(source, load_external_data=False).metadata_props}
        onnx.helper.set_model_props(model, {**metadata, "quantization": kind})
        content = model.SerializeToString()
    Path(target).write_bytes(content)


def quantized_operators(path: str | os.PathLike) -> tuple[dict[str, int], dict[str, int]]:
    """Count the nodes of each operator that ONNX Runtime computes in integers, and the costly nodes in float.

    The counts are taken from the graph that ONNX Runtime makes of the file on
    loading: there the pairs of quantised values of a static graph have become
    integer operators.

    Args:
        path: of the graph.

    Returns:
        Two dicts from the operator to the number of its nodes: integers, float.
    """
    require_onnx()
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "loaded.onnx")
        onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        kinds = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    integer = {kind: count for kind, count in kinds.items() if _INTEGER.search(kind)}
    floating = {kind: count for kind, count in kinds.items() if kind not in integer and _FLOATING.search(kind)}
    return integer, floating


class _Batches:
    """Calibration images in batches, with the interface of ONNX Runtime's ``CalibrationDataReader``."""

    def __init__(self, images: torch.Tensor) -> None:
        self._batches: Iterator[torch.Tensor] = iter(torch.split(images, _BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch as ONNX Runtime takes it, or None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}
