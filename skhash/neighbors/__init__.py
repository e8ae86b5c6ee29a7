"""Nearest-neighbour search among binary codes, and what keeps them."""

from ._duckdb import DuckDBStore
from ._hamming import HammingNeighbors
from ._memory import MemoryStore
from ._postgres import PostgresStore
from ._store import Store
from ._urls import open_store

__all__ = [
    "DuckDBStore",
    "HammingNeighbors",
    "MemoryStore",
    "PostgresStore",
    "Store",
    "open_store",
]
