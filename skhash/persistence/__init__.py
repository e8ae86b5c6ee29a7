"""Estimators in files, without pickle, and hashers as ONNX models."""

import lazy_loader

# Loaded on first use: save and load need no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
