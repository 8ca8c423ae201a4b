"""A StarGAN across the cameras of a data set, which makes camera-style images; the authors of ECN publish no such code."""
from __future__ import annotations
