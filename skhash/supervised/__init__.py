"""Hashers that learn from labels: samples that share a label are similar."""

import lazy_loader

# Loaded on first use: the kernel form needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
