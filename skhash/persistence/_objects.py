"""Estimators as data that JSON and arrays can hold, and back.

A model becomes a list of nodes. Each node is a dictionary of JSON values and references to earlier
nodes. The last node is the estimator. An object that is used twice is one node, and is again one
object when it is read.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import get_routing_for_object

from ._classes import SKLEARN, class_name, find_class

__all__ = ["PLAIN", "Reader", "Writer"]

Node = dict[str, Any]

_ATOMS = (type(None), bool, int, float, str)
_NUMBERS = "biufU"  # kinds of scalars
_SPARSE = ("csr_array", "csr_matrix", "csc_array", "csc_matrix")
# Numbers, strings and times: arrays of these contain only bytes.
PLAIN = "biufcSUmM"
_REFERENCE = "@"
_ROUTED = ("fit", "partial_fit", "predict", "transform", "inverse_transform", "score")
_NETWORK_NODES = {"backbone", "given", "module", "tensor", "timm", "torchvision"}


class Writer:
    """Turns objects into nodes.

    Parameters
    ----------
    backbone : {"weights", "digest"}
        What is kept of frozen networks of torchvision.

    Attributes
    ----------
    nodes : list of dict
        All nodes, each after those it refers to.
    arrays : list of ndarray
        Arrays that nodes refer to by number; equal arrays are stored once.
    """

    def __init__(self, backbone: str) -> None:
        self.backbone = backbone
        self.nodes: list[Node] = []
        self.arrays: list[NDArray[Any]] = []
        self._done: dict[int, tuple[Any, Node]] = {}  # with the object, to keep its id unique
        self._open: set[int] = set()  # objects that are being written
        self._places: dict[Any, int] = {}

    def write(self, value: Any, path: str) -> Any:
        """Convert a value for a node; messages name its place by ``path``.

        Raises
        ------
        TypeError
            If it is, or contains, something other than data.
        """
        if type(value) in _ATOMS:
            return value
        if isinstance(value, os.PathLike):
            return self.write(os.fspath(value), path)
        if id(value) in self._open:
            raise TypeError(f"{path} is an object that contains itself, which a file cannot hold.")
        if id(value) not in self._done:
            self._open.add(id(value))
            self._done[id(value)] = value, self.add(self._node(value, path))
            self._open.remove(id(value))
        return self._done[id(value)][1]

    def write_all(self, values: dict[str, Any], path: str) -> dict[str, Any]:
        """Convert named values for a node."""
        return {name: self.write(value, f"{path}.{name}") for name, value in values.items()}

    def add(self, node: Node) -> Node:
        """Add a node; return a reference to it."""
        self.nodes.append(node)
        return {_REFERENCE: len(self.nodes) - 1}

    def put(self, array: NDArray[Any]) -> int:
        """Keep an array; return its number."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        order = array.flags.f_contiguous  # products may differ by rounding with the layout
        digest = hashlib.blake2b(content.data).digest()
        key = array.dtype.str, array.shape, order, digest
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append(array)
        return self._places[key]

    def _node(self, value: Any, path: str) -> Node:
        kind = type(value)
        if kind in (list, tuple):
            return {kind.__name__: [self.write(v, f"{path}[{i}]") for i, v in enumerate(value)]}
        if kind in (dict, OrderedDict):
            return self._dict(value, path)
        is_number = isinstance(value, np.generic) and value.dtype.kind in _NUMBERS
        if is_number and type(value.item()) in _ATOMS:  # a longdouble's item is a longdouble
            return {"number": value.item(), "dtype": value.dtype.str}
        if kind in (np.ndarray, np.memmap) and value.dtype.kind in PLAIN:
            return {"array": self.put(np.asarray(value))}
        if kind is np.ndarray and value.dtype == object:
            items = [self.write(v, f"{path}[{i}]") for i, v in enumerate(value.flat)]
            return {"objects": items, "shape": value.shape}
        if sp.issparse(value) and kind.__name__ in _SPARSE:
            parts = [self.put(part) for part in (value.data, value.indices, value.indptr)]
            return {"sparse": kind.__name__, "shape": value.shape, "parts": parts}
        if kind is np.random.RandomState and isinstance(value._bit_generator, np.random.MT19937):
            return {"random": self.write(value.get_state(), path)}
        if isinstance(value, BaseEstimator) and (name := class_name(kind, "estimator")):
            return self._estimator(value, name)
        if name := class_name(kind, "part"):
            return {"part": name, "state": self.write_all(vars(value), path)}
        if any(base.__module__.startswith("torch.") for base in kind.__mro__):
            from ._networks import network_node

            if node := network_node(self, value, path):
                return node
        raise _refusal(value, path)

    def _dict(self, value: dict[Any, Any], path: str) -> Node:
        for key in value:
            if not _is_key(key):
                raise TypeError(
                    f"{path} has the key {key!r}, which a file cannot hold: use strings, numbers, "
                    "or tuples of them."
                )
        rows = list(value.values())
        kinds = {(v.shape, v.dtype) if type(v) is np.ndarray and v.ndim else None for v in rows}
        if len(kinds) == 1 and None not in kinds and rows[0].dtype.kind in PLAIN:
            # Vectors of many words are one array.
            return {"table": self.write(list(value), path), "rows": self.put(np.stack(rows))}
        pairs = [
            [self.write(k, f"{path} (a key)"), self.write(v, f"{path}[{k!r}]")]
            for k, v in value.items()
        ]
        return {"dict": pairs}

    def _estimator(self, estimator: BaseEstimator, name: str) -> Node:
        path = type(estimator).__name__
        params = estimator.get_params(deep=False)
        state = {k: v for k, v in estimator.__getstate__().items() if k not in params}
        node = {"estimator": name, "params": self.write_all(params, path)}
        if state.pop("_metadata_request", None) is not None:
            routing = get_routing_for_object(estimator)
            requests = {method: getattr(routing, method).requests for method in _ROUTED}
            node["routing"] = self.write({k: v for k, v in requests.items() if v}, path)
        return {**node, "state": self.write_all(state, path)}


class Reader:
    """Turns nodes into objects.

    Parameters
    ----------
    arrays : callable
        Returns an array, given its number.
    modules : list of nn.Module
        Networks given by the user.
    weights : "DEFAULT" or path
        Weights of a backbone that was stored by a digest.
    """

    def __init__(self, arrays: Callable[[int], NDArray[Any]], modules: list[Any], weights: Any):
        self.array = arrays
        self.modules = modules
        self.weights = weights
        self._made: list[Any] = []

    def read(self, nodes: list[Node]) -> Any:
        """Make the object that the last node describes.

        Raises
        ------
        ValueError
            If a node names a class that is not allowed.
        Exception
            Of any kind, if nodes are invalid.
        """
        for node in nodes:
            self._made.append(self._make(node))
        return self._made[-1]

    def value(self, written: Any) -> Any:
        """A value in a node: a JSON value, or the object of an earlier node."""
        if isinstance(written, dict):
            return self._made[range(len(self._made))[written[_REFERENCE]]]
        if type(written) not in _ATOMS:
            raise ValueError(f"it has {type(written).__name__!r} in the place of a value")
        return written

    def values(self, written: dict[str, Any]) -> dict[str, Any]:
        """Named values in a node."""
        return {name: self.value(value) for name, value in written.items()}

    def _make(self, node: Node) -> Any:
        match node:
            case {"list": items}:
                return [self.value(item) for item in items]
            case {"tuple": items}:
                return tuple(self.value(item) for item in items)
            case {"dict": pairs}:
                return {_key(self.value(key)): self.value(item) for key, item in pairs}
            case {"table": keys, "rows": rows}:
                return dict(zip(map(_key, self.value(keys)), self.array(rows), strict=True))
            case {"number": int() | float() | str() as number, "dtype": dtype}:
                return _number(number, dtype)
            case {"array": place}:
                return self.array(place)
            case {"objects": items, "shape": shape}:
                objects = np.empty(len(items), dtype=object)
                for i, item in enumerate(items):
                    objects[i] = self.value(item)
                return objects.reshape(shape)
            case {"sparse": name, "shape": shape, "parts": places} if name in _SPARSE:
                parts = tuple(self.array(place) for place in places)
                matrix = getattr(sp, name)(parts, shape=tuple(shape))
                matrix.check_format(full_check=True)  # scipy does not check it later
                return matrix
            case {"random": state}:
                return _random(self.value(state))
            case {"estimator": name, "params": params, "state": state}:
                estimator = self._estimator(name, self.values(params), self.values(state))
                if "routing" in node:
                    _route(estimator, self.value(node["routing"]))
                return estimator
            case {"part": name, "state": state}:
                part: Any = object.__new__(find_class(name, "part"))
                vars(part).update(self.values(state))
                return part
        if not _NETWORK_NODES.isdisjoint(node):
            from ._networks import make_network

            return make_network(self, node)
        raise ValueError(f"it has a part of an unknown kind, {', '.join(node)!r}")

    def _estimator(self, name: str, params: dict[str, Any], state: dict[str, Any]) -> Any:
        cls: Any = find_class(name, "estimator")
        known = inspect.signature(cls.__init__).parameters
        unknown = params.keys() - set(cls._get_param_names())
        if unknown:
            raise ValueError(
                f"its {name} has a parameter {min(unknown)!r}, which the installed version lacks; "
                "upgrade its package"
            )
        # Parameters that were added later get their defaults.
        later = {
            parameter: known[parameter].default
            for parameter in cls._get_param_names()
            if parameter not in params
        }
        estimator = cls.__new__(cls)
        # scikit-learn's own method compares versions here, and warns if they differ.
        estimator.__setstate__({**later, **params, **state})
        return estimator


def _is_key(value: Any) -> bool:
    # No tuples in tuples: the hash of a small file of these may take years.
    parts = value if type(value) is tuple else [value]
    return all(type(part) in _ATOMS or isinstance(part, np.generic) for part in parts)


def _key(value: Any) -> Any:
    if not _is_key(value):
        raise ValueError("it has a key that is neither a number nor text, nor a tuple of these")
    return value


def _number(number: float | str, dtype: Any) -> np.generic:
    kind = np.dtype(dtype)
    if kind.kind not in _NUMBERS:
        raise ValueError(f"it has a number of dtype {dtype!r}")
    # Not an array of this dtype, which could be a string of any length.
    return kind.type(number)


def _random(state: Any) -> np.random.RandomState:
    # numpy does not check the position, and would read beyond the end of the 624 words.
    if type(state) is not tuple or state[2] not in range(625):
        raise ValueError("it has a random state that no generator has")
    random = np.random.RandomState(0)
    random.set_state(state)
    return random


def _route(estimator: Any, requests: dict[str, dict[str, Any]]) -> None:
    """Set the metadata requests of the saved estimator."""
    with sklearn.config_context(enable_metadata_routing=True):
        for method in requests.keys() & set(_ROUTED):
            getattr(estimator, f"set_{method}_request")(**requests[method])


def _refusal(value: Any, path: str) -> TypeError:
    kind = type(value)
    if ".callbacks" in path:
        remedy = "call set_params(callbacks=None) first; only fit uses callbacks"
    elif path == "ImageSearch.photos_":
        remedy = "save a search that has photos to a folder, by its method save(folder)"
    elif isinstance(value, BaseEstimator):
        others = ", ".join(name for names in SKLEARN.values() for name in names)
        remedy = f"skhash.save supports the estimators of skhash, and of scikit-learn {others}"
    elif inspect.isroutine(value) or isinstance(value, type):
        remedy = "give data instead, such as a dict of vectors or the path of a file of vectors"
    else:
        remedy = "use numbers, strings, arrays, or lists and dicts of them"
    return TypeError(
        f"{path} is of type {kind.__module__}.{kind.__qualname__}, which a file "
        f"cannot hold: {remedy}."
    )
