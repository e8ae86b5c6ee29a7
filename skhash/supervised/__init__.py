"""Hashers that learn from labels: similar is what shares one."""

from ._deep import DRSCHHasher, DSHHasher, KSHHasher

__all__ = ["DRSCHHasher", "DSHHasher", "KSHHasher"]
