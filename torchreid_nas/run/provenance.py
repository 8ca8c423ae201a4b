"""Where a result comes from: the version of the code, the config, the seed, the data."""
from __future__ import annotations

__all__ = ["config_fingerprint", "provenance"]

import functools
import hashlib
import subprocess
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

import torchreid_nas
from torchreid_nas.config import config_to_yaml


def config_fingerprint(cfg: CfgNode) -> str:
    """Return 12 hexadecimal digits that tell configs apart.

    The device, the places of the data, the cache and the run, the logger and the report do not count.

    Example:
        >>> from torchreid_nas.config import load_config
        >>> here, there = (load_config(None, ["data.root", root]) for root in ("here", "there"))
        >>> config_fingerprint(here) == config_fingerprint(there)
        True
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.device = cfg.data.root = cfg.data.save_dir = cfg.data.cache_dir = ""
    # Left out, not set: digests of earlier versions, which had no such keys, stay.
    del cfg["logger"], cfg["report"]
    return hashlib.sha256(config_to_yaml(cfg).encode()).hexdigest()[:12]


def provenance(cfg: CfgNode, **more: Any) -> dict[str, Any]:
    """Return what is written beside a result.

    Args:
        cfg: the resolved config.
        more: further entries.
    """
    return {
        "version": torchreid_nas.__version__,
        "commit": _commit(),
        "config": config_fingerprint(cfg),
        "seed": cfg.train.seed,
        "data": {"sources": list(cfg.data.sources), "split_id": cfg.data.split_id, "synthetic": cfg.synthetic.enabled,
                 "interpolation": cfg.data.interpolation},
        "model": cfg.model.name,
        **more,
    }


@functools.cache
def _commit() -> str | None:
    """Return the commit of a git checkout of this package, with "+" where files differ from it; None for an installed package."""
    package = Path(torchreid_nas.__file__).parent
    # A checkout of another project may hold the environment that this package is installed in.
    if not (package.parent / ".git").exists():
        return None
    commit = _git(package, "rev-parse", "HEAD")
    return commit and commit + ("+" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, None where it fails or git is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
