"""Exact nearest-neighbour search among binary codes."""

from ._hamming import HammingNeighbors

__all__ = ["HammingNeighbors"]
