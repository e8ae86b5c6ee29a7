"""Hashers that learn from tags."""

import lazy_loader

# Loaded on first use: those without a network need no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
