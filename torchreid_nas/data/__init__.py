"""Data sets, samplers, transforms and data managers of cross-modality re-ID, of search, and of domain adaptation."""
from torchreid_nas.data.augmentation import BatchTransform
from torchreid_nas.data.cache import DecodedImages
from torchreid_nas.data.cached_loader import CachedLoader
from torchreid_nas.data.cross_modality_manager import CrossModalityDataManager
from torchreid_nas.data.dataset import (
    INFRARED,
    MODALITIES,
    VISIBLE,
    CrossModalityDataset,
    as_cross_modality,
    read_image,
)
from torchreid_nas.data.domain_adaptation_manager import CAMERA_STYLES, DomainAdaptationDataManager
from torchreid_nas.data.identity_manager import IdentityDataManager
from torchreid_nas.data.joint_loader import JointLoader
from torchreid_nas.data.manager import ReIDDataManager
from torchreid_nas.data.regdb import RegDB
from torchreid_nas.data.sampler import CrossModalityIdentitySampler
from torchreid_nas.data.splits import split_identities, split_images, split_images_by_count
from torchreid_nas.data.sysu_mm01 import SYSUMM01
from torchreid_nas.data.transforms import build_cross_modality_transforms

__all__ = [
    "CAMERA_STYLES",
    "INFRARED",
    "MODALITIES",
    "VISIBLE",
    "BatchTransform",
    "CachedLoader",
    "CrossModalityDataManager",
    "CrossModalityDataset",
    "CrossModalityIdentitySampler",
    "DecodedImages",
    "DomainAdaptationDataManager",
    "IdentityDataManager",
    "JointLoader",
    "ReIDDataManager",
    "RegDB",
    "SYSUMM01",
    "as_cross_modality",
    "build_cross_modality_transforms",
    "read_image",
    "split_identities",
    "split_images",
    "split_images_by_count",
]
