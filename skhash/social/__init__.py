"""Hashers that learn from tags as given."""

from ._sah import SAH
from ._tag_itq import TagITQ
from ._wmh import WMH

__all__ = ["SAH", "WMH", "TagITQ"]
