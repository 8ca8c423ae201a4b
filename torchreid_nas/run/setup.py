"""What every part of a run starts from: the resolved config, the device, the method and the folder."""
from __future__ import annotations

__all__ = ["RunSetup"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from yacs.config import CfgNode

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.bn_choices import BN_PRESETS
from torchreid_nas.checkpoints.load import resolve_weights
from torchreid_nas.config import changed_keys
from torchreid_nas.device import find_device, resolve_config
from torchreid_nas.errors import InputError
from torchreid_nas.hub.entry import Entry
from torchreid_nas.methods import Method, make_method
from torchreid_nas.run.folder import ADVISED, SEARCHED, RunFolder
from torchreid_nas.run.published import tested_entry


@dataclass(frozen=True)
class RunSetup:
    """One config on one device with one folder.

    Args:
        cfg: the config, resolved for the device.
        device: where tensors are computed.
        method: builds data, model, search space and engines.
        folder: where the run reads and writes.
        said: what the stages of the run say once, and have said.
    """

    cfg: CfgNode
    device: torch.device
    method: Method
    folder: RunFolder
    said: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def of(cls, cfg: CfgNode) -> RunSetup:
        """Resolve a config for its device, and set torch's convolutions to repeatable numbers.

        Args:
            cfg: see :mod:`torchreid_nas.config`.

        Raises:
            InputError: the device or the model does not exist, or they do not suit each other.
        """
        device = find_device(cfg.device)
        cfg = resolve_config(cfg, device)
        # With these kernels the same config and seed give the same numbers on the same machine.
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        return cls(cfg, device, make_method(cfg, device), RunFolder(Path(cfg.data.save_dir)))

    def changes(self, stage: str, among: Sequence[str]) -> list[str]:
        """Return the keys of ``among`` whose values differ from the config that a stage in the folder was made with.

        Raises:
            InputError: that config is damaged.
        """
        saved = self.folder.stage(stage).config
        if not saved.exists():
            return []
        return changed_keys(_read_saved(saved), self.cfg, among)

    def architecture(self) -> ArchitectureSpec:
        """Return the architecture to train and test: the found one, the name of a preset, or the content of a file.

        Raises:
            InputError: the architecture of the search is asked for and there is none.
        """
        spec: str = self.cfg.model.architecture
        found = self.folder.architecture
        if spec == SEARCHED and not found.exists():
            raise InputError(
                f'model.architecture is "{SEARCHED}" and "{found}" does not exist; run the search stage first, or set '
                f"model.architecture to a preset ({', '.join(BN_PRESETS)}) or a file"
            )
        # The folder may hold the copy of a file that an earlier training with another model.architecture was made with.
        if spec != SEARCHED and self.changes("train", ("model.architecture",)):
            return spec
        return self.folder.kept_architecture(spec)

    def asks_for_advice(self) -> bool:
        """Return whether the training starts with the split advisor: its advice is asked for and not in the folder yet."""
        return self.cfg.model.architecture == ADVISED and self.architecture() == ADVISED

    def weights(self, trains: bool) -> Path:
        """Return the file of weights to test: the trained weights, or the weights that the config names.

        Args:
            trains: whether this command trains; ``model.load_weights`` is then what the training starts from.

        Raises:
            InputError: there are no weights.
        """
        if self.cfg.model.load_weights and not trains:
            return resolve_weights(self.cfg.model.load_weights)
        path = self.folder.train.weights
        if not path.exists():
            raise InputError(
                f'there are no weights to test: "{path}" does not exist; run the train stage first or set model.load_weights FILE'
            )
        if self.cfg.train.ema and not self.cfg.test.averaged:
            return self.folder.train.write_raw_weights()
        return path

    def zoo_entry(self, trains: bool) -> Entry | None:
        """Return the zoo entry whose weights are tested; None where the weights are trained here or come from a file."""
        return None if trains else tested_entry(self.cfg)


def _read_saved(path: Path) -> dict[str, Any]:
    """Return the config that a stage was made with."""
    way_out = f'restore the file, or remove "{path.parent}" to start this stage afresh'
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f'"{path}" cannot be read ({error.strerror}); {way_out}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f'"{path}" is no YAML, expected the config of the stage; {way_out}') from error
    if not isinstance(content, dict) or not content:
        raise InputError(f'"{path}" holds no keys, expected the config of the stage; {way_out}')
    return content
