"""Int8 forms of an ONNX graph by ONNX Runtime, and what of the graph they cover."""
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
    """Write the int8 form of a graph, with its metadata and ``quantization``.

    ``"dynamic"``: weights are stored as uint8 and activations are quantised
    anew at every call, by their range in that batch. ONNX Runtime covers
    convolutions (as ConvInteger) and matrix products with constant weights (as
    MatMulInteger); all else stays float. It needs no images, and features of
    an image depend a little on its batch.

    ``"static"``: the ranges of activations are measured beforehand on images
    (minimum and maximum); weights are int8 per channel, of 7 bits, for CPUs
    without VNNI saturate at 8. ONNX Runtime has integer kernels for
    convolutions, matrix products, additions, multiplications, sigmoids and
    concatenations, and computes what has none (means, the BNNeck) in float.
    :func:`quantized_operators` counts them.

    Args:
        source: a graph of :func:`torchreid_nas.export.export_onnx`.
        target: where the int8 form goes.
        kind: one of ``QUANTIZATIONS``.
        images: (N, 3, H, W) as the graph takes them, for ``"static"``.

    Raises:
        InputError: another kind, or static without images.
    """
    if kind not in QUANTIZATIONS:
        raise InputError(
            f'the quantisation "{kind}" is unknown, expected {" or ".join(QUANTIZATIONS)}{nearest(kind, QUANTIZATIONS)}'
        )
    if kind == "static" and (images is None or not len(images)):
        raise InputError("static quantisation measures activations on images and has none; pass --images DIR")
    require_onnx()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(os.fspath(source), prepared, skip_symbolic_shape=True)
        if kind == "dynamic":
            # uint8: ONNX Runtime has no kernel for a ConvInteger of int8 weights on CPUs.
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
    """Return how many nodes of each operator ONNX Runtime computes in integers, and of the costly ones in float.

    Counted in the graph that ONNX Runtime makes of the file on loading, where
    a static graph's pairs of quantised values become integer operators.
    """
    require_onnx()
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = os.path.join(folder, "loaded.onnx")
        onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        kinds = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    integer = {kind: count for kind, count in kinds.items() if _INTEGER.search(kind)}
    floating = {kind: count for kind, count in kinds.items() if kind not in integer and _FLOATING.search(kind)}
    return integer, floating


class _Batches:
    """Calibration images, as ONNX Runtime's ``CalibrationDataReader`` gives them."""

    def __init__(self, images: torch.Tensor) -> None:
        self._batches: Iterator[torch.Tensor] = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}
