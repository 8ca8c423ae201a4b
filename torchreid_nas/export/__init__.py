"""Trained models for other programs: checked ONNX graphs and programs of ``torch.export``, and their int8 forms."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "check": ("TOLERANCE", "Agreement"),
    "exporter": ("Check", "ExportedFile", "export_model", "quantization_cost", "quantize_files"),
    "graph": ("FORMATS", "OPSETS", "Preprocessed", "export_onnx", "export_program", "load_program"),
    "images": ("ImagePool",),
    "quantize": ("QUANTIZATIONS", "quantize_graph"),
    "run_data": ("RunData",),
    "runtime": ("OnnxNetwork",),
})
