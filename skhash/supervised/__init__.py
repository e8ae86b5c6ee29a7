"""Hashers that learn from labels: similar is what shares one."""

from ._deep import DRSCHHasher, DSHHasher, KSHHasher
from ._ksh import KSH

__all__ = ["KSH", "DRSCHHasher", "DSHHasher", "KSHHasher"]
