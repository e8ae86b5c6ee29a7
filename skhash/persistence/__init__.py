"""Estimators in files, without pickle."""

from ._files import load, save

__all__ = ["load", "save"]
