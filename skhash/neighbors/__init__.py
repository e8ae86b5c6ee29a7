"""Exact nearest-neighbour search among binary codes, and what keeps them."""

from ._hamming import HammingNeighbors
from ._memory import MemoryStore
from ._store import Store

__all__ = ["HammingNeighbors", "MemoryStore", "Store"]
