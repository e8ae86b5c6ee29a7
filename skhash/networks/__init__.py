"""Networks: backbones, the hash head, and the trainer of all hashers with a network."""

import os

import torch

from ..images import ImageReadError, read_image
from ._backbones import Backbone, make_backbone
from ._base import DeepHasher, NetworkParameters
from ._features import ImageFeatures
from ._trainer import HashNet, TrainingSet

# A forked process does not have OpenMP's threads and would wait for them without end.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

__all__ = [
    "Backbone",
    "DeepHasher",
    "HashNet",
    "ImageFeatures",
    "ImageReadError",
    "NetworkParameters",
    "TrainingSet",
    "make_backbone",
    "read_image",
]
