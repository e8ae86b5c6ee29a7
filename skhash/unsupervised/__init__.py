"""Hashers that learn from features alone."""

import lazy_loader

# Loaded on first use: hashers without a network need no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
