"""Dual-level semantic transfer hashing: codes from images and their noisy tags."""

from ._linear import DSTDHLinear

__all__ = ["DSTDHLinear"]
