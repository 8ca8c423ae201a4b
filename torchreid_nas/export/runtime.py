"""ONNX Runtime behind torch's interface, and the packages of the extra ``[export]``."""
from __future__ import annotations

__all__ = ["OnnxNetwork", "default_device", "quiet", "require_onnx"]

import contextlib
import importlib
import inspect
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from torchreid_nas.errors import InputError

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CUDA = "CUDAExecutionProvider"
# Of onnxruntime's levels: errors only.
_ERRORS = 3


def require_onnx() -> None:
    """Raise InputError unless the packages of the extra ``[export]`` and the exporter of torch 2.6 are installed."""
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f'the format onnx needs the package {name}, which cannot be imported here ({error}); '
                'pip install "torchreid-nas[export]" (in a clone: pip install ".[export]"), or take --format torch'
            ) from error
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise InputError(
            f"the format onnx needs an exporter that torch {torch.__version__} lacks; install torch 2.6 or later, "
            "or take --format torch"
        )


def default_device() -> str:
    """Return ``"cuda"`` where torch and the installed onnxruntime can both use a GPU, else ``"cpu"``."""
    import onnxruntime

    both = torch.cuda.is_available() and _CUDA in onnxruntime.get_available_providers()
    return "cuda" if both else "cpu"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the prints, warnings and log lines of exporters and quantisers.

    >>> with quiet():
    ...     print("chatter")
    """
    disabled, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        # A log line gives a root logger without handlers one, here a handler that writes to the hidden stream.
        logging.root.handlers[:] = handlers


class OnnxNetwork(nn.Module):
    """An ONNX file as a module: (B, 3, H, W) -> (B, D), float32 on the device of the images.

    The network runs with as many threads as torch. On CUDA the images still pass
    through the host, and products are computed in float32, not in TF32.

    Args:
        path: a file of :func:`torchreid_nas.export.export_onnx`, or its quantised form.
        device: where onnxruntime computes.

    Attributes:
        metadata: the metadata of the file, texts by name.

    Raises:
        InputError: onnxruntime is missing, cannot use the device, or cannot read the file.
    """

    def __init__(self, path: str | os.PathLike, device: torch.device | str = "cpu") -> None:
        super().__init__()
        require_onnx()
        import onnxruntime

        device = torch.device(device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS
        options.intra_op_num_threads = torch.get_num_threads()
        if os.environ.get("OMP_WAIT_POLICY") == "PASSIVE":
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if _CUDA not in onnxruntime.get_available_providers():
                raise InputError(
                    f"the onnxruntime installed here cannot use the device {device}; pip install onnxruntime-gpu, "
                    "or take --device cpu"
                )
            providers.insert(0, (_CUDA, {"device_id": device.index or 0, "use_tf32": "0"}))
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
        # The exceptions of onnxruntime have no narrower common class.
        except Exception as error:
            raise InputError(
                f'the graph "{path}" cannot be loaded by onnxruntime ({str(error).splitlines()[0]}); export it again'
            ) from error
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._input = self._session.get_inputs()[0].name

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of ``images``, on the device of the images."""
        features, = self._session.run(None, {self._input: images.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(features).to(images.device)
