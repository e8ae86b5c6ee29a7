"""The one place that imports torchvision.

torchvision 0.28 beside a CPU build of torch fails at import, because its
compiled operators need CUDA libraries ("operator torchvision::nms does not
exist"). Models and weights need none of those operators, so on exactly that
error their signatures are declared and the import is tried again.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

__all__ = ["models", "new"]

_library: torch.library.Library | None = None  # the declarations live as long as this object


def _import_models() -> ModuleType:
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision.models")


models = _import_models()


def new(cls: Any) -> Any:
    """Make an object when a pickle is read, after the import of torchvision."""
    return cls.__new__(cls)
