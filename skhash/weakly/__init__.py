"""Weakly-supervised hashing: learn from tags first, from labels second."""

from ._hasher import WeaklySupervisedHasher

__all__ = ["WeaklySupervisedHasher"]
