"""A user's own images as a data set: folders and CSV files, read by one function, in any of the known layouts."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "dataset": ("OwnDataset",),
    "names": ("OwnSource", "is_own", "split_source"),
    "pattern": ("Pattern",),
    "reading": ("read_records",),
    "records": ("Record", "Records"),
})
