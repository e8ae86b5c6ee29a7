"""Compact binary codes for images, learned from the tags people gave them."""

from __future__ import annotations

from ._lazy import lazy_names

__version__ = "0.1.0.dev0"

# Public names are loaded on first use: importing the package must stay fast, and must load
# neither torch nor gensim for those who only search or score.
_MODULE_OF = {
    "DRSCHHasher": "supervised",
    "DSHHasher": "supervised",
    "DSTDHHasher": "dstdh",
    "DSTDHLinear": "dstdh",
    "DeepBit": "unsupervised",
    "DeepHasher": "networks",
    "GreedyHash": "unsupervised",
    "HammingNeighbors": "neighbors",
    "ITQ": "unsupervised",
    "ImageFeatures": "networks",
    "KSH": "supervised",
    "KSHHasher": "supervised",
    "LSH": "unsupervised",
    "LSMH": "unsupervised",
    "PCAH": "unsupervised",
    "SADH": "unsupervised",
    "SADHLinear": "unsupervised",
    "SAH": "social",
    "SGH": "unsupervised",
    "SKLSH": "unsupervised",
    "SemanticSpace": "semantic",
    "SpectralHashing": "unsupervised",
    "TagITQ": "social",
    "UHBDNN": "unsupervised",
    "WMH": "social",
    "WeaklySupervisedHasher": "weakly",
}
_SUBMODULES = (
    "codes",
    "datasets",
    "dstdh",
    "graphs",
    "images",
    "metrics",
    "neighbors",
    "networks",
    "semantic",
    "social",
    "supervised",
    "tags",
    "unsupervised",
    "weakly",
)

__all__ = ["__version__", *sorted(_MODULE_OF), *_SUBMODULES]

__getattr__, _ = lazy_names(__name__, _MODULE_OF | {module: module for module in _SUBMODULES})


def __dir__() -> list[str]:
    return sorted(__all__)
