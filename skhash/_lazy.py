"""Packages that load their modules on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, module_of: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Functions to be a package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    module_of : mapping of str to str
        For each public name the module below the package that has it; a module
        under its own name is public itself.

    Returns
    -------
    getattr, dir : callable
        See PEP 562.
    """

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: Any = importlib.import_module(f"{package}.{module_of[name]}")
        if module_of[name] != name:
            value = getattr(value, name)
        vars(importlib.import_module(package))[name] = value
        return value

    return get, lambda: sorted(module_of)
