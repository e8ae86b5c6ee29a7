"""Dual-level semantic transfer hashing: codes from images and their noisy tags."""

from .._lazy import lazy_names

__all__ = ["DSTDHHasher", "DSTDHLinear"]

# The linear form needs no torch.
__getattr__, __dir__ = lazy_names(__name__, {"DSTDHHasher": "_hasher", "DSTDHLinear": "_linear"})
