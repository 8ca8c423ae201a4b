"""Trained models for other programs: ONNX graphs and programs of ``torch.export``, checked, and their int8 forms."""
from torchreid_nas.export.check import TOLERANCE, Agreement
from torchreid_nas.export.exporter import Check, ExportedFile, export_model, quantization_cost, quantize_files
from torchreid_nas.export.graph import FORMATS, OPSETS, Preprocessed, export_onnx, export_program, load_program
from torchreid_nas.export.images import ImagePool
from torchreid_nas.export.quantize import QUANTIZATIONS, quantize_graph
from torchreid_nas.export.run_data import RunData
from torchreid_nas.export.runtime import OnnxNetwork

__all__ = [
    "Agreement", "Check", "ExportedFile", "FORMATS", "ImagePool", "OPSETS", "OnnxNetwork", "Preprocessed",
    "QUANTIZATIONS", "RunData", "TOLERANCE", "export_model", "export_onnx", "export_program", "load_program",
    "quantization_cost", "quantize_files", "quantize_graph",
]
