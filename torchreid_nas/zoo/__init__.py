"""The model zoo: trained networks by name — what they are, where they come from, and what they reach."""
from torchreid_nas.zoo.build import build, entry_architecture
from torchreid_nas.zoo.catalogue import find_entry, initial_entry, list_entries
from torchreid_nas.zoo.entry import Entry, Figure, Source
from torchreid_nas.zoo.evaluation import comparison_table, tested_entry
from torchreid_nas.zoo.store import fetch, home, path_of, verify

__all__ = [
    "Entry", "Figure", "Source", "build", "comparison_table", "entry_architecture", "fetch", "find_entry", "home",
    "initial_entry", "list_entries", "path_of", "tested_entry", "verify",
]
