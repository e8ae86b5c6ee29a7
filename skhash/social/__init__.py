"""Hashers that learn from tags as given."""

from ._tag_itq import TagITQ

__all__ = ["TagITQ"]
