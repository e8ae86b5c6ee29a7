"""Hashers that learn from tags."""

import lazy_loader

# Loaded on first use, because hashers without a network do not need torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
