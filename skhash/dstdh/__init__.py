"""Dual-level semantic transfer hashing: codes from images and their noisy tags."""

import lazy_loader

# Loaded on first use: the linear form needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
