"""Data sets, samplers, transforms and data managers of cross-modality re-ID, of search, and of domain adaptation."""
from torchreid_nas.lazy import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(__name__, {
    "augmentation": ("BatchTransform",),
    "cache": ("DecodedImages", "StoredImages"),
    "cached_loader": ("CachedLoader",),
    "class_manager": ("ClassDataManager",),
    "channels": ("ChannelRule", "Channels"),
    "class_transforms": ("build_class_transforms",),
    "classes": ("ClassDataset", "load_classes"),
    "cross_modality_manager": ("CrossModalityDataManager",),
    "dataset": ("INFRARED", "MODALITIES", "VISIBLE", "CrossModalityDataset", "as_cross_modality", "read_image", "read_pixels"),
    "domain_adaptation_manager": ("CAMERA_STYLES", "DomainAdaptationDataManager"),
    "full_names": ("use_full_names",),
    "identity_manager": ("IdentityDataManager",),
    "interface": ("DataManager", "TestingDataManager"),
    "joint_loader": ("JointLoader",),
    "llcm": ("LLCM",),
    "manager": ("ReIDDataManager",),
    "regdb": ("RegDB",),
    "torchreid_nas.data.own.dataset": ("OwnDataset",),
    "torchreid_nas.data.own.reading": ("read_records",),
    "registered": ("DatasetFacts", "dataset_facts"),
    "sampler": ("CrossModalityIdentitySampler",),
    "splits": ("split_identities", "split_images", "split_images_by_count"),
    "sysu_mm01": ("SYSUMM01",),
    "transforms": ("build_cross_modality_transforms",),
})
