"""Nearest-neighbour search among binary codes, and the stores that keep the codes."""

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
