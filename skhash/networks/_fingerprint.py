"""Digests that identify networks, losses and settings.

They decide whether stored features and checkpoints still belong to a network or training. So they
include everything that determines what a module computes. Objects that cannot be identified by
their content raise an error.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib.metadata
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import skorch
import torch
from torch import nn

__all__ = ["module_digest", "object_digest"]

_ATOMS = (
    type(None), type(...), bool, int, float, complex, str, bytes,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
# Attributes of a class that do not affect its behaviour, or that differ in each process.
_BOOKKEEPING = {
    "__abstractmethods__", "__annotations__", "__annotate__", "__annotate_func__", "__dict__",
    "__doc__", "__firstlineno__", "__module__", "__orig_bases__", "__parameters__", "__qualname__",
    "__slotnames__", "__static_attributes__", "__weakref__", "_abc_impl",
}  # fmt: skip
_LIBRARIES = {
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    *site.getsitepackages(),
    site.getusersitepackages(),
    # Other folders from which these are imported.
    *(str(Path(str(library.__file__)).parents[1]) for library in (np, torch, skorch)),
}


def module_digest(module: nn.Module, *, weights: bool = True) -> str:
    """Digest of everything that determines what a module computes.

    Equal in every process for modules of the same code, settings and weights.

    Parameters
    ----------
    module : nn.Module
        The module with its submodules. The digest includes attributes and
        hooks, the code of classes and functions, and the names that they use.
        For installed libraries it includes name and version instead of code. It
        does not depend on training mode.
    weights : bool, default=True
        Whether to include the values of ``module.state_dict()``; else only
        names, shapes and dtypes.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If a part cannot be identified by its content, such as an open file; the
        message names the part.
    """
    return _Reader(weights).read(module, type(module).__name__).hex()


def object_digest(value: Any) -> str:
    """Digest of any value, computed as for a module. The value may contain modules.

    Parameters
    ----------
    value : object
        Settings, arrays, functions, modules, ... and collections of them.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If a part cannot be identified by its content; the message names the
        part.
    """
    return _Reader(weights=True).read(value, type(value).__name__).hex()


class _Reader:
    """One pass over an object and its parts."""

    def __init__(self, weights: bool) -> None:
        self._weights = weights
        self._done: dict[int, tuple[Any, bytes]] = {}  # with the object, so that its id stays valid
        self._open: dict[int, int] = {}

    def read(self, value: Any, path: str) -> bytes:
        """Digest of any value; ``path`` is its place, for messages."""
        if isinstance(value, _ATOMS) and not hasattr(value, "__dict__"):
            return _hash(type(value).__name__.encode(), repr(value).encode())
        key = id(value)
        if key in self._done:
            return self._done[key][1]
        if key in self._open:  # the value contains itself: use the number of levels
            return _hash(b"within", str(len(self._open) - self._open[key]).encode())
        self._open[key] = len(self._open)
        try:
            digest = _hash(*self._parts(value, path))
        finally:
            del self._open[key]
        self._done[key] = value, digest
        return digest

    def _all(self, values: Iterable[Any], path: str) -> Iterator[bytes]:
        return (self.read(value, f"{path}[{i}]") for i, value in enumerate(values))

    def _parts(self, value: Any, path: str) -> Iterator[bytes | memoryview]:
        yield type(value).__name__.encode()
        if isinstance(value, torch.Tensor):
            yield from self._tensor(value, path)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield f"{value.dtype.str} {value.shape}".encode()
            yield np.ascontiguousarray(value).tobytes()
        elif sp.issparse(value):  # a sparse array also stores results of earlier calls
            entries = sp.coo_array(value)
            yield from self._all((entries.shape, *entries.coords, entries.data), path)
        elif type(value) in (list, tuple):
            yield from self._all(value, path)
        elif type(value) in (set, frozenset):
            yield from sorted(self._all(value, path))
        elif type(value) in (dict, types.MappingProxyType):
            for key, item in value.items():
                yield self.read(key, path)
                yield self.read(item, f"{path}[{key!r}]")
        elif isinstance(value, types.ModuleType):
            yield _name(value, value.__name__)
        elif isinstance(value, type):
            yield from self._class(value, path)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value, path)
        elif isinstance(value, types.CodeType):
            yield from self._code(value, path)
        elif isinstance(value, types.MethodType):
            yield from self._all((value.__func__, value.__self__), path)
        elif isinstance(value, staticmethod | classmethod):
            yield self.read(value.__func__, path)
        elif isinstance(value, property):
            yield from self._all((value.fget, value.fset), path)
        elif isinstance(value, nn.Module) and not isinstance(value, torch.jit.ScriptModule):
            yield from self._module(value, path)
        elif hasattr(value, "__qualname__") and isinstance(value.__qualname__, str):
            # Compiled functions and descriptors; a bound one has its object.
            yield value.__qualname__.encode()
            owner = getattr(value, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType):
                yield self.read(owner, path)
        else:
            yield from self._object(value, path)

    def _tensor(
        self, tensor: torch.Tensor, path: str, *, content: bool = True
    ) -> Iterator[bytes | memoryview]:
        yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
        if content:
            try:
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                yield flat.view(torch.uint8).numpy().data
            except RuntimeError as error:  # sparse, quantised or without a device
                raise _refusal(tensor, path, error) from error

    def _module(self, module: nn.Module, path: str) -> Iterator[bytes]:
        yield self.read(type(module), type(module).__name__)
        volatile = module._non_persistent_buffers_set
        for name, value in vars(module).items():
            if name == "training":
                continue
            yield name.encode()
            if name in ("_parameters", "_buffers"):
                for key, tensor in value.items():
                    yield key.encode()
                    if tensor is not None:
                        content = self._weights or key in volatile
                        yield _hash(*self._tensor(tensor, f"{path}.{key}", content=content))
            elif name == "_modules":
                for key, child in value.items():
                    yield key.encode()
                    yield self.read(child, f"{path}.{key}")
            elif name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
                # The keys count all hooks of the process, so only the values are used.
                yield from self._all(value.values(), f"{path}.{name}")
            else:
                yield self.read(value, f"{path}.{name}")

    def _class(self, cls: type, path: str) -> Iterator[bytes]:
        yield _name(cls, f"{cls.__module__}.{cls.__qualname__}")
        if _is_own(cls):
            yield from self._all(cls.__bases__, path)
            for name, value in sorted(vars(cls).items()):
                if name not in _BOOKKEEPING:
                    yield name.encode()
                    yield self.read(value, f"{path}.{name}")

    def _function(self, function: types.FunctionType, path: str) -> Iterator[bytes]:
        if not _is_own(function):
            yield _name(function, f"{function.__module__}.{function.__qualname__}")
            # A closure depends on the values of its variables.
            yield from self._all(_cells(function), path)
            return
        yield self.read(function.__code__, path)
        yield from self._all((function.__defaults__, function.__kwdefaults__), path)
        yield from self._all(_cells(function), path)
        for name in sorted(_global_names(function.__code__)):
            if name in function.__globals__:
                yield name.encode()
                value = function.__globals__[name]
                yield self.read(value, name)
                if isinstance(value, types.ModuleType) and _is_own(value):
                    for used in sorted(_names(function.__code__) & vars(value).keys()):
                        yield used.encode()
                        yield self.read(vars(value)[used], f"{name}.{used}")

    def _code(self, code: types.CodeType, path: str) -> Iterator[bytes]:
        yield code.co_code
        yield code.co_exceptiontable
        yield from self._all((code.co_names, code.co_varnames, code.co_freevars), path)
        yield from self._all(code.co_consts, path)

    def _object(self, value: Any, path: str) -> Iterator[bytes]:
        """Any other object, read as pickle would."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:  # __reduce__ of a user's class may raise anything
            raise _refusal(value, path, error) from error
        if isinstance(reduced, str):
            yield _name(value, reduced)
            return
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        yield self.read(function, path)
        yield from self._all(arguments, path)
        if isinstance(state, dict):
            for name, attribute in state.items():
                yield str(name).encode()
                yield self.read(attribute, f"{path}.{name}")
        else:
            yield self.read(state, path)
        yield from self._all(items or (), path)
        yield from self._all(pairs or (), path)


def _hash(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _refusal(value: Any, path: str, error: Exception) -> TypeError:
    return TypeError(
        f"{path}, {type(value).__name__!r}, cannot be identified by its content ({error}); remove "
        "it from the network, or use neither cache nor checkpoint."
    )


def _home(value: Any) -> str:
    """The name of the module of a value."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    return getattr(value, "__module__", None) or "builtins"


def _is_own(value: Any) -> bool:
    """Whether a class, function or module may change, because it is not of an installed library."""
    home = _home(value)
    root = home.partition(".")[0]
    if root in sys.stdlib_module_names and root != "__main__":
        return False
    files = [getattr(sys.modules.get(name), "__file__", None) for name in (home, root)]
    file = Path(files[0] or files[1] or "")
    if any(file.is_relative_to(library) for library in _LIBRARIES):
        return False
    return not any(file.is_relative_to(library) for library in _homes(root))


_distributions = functools.cache(importlib.metadata.packages_distributions)


@functools.cache
def _homes(package: str) -> set[str]:
    """Folders to which a package is installed together with its metadata."""
    metadata = [importlib.metadata.distribution(name) for name in _distributions().get(package, [])]
    return {
        str(found.locate_file(""))
        for found in metadata
        if any(path.parts[0] == package for path in found.files or ())
    }


def _name(value: Any, name: str) -> bytes:
    """A name with the version of its library."""
    root = sys.modules.get(_home(value).partition(".")[0])
    return f"{name} {getattr(root, '__version__', '')}".encode()


def _cells(function: types.FunctionType) -> list[Any]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    return cells


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and the code objects of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _global_names(code: types.CodeType) -> set[str]:
    return {
        instruction.argval
        for part in _codes(code)
        for instruction in dis.get_instructions(part)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }


def _names(code: types.CodeType) -> set[str]:
    return {name for part in _codes(code) for name in part.co_names}
