"""Dual-level semantic transfer hashing: codes from images and their noisy tags."""

import lazy_loader

# Loaded on first use, because the linear form does not need torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
