"""The model zoo: trained networks by name, with their sources and their figures."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "networks": ("build", "entry_architecture"),
    "trained": ("load_trained",),
    "torchreid_nas.hub.catalogue": ("find_entry", "initial_entry", "list_entries"),
    "torchreid_nas.hub.entry": ("Entry", "Figure", "Source"),
    "torchreid_nas.hub.store": ("fetch", "home", "path_of", "verify"),
})
