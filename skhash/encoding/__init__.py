"""Codes of more photos than fit into memory, on one machine or a cluster."""

from ._encode import EncodingReport, encode
from ._encoder import PhotoEncoder
from ._shards import iter_codes, read_codes

__all__ = ["EncodingReport", "PhotoEncoder", "encode", "iter_codes", "read_codes"]
