"""The version of torch, for parts that need a newer one than the package itself."""

from __future__ import annotations

import torch

__all__ = ["check_torch", "is_torch_older"]

Version = tuple[int, ...]


def is_torch_older(oldest: Version) -> bool:
    """Whether torch is older than a version, such as ``(2, 13)``."""
    return tuple(map(int, torch.__version__.split(".")[:2])) < oldest


def check_torch(oldest: Version, what: str) -> None:
    """Raise an error if torch is older than a version.

    Raises
    ------
    ImportError
        If it is. The message begins with ``what``.
    """
    if is_torch_older(oldest):
        newer = ".".join(map(str, oldest))
        raise ImportError(f"{what} needs torch {newer} or newer: `pip install -U torch`.")
