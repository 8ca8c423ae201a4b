"""What is wrong with a data set: checks of its files, labels, cameras and modalities, and a report with the way out."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "examine": ("Report",),
    "findings": ("Finding", "Group"),
    "kinds": ("KINDS", "Kind", "Severity"),
    "quick": ("quick_checks", "quick_line"),
    "reading": ("read_data",),
    "records": ("Data", "Expected", "Record", "records_of"),
})
