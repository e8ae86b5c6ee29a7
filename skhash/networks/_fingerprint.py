"""Digests that tell networks, losses and settings from others.

They decide whether stored features and checkpoints still belong to what asks for them. So they
take in whatever decides what a module computes: classes and the code of their functions,
attributes, hooks, weights. What cannot be told is refused rather than taken for the same.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
import types
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["module_digest", "object_digest"]

# Classes of these are told by name and version; of others, by their code.
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "PIL", "skhash")
# Of a module: what is digested otherwise, or decides nothing that it computes.
_BOOKKEEPING = {
    "_parameters",
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
    "_is_full_backward_hook",
    "training",
}
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, slice)
_MEMBERS = (types.FunctionType, list, tuple, dict, *_PLAIN)
# Of a class: what says nothing of what it does.
_DESCRIPTIVE = {"__doc__", "__module__", "__annotations__", "__firstlineno__"}
_DESCRIPTIVE |= {"__static_attributes__"}


def module_digest(module: nn.Module) -> str:
    """Digest of all that decides what a module computes.

    Parameters
    ----------
    module : nn.Module
        A network or a loss.

    Returns
    -------
    str
        Equal for modules of equal classes, code, attributes, hooks, parameters
        and buffers, in this process and others.

    Raises
    ------
    TypeError
        If an attribute cannot be told from others; the message names it.
    """
    return object_digest(module)


def object_digest(value: Any) -> str:
    """Digest of a value: plain ones, arrays, tensors, functions, modules, and collections of them.

    Parameters
    ----------
    value : object
        The value.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If the value, or a part of it, cannot be told from others.
    """
    digest = hashlib.blake2b(digest_size=16)
    _Writer(digest).add(value, type(value).__name__)
    return digest.hexdigest()


class _Writer:
    """Writes values into a digest, each with what tells where it ends."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest
        self._seen: dict[int, tuple[int, Any]] = {}  # the values too, so that no id is used twice

    def _write(self, *parts: Any) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            self._digest.update(len(data).to_bytes(8, "little") + data)

    def add(self, value: Any, name: str) -> None:
        """Write a value; ``name`` is how errors call it."""
        if isinstance(value, _PLAIN):
            self._write(type(value).__name__, repr(value))
            return
        if id(value) in self._seen:
            self._write("seen", self._seen[id(value)][0])
            return
        self._seen[id(value)] = len(self._seen), value
        if isinstance(value, torch.Tensor):
            data = value.detach().cpu().contiguous()
            self._write("tensor", data.dtype, tuple(data.shape))
            self._write(data.flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            self._write("array", value.dtype.str, value.shape, value.tobytes())
        elif isinstance(value, nn.Module):
            self._add_module(value, name)
        elif isinstance(value, dict):
            self._write("dict", len(value))
            for key, item in value.items():
                self.add(key, name)
                self.add(item, f"{name}[{key!r}]")
        elif isinstance(value, list | tuple):
            self._write(type(value).__name__, len(value))
            for i, item in enumerate(value):
                self.add(item, f"{name}[{i}]")
        elif isinstance(value, set | frozenset):
            self._write("set", *sorted(object_digest(item) for item in value))
        elif isinstance(value, type):
            self._add_class(value, name)
        elif isinstance(value, types.FunctionType):
            self._add_function(value, name)
        elif isinstance(value, types.MethodType):
            self.add(value.__func__, name)
            self.add(value.__self__, name)
        elif isinstance(value, types.BuiltinFunctionType | types.ModuleType):
            self._write("builtin", getattr(value, "__module__", ""), value.__name__)
        elif isinstance(value, functools.partial):
            self.add([value.func, value.args, value.keywords], name)
        elif isinstance(value, types.CodeType):
            self._add_code(value, name)
        else:
            self._add_object(value, name)

    def _add_module(self, module: nn.Module, name: str) -> None:
        self._add_class(type(module), name)
        for key, value in sorted(vars(module).items()):
            # Hooks that there are none of are left out: releases of torch differ in their kinds.
            if key not in _BOOKKEEPING and not (key.endswith("hooks") and not value):
                self._write("attribute", key)
                self.add(value, f"{name}.{key}")
        for kind in (module._parameters, module._buffers, module._modules):
            for key, part in kind.items():
                self._write("part", key)
                self.add(part, f"{name}.{key}")

    def _add_class(self, kind: type, name: str) -> None:
        self._write("class", kind.__module__, kind.__qualname__)
        root = kind.__module__.partition(".")[0]
        if root in _LIBRARIES or root in sys.stdlib_module_names:
            self._write(getattr(sys.modules.get(root), "__version__", ""))
            return
        for base in kind.__bases__:
            if base is not object:
                self.add(base, name)
        for key, value in sorted(vars(kind).items()):
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            if isinstance(value, property):
                value = [value.fget, value.fset]
            if isinstance(value, _MEMBERS) and key not in _DESCRIPTIVE:
                self._write("member", key)
                self.add(value, f"{name}.{key}")

    def _add_function(self, function: types.FunctionType, name: str) -> None:
        self._write("function", function.__qualname__)
        self._add_code(function.__code__, name)
        self.add([function.__defaults__, function.__kwdefaults__], name)
        for cell in function.__closure__ or ():
            self.add(cell.cell_contents, name)
        for key in sorted(set(function.__code__.co_names) & function.__globals__.keys()):
            value = function.__globals__[key]
            local = getattr(value, "__module__", None) == function.__module__
            if isinstance(value, _PLAIN) or (local and isinstance(value, types.FunctionType)):
                self._write("global", key)
                self.add(value, name)

    def _add_code(self, code: types.CodeType, name: str) -> None:
        self._write("code", code.co_code, *code.co_names, *code.co_varnames)
        for constant in code.co_consts:
            self.add(constant, name)

    def _add_object(self, value: Any, name: str) -> None:
        self._write("object", type(value).__module__, type(value).__qualname__)
        if hasattr(value, "__dict__"):
            self._add_class(type(value), name)
            self.add(dict(sorted(vars(value).items())), name)
            return
        try:
            self._write(pickle.dumps(value, protocol=4))
        except Exception:
            raise TypeError(
                f"{name} is {type(value).__name__}, which cannot be told from another one: keep "
                "it out of the network or loss, or do without cache and checkpoint."
            ) from None
