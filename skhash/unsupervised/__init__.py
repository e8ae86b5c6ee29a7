"""Hashers that learn from features alone: random and principal projections, and ITQ."""

from ._itq import ITQ
from ._lsh import LSH
from ._pcah import PCAH

__all__ = ["ITQ", "LSH", "PCAH"]
