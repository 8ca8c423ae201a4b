"""Synthetic pedestrians in the layouts of real data sets: stand-ins where the real files cannot be shipped.

A :class:`Person` is drawn in a :class:`Pose` before a :class:`Scene` and taken
by a :class:`Camera` (:func:`photograph`). The writers of :data:`LAYOUTS` store
such photographs in the layouts of RegDB, SYSU-MM01, LLCM, Market-1501 and DukeMTMC-reID.
A figure measured on them says nothing about the real data sets.
"""
from torchreid_nas.data.synthetic.attributes import write_attributes
from torchreid_nas.data.synthetic.camera import Camera, photograph
from torchreid_nas.data.synthetic.dukemtmcreid import write_dukemtmcreid
from torchreid_nas.data.synthetic.figure import Pose
from torchreid_nas.data.synthetic.layouts import LAYOUTS, write_dataset, write_regdb, write_sysu_mm01
from torchreid_nas.data.synthetic.llcm import write_llcm
from torchreid_nas.data.synthetic.market1501 import write_market1501
from torchreid_nas.data.synthetic.person import Person
from torchreid_nas.data.synthetic.scene import Scene
from torchreid_nas.data.synthetic.settings import SyntheticSettings
from torchreid_nas.data.synthetic.sheet import contact_sheet

__all__ = [
    "LAYOUTS",
    "Camera",
    "Person",
    "Pose",
    "Scene",
    "SyntheticSettings",
    "contact_sheet",
    "photograph",
    "write_attributes",
    "write_dataset",
    "write_dukemtmcreid",
    "write_llcm",
    "write_market1501",
    "write_regdb",
    "write_sysu_mm01",
]
