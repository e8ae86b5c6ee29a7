"""save and load: the files that estimators are kept in.

A file is a zip archive as ``numpy.savez`` writes it, followed by a digest of all of it. Its member
``model.json`` says what the estimator is made of, see :mod:`skhash.persistence._objects`; the other
members are the arrays, whose data begin at multiples of 64 bytes and are used where they are read.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

import skhash

from .._files import PathLike, read_checked, write_checked
from .._sklearn import StrOptions, validate_params
from ._objects import Reader, Writer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load", "save"]

# Of the layout of files, and of what the attributes of estimators mean: to be raised where an older
# release would misread a file.
_FORMAT = 1
_MODEL = "model.json"
_NEEDED = ("numpy", "scipy", "scikit-learn")
_NETWORKS = ("torch", "torchvision")
# Zip archives: the header of a member, whose last fields are the sizes of its name and extra.
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_PADDING = struct.Struct("<2H")
_ZIP64_SIZE = 20
_ALIGNMENT = 64
# Of arrays.
_LONGEST_HEADER = 2**14
_HEADERS: dict[tuple[int, int], Callable[[BinaryIO], tuple[Any, bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_INPUTS = {
    "HammingNeighbors": "codes",
    "ImageFeatures": "images",
    "SemanticSpace": "tags",
    "SemanticTargets": "tags",
    "TagHasher": "tags",
}


@validate_params(
    {
        "estimator": [BaseEstimator],
        "path": [str, os.PathLike],
        "backbone": [StrOptions({"weights", "digest"})],
    },
    prefer_skip_nested_validation=True,
)
def save(estimator: Any, path: PathLike, *, backbone: str = "weights") -> None:
    """Save an estimator to a file, without pickle.

    The file holds data alone: parameters, and what was learned. A file that is
    there already is replaced when the new one is complete.

    Parameters
    ----------
    estimator : estimator
        Any of skhash, fitted or not, or a scikit-learn Pipeline of them and
        the usual scalers and projections.
    path : path
        Where to.
    backbone : {"weights", "digest"}, default="weights"
        What to keep of a torchvision network that is not trained: its
        weights, or only its name and a digest of its weights, which makes the
        file small. :func:`load` then takes the weights from torchvision, or
        from a file that it is given.

    Raises
    ------
    TypeError
        If the estimator holds something else than data, as a function or a
        callback; the message names the parameter.
    OSError
        If the file cannot be written; what was there stays.

    See Also
    --------
    load : Load the estimator again.

    Notes
    -----
    Of a network of your own the weights are stored and not the code: give it
    to :func:`load` again. Paths, as of ``cache``, are stored as they are.

    Examples
    --------
    >>> import tempfile, os
    >>> import numpy as np
    >>> import skhash
    >>> hasher = skhash.ITQ(2, random_state=0).fit(np.eye(4))
    >>> path = os.path.join(tempfile.mkdtemp(), "hasher.skhash")
    >>> skhash.save(hasher, path)
    >>> bool((skhash.load(path).transform(np.eye(4)) == hasher.transform(np.eye(4))).all())
    True
    """
    writer = Writer(backbone)
    writer.write(estimator, type(estimator).__name__)
    about = {
        "format": _FORMAT,
        "skhash": skhash.__version__,
        "versions": {name: metadata.version(name) for name in _libraries(writer)},
        "estimator": type(estimator).__name__,
        "input": _input(estimator),
        "nodes": writer.nodes,
    }
    text = json.dumps(about, separators=(",", ":"))

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for place, array in enumerate(writer.arrays):
                _write_array(archive, file.tell(), _member(place), array)
            archive.writestr(_MODEL, text)

    write_checked(path, write)


def load(
    path: PathLike,
    *,
    modules: nn.Module | Iterable[nn.Module] | None = None,
    weights: PathLike = "DEFAULT",
) -> Any:
    """Load an estimator that :func:`save` has saved.

    Nothing in the file is executed: it can name classes of a fixed list only,
    and their constructors are not called. Networks are loaded to the CPU,
    wherever they were trained.

    Parameters
    ----------
    path : path
        The file.
    modules : nn.Module or iterable of nn.Module, default=None
        Networks of your own that the estimator holds, given again; each is
        copied, and the copy gets the weights of the file.
    weights : "DEFAULT" or path, default="DEFAULT"
        Weights of a backbone that was saved with ``backbone="digest"``:
        "DEFAULT" downloads those of torchvision, a path names a state dict.

    Returns
    -------
    estimator
        As it was saved.

    Raises
    ------
    ValueError
        If the file is damaged, no file of :func:`save`, or from a newer
        release, names what is not allowed, or needs other networks or weights
        than are given. The message begins with the path.
    OSError
        If it cannot be read.

    See Also
    --------
    save : Save an estimator.
    """
    try:
        content = read_checked(path)
    except ValueError as error:
        raise ValueError(f"{error} Save the estimator again, or copy the file anew.") from error
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(content) as archive:
            about = json.loads(archive.read(_MODEL))
            if about["format"] > _FORMAT:
                raise ValueError(
                    f"it was saved by skhash {about['skhash']} in format {about['format']}, and "
                    f"this is skhash {skhash.__version__}, which reads up to format {_FORMAT}; "
                    "upgrade scikit-hash, or save it again with this release"
                )

            def array(place: int) -> NDArray[Any]:
                return _read_array(content, archive.getinfo(_member(place)))

            return Reader(array, _listed(modules), weights).read(about["nodes"])
    except (ValueError, OSError, ImportError) as error:
        kind = next(k for k in (ValueError, OSError, ImportError) if isinstance(error, k))
        text = str(error).rstrip(".")
        raise kind(f"{name} cannot be loaded: {text}.") from error
    except Exception as error:  # what no release wrote may make sense of any kind
        raise ValueError(
            f"{name} is no file of skhash.save, or makes no sense ({error!r}): save the estimator "
            "again."
        ) from error


def _member(place: int) -> str:
    return f"arr_{place}.npy"


def _write_array(
    archive: zipfile.ZipFile, position: int, name: str, array: NDArray[np.generic]
) -> None:
    """Add an array to an archive, its data at a multiple of the alignment."""
    info = zipfile.ZipInfo(name)
    # Before the data of a member come its header, its name and what is extra: this padding, under
    # the number that Android's zipalign uses, and sizes of 64 bits.
    start = position + _LOCAL_HEADER.size + len(name) + _PADDING.size + _ZIP64_SIZE
    n_bytes = -start % _ALIGNMENT
    info.extra = _PADDING.pack(0xD935, n_bytes) + bytes(n_bytes)
    with archive.open(info, "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _read_array(content: io.BytesIO, info: zipfile.ZipInfo) -> NDArray[Any]:
    """An array of an archive, as a part of its contents."""
    data = content.getbuffer()
    *_, n_name, n_extra = _LOCAL_HEADER.unpack_from(data, info.header_offset)
    start = info.header_offset + _LOCAL_HEADER.size + n_name + n_extra
    member = data[start : start + info.file_size]
    header = io.BytesIO(member[:_LONGEST_HEADER])
    version = np.lib.format.read_magic(header)
    if info.compress_type != zipfile.ZIP_STORED or version not in _HEADERS:
        raise ValueError(f"its member {info.filename} is in another format")
    shape, by_columns, dtype = _HEADERS[version](header)
    if dtype.hasobject:
        raise ValueError(f"its member {info.filename} holds Python objects")
    array = np.frombuffer(member, dtype, math.prod(shape), header.tell())
    return np.require(array.reshape(shape, order="F" if by_columns else "C"), requirements="A")


def _listed(modules: Any) -> list[Any]:
    return [] if modules is None else list(modules) if _is_many(modules) else [modules]


def _is_many(modules: Any) -> bool:
    # A network may be iterable itself, as nn.Sequential is.
    return isinstance(modules, Iterable) and not hasattr(modules, "state_dict")


def _libraries(writer: Writer) -> tuple[str, ...]:
    networks = any({"module", "backbone", "given"} & node.keys() for node in writer.nodes)
    return (*_NEEDED, *_NETWORKS) if networks else _NEEDED


def _input(estimator: Any) -> str:
    """What kind of samples an estimator takes."""
    if hasattr(estimator, "steps"):
        return _input(estimator.steps[0][1])
    for name in ("estimator_", "estimator", "hasher_"):
        if getattr(estimator, name, None) is not None:
            return _input(getattr(estimator, name))
    name = type(estimator).__name__
    if name in _INPUTS or not hasattr(estimator, "backbone"):
        return _INPUTS.get(name, "features")
    backbone = getattr(estimator, "backbone_", estimator.backbone)
    if isinstance(backbone, str) and backbone == "auto":
        return "features or images"
    return "features" if backbone is None else "images"
