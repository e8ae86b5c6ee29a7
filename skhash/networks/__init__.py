"""Networks: backbones, the hash head, and the trainer of every hasher that has one."""

from ..images import ImageReadError, read_image
from ._backbones import Backbone, make_backbone
from ._base import DeepHasher, NetworkParameters
from ._features import ImageFeatures
from ._trainer import HashNet, TrainingSet

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
