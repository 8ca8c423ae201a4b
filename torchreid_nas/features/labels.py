"""Who is on an image and which camera took it, as far as its path tells."""
from __future__ import annotations

__all__ = ["NO_CAMERA", "NO_LABEL", "Label", "read_label"]

import re
from dataclasses import dataclass
from pathlib import Path

NO_LABEL = ""
NO_CAMERA = -1

# Market-1501 0002_c1s1_000451_03.jpg, DukeMTMC-reID 0001_c2_f0046182.jpg.
_MARKET = re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+)(?P<sequence>s\d+)?(?:_|\.|$)")
# MSMT17 0000_000_01_0303morning_0015_0.jpg, in a folder of the identity.
_MSMT = re.compile(r"(?P<pid>\d{4})_\d{3}_(?P<camera>\d{2})_")
# SYSU-MM01 cam3/0042/0001.jpg.
_CAMERA_FOLDER = re.compile(r"cam(?:era)?[_-]?(?P<camera>\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Label:
    """Identity and camera of an image.

    Attributes:
        identity: the number without leading zeros, the name of the identity's
            folder, or ``NO_LABEL``.
        camid: 0-based as everywhere in torchreid, or ``NO_CAMERA``.
    """

    identity: str = NO_LABEL
    camid: int = NO_CAMERA


def read_label(path: Path, root: Path | None = None) -> Label:
    """Return what the path of an image tells.

    In this order (the rules are ours):

    - names as in Market-1501, DukeMTMC-reID and MSMT17 give identity and
      camera; Market's junk (-1) and distractors (0000) have no identity;
    - else the folder of the image is the identity, as in RegDB and SYSU-MM01
      (there ``cam<n>`` above it is the camera): always where its name is a
      number, else where the folder lies below ``root``.

    Args:
        path: of the image.
        root: the folder that was given as the source; None for single files.
    """
    named = _MARKET.match(path.name) or _MSMT.match(path.name)
    if named:
        pid, camid = int(named["pid"]), int(named["camera"]) - 1
        is_junk = pid < 0 or (pid == 0 and bool(named.groupdict().get("sequence")))
        return Label(NO_LABEL if is_junk else str(pid), camid)
    folder = path.parent
    camera = _CAMERA_FOLDER.fullmatch(folder.parent.name)
    camid = int(camera["camera"]) - 1 if camera else NO_CAMERA
    if folder.name.isdecimal():
        return Label(str(int(folder.name)), camid)
    if root is not None and root != folder and root in folder.parents:
        return Label(folder.name, camid)
    return Label()
