"""Compact binary codes for images, learned from the tags people gave them."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

# Public names are loaded on first use: importing the package must stay fast, and must load
# neither torch nor gensim for those who only search or score.
_MODULE_OF = {
    "DRSCHHasher": "supervised",
    "DSHHasher": "supervised",
    "DSTDHLinear": "dstdh",
    "DeepHasher": "networks",
    "HammingNeighbors": "neighbors",
    "ITQ": "unsupervised",
    "ImageFeatures": "networks",
    "KSH": "supervised",
    "KSHHasher": "supervised",
    "LSH": "unsupervised",
    "PCAH": "unsupervised",
    "SemanticSpace": "semantic",
    "TagITQ": "social",
    "WeaklySupervisedHasher": "weakly",
}
_SUBMODULES = (
    "codes",
    "datasets",
    "dstdh",
    "graphs",
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


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"skhash.{_MODULE_OF[name]}"), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"skhash.{name}")
    else:
        raise AttributeError(f"module 'skhash' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
