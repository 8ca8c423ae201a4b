"""Identity and camera of an image, read from its path."""
from __future__ import annotations

__all__ = ["NO_CAMERA", "NO_LABEL", "Label", "read_label"]

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

NO_LABEL = ""
NO_CAMERA = -1

# Market-1501 0002_c1s1_000451_03.jpg, DukeMTMC-reID 0001_c2_f0046182.jpg.
_MARKET = re.compile(r"(?P<pid>-?[0-9]{1,64})_c(?P<camera>[0-9]{1,9})(?P<sequence>s[0-9]+)?(?:_|\.|$)")
# MSMT17 0000_000_01_0303morning_0015_0.jpg, in a folder of the identity.
_MSMT = re.compile(r"(?P<pid>[0-9]{4})_[0-9]{3}_(?P<camera>[0-9]{2})_")
# SYSU-MM01 cam3/0042/0001.jpg.
_CAMERA_FOLDER = re.compile(r"cam(?:era)?[_-]?(?P<camera>[0-9]{1,9})", re.IGNORECASE)

# A year, then perhaps a month, a day and a time.
_DATE = re.compile(r"(?:19|20)\d\d(?:(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])?)?|(?:19|20)\d{10,}")


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
    """Return identity and camera as the path of an image names them.

    In this order (the rules are ours):

    - names as in Market-1501, DukeMTMC-reID and MSMT17 give identity and
      camera; Market's junk (-1) and distractors (0000) have no identity;
    - else the folder of the image is the identity, as in RegDB and SYSU-MM01
      (there ``cam<n>`` above it is the camera), where the folder lies below
      ``root``, or where its name and that of a folder beside it are numbers
      and not all of these are dates: ``20240501`` is a day, not a person.

    Args:
        path: of the image.
        root: the folder that was given as the source; None for single files.

    Example:
        >>> read_label(Path("query/0002_c1s1_000451_03.jpg"))
        Label(identity='2', camid=0)
        >>> read_label(Path("photos/alice/a.jpg"), Path("photos"))
        Label(identity='alice', camid=-1)
    """
    named = _MARKET.match(path.name) or _MSMT.match(path.name)
    if named:
        pid, camid = int(named["pid"]), int(named["camera"]) - 1
        is_junk = pid < 0 or (pid == 0 and bool(named.groupdict().get("sequence")))
        return Label(NO_LABEL if is_junk else str(pid), camid)
    folder = path.parent
    camera = _CAMERA_FOLDER.fullmatch(folder.parent.name)
    camid = int(camera["camera"]) - 1 if camera else NO_CAMERA
    below = root is not None and root != folder and root in folder.parents
    if _is_number(folder.name) and (below or camera or _is_among_people(folder)):
        return Label(str(int(folder.name)), camid)
    return Label(folder.name, camid) if below else Label()


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[0-9]{1,64}", name) is not None


@functools.lru_cache(maxsize=1024)
def _is_among_people(folder: Path) -> bool:
    """Say whether the folder, whose name is a number, stands among folders of persons."""
    try:
        numbers = [entry.name for entry in os.scandir(folder.parent) if _is_number(entry.name) and entry.is_dir()]
    except OSError:
        return False
    return len({*numbers, folder.name}) > 1 and not all(_DATE.fullmatch(name) for name in (*numbers, folder.name))
