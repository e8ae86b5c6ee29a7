"""Compact binary codes for images, learned from the tags people gave them."""

from __future__ import annotations

import lazy_loader

try:
    from ._version import __version__  # written when the package is built or installed
except ImportError:  # a checkout on the path that nobody installed
    __version__ = "0+unknown"

# Public names are those of __init__.pyi, where type checkers find them. They are loaded on first
# use: importing the package must be fast, and must load neither torch nor gensim if they are not
# used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
