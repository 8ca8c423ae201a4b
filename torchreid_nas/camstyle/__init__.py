"""A StarGAN across the cameras of a data set: the camera-style images that ECN's authors left to other repositories."""
from __future__ import annotations
