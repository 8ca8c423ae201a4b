"""The configuration of a run: its keys, their defaults and ranges, and how files and the command line set them."""
from torchreid_nas.config.load import changed_keys, config_to_yaml, default_config, load_config

__all__ = ["changed_keys", "config_to_yaml", "default_config", "load_config"]
