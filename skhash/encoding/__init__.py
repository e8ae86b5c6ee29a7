"""Codes of more photos than fit into memory, or into one machine's day."""

from ._encode import EncodingReport, encode
from ._encoder import PhotoEncoder
from ._shards import iter_codes, read_codes

__all__ = ["EncodingReport", "PhotoEncoder", "encode", "iter_codes", "read_codes"]
