"""Search for photos by photos and by words: hasher, index, ids and tags in one object."""

import lazy_loader

# Loaded on first use: the help of the command line does not need it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
