"""The configuration of a run: a row per key, and how files and the command line set the keys.

Keys are torchreid's where torchreid has one. The defaults are the recipe of
CM-NAS (Fu et al., ICCV 2021); each row names whose its default is.
"""
from torchreid_nas.config.key import Check, Key, Need
from torchreid_nas.config.keys import KEYS, keys_that_bind, keys_that_decide, register_keys
from torchreid_nas.config.load import change_config, changed_keys, config_to_yaml, default_config, flatten, load_config

__all__ = [
    "KEYS", "Check", "Key", "Need", "change_config", "changed_keys", "config_to_yaml", "default_config", "flatten",
    "keys_that_bind", "keys_that_decide", "load_config", "register_keys",
]
