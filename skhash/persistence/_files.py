"""save and load: files of estimators.

A file is a zip archive as written by ``numpy.savez``, followed by a digest of its bytes. Its member
``model.json`` describes the estimator, see :mod:`skhash.persistence._objects`. The other members
are the arrays. Their data begin at multiples of 64 bytes and are used without a copy.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

import skhash

from .._files import PathLike, read_checked, write_checked
from .._sklearn import StrOptions, validate_params
from ._objects import PLAIN, Reader, Writer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["array_of", "load", "save"]

# Version of the layout of files, and of the meaning of the attributes of estimators. Increase it if
# an older release would misread a file.
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

    The file holds only data: parameters, and what was learned. An existing
    file is replaced when the new one is complete.

    Parameters
    ----------
    estimator : estimator
        An estimator of skhash, fitted or not, or a scikit-learn Pipeline of
        these and of the usual scalers and projections.
    path : path
        Where to write.
    backbone : {"weights", "digest"}, default="weights"
        What to store of a torchvision network that is not trained: its
        weights, or only its name and a digest of its weights, which makes the
        file small. :func:`load` then gets the weights from torchvision, or
        from a given file.

    Raises
    ------
    TypeError
        If the estimator holds something other than data, such as a function or
        a callback; the message names the parameter.
    OSError
        If the file cannot be written; an existing file stays.

    See Also
    --------
    load : Load the estimator again.

    Notes
    -----
    Of a network of your own only the weights are stored, not the code: give
    the network to :func:`load`. Paths, such as ``cache``, are stored
    unchanged.

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
    """Load an estimator from a file of :func:`save`.

    Nothing in the file is executed: it can name only classes of a fixed list,
    and their constructors are not called. Networks are loaded to the CPU, even
    if they were trained on another device.

    Parameters
    ----------
    path : path
        The file.
    modules : nn.Module or iterable of nn.Module, default=None
        Networks of your own that the estimator contains. Each is copied, and
        the copy gets the weights of the file.
    weights : "DEFAULT" or path, default="DEFAULT"
        Weights of a backbone that was saved with ``backbone="digest"``:
        "DEFAULT" downloads the weights of torchvision; a path names a state
        dict.

    Returns
    -------
    estimator
        The estimator as it was saved.

    Raises
    ------
    ValueError
        If the file is damaged, not from :func:`save` or from a newer release,
        names classes that are not allowed, or needs other networks or weights
        than those given. The message begins with the path.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : Save an estimator.
    """
    try:
        content = read_checked(path)
    except ValueError as error:
        raise ValueError(f"{error} Save the estimator again, or copy the file again.") from error
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(content) as archive:
            about = json.loads(bytes(_stored(content, archive.getinfo(_MODEL))))
            if about["format"] > _FORMAT:
                raise ValueError(
                    f"it was saved by skhash {about['skhash']} in format {about['format']}, but "
                    f"this skhash {skhash.__version__} reads up to format {_FORMAT}; "
                    "upgrade scikit-hash, or save it again with this release"
                )

            def array(place: int) -> NDArray[Any]:
                name = _member(place)
                return array_of(_stored(content, archive.getinfo(name)), f"its member {name}")

            return Reader(array, _listed(modules), weights).read(about["nodes"])
    except (ValueError, OSError, ImportError) as error:
        kind = next(k for k in (ValueError, OSError, ImportError) if isinstance(error, k))
        text = str(error).rstrip(".")
        raise kind(f"{name} cannot be loaded: {text}.") from error
    except Exception as error:  # files that no release wrote can cause any error
        raise ValueError(
            f"{name} is not a valid file of skhash.save ({error!r}): save the estimator again."
        ) from error


@dataclass(frozen=True)
class Description:
    """A summary of an estimator, without its contents.

    Attributes
    ----------
    digest : str
        Differs if files of :func:`save` would differ in more than the versions in them.
    input : str
        Kind of its samples: "images", "features", ...
    given : str or None
        A network of the user, which must be given to :func:`load`.
    """

    digest: str
    input: str
    given: str | None


def describe(estimator: Any) -> Description:
    """Describe an estimator.

    Raises
    ------
    TypeError
        If it cannot be saved.
    """
    writer = Writer("weights")
    writer.write(estimator, type(estimator).__name__)
    digest = hashlib.sha256(json.dumps(writer.nodes).encode())
    for array in writer.arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    given = next((node["given"] for node in writer.nodes if "given" in node), None)
    return Description(digest.hexdigest(), _input(estimator), given)


def _member(place: int) -> str:
    return f"arr_{place}.npy"


def _write_array(
    archive: zipfile.ZipFile, position: int, name: str, array: NDArray[np.generic]
) -> None:
    """Add an array to an archive, its data at a multiple of the alignment."""
    info = zipfile.ZipInfo(name)
    # The data of a member follow its header, its name and its extra fields: this padding, under the
    # number that Android's zipalign uses, and 64-bit sizes.
    start = position + _LOCAL_HEADER.size + len(name) + _PADDING.size + _ZIP64_SIZE
    n_bytes = -start % _ALIGNMENT
    info.extra = _PADDING.pack(0xD935, n_bytes) + bytes(n_bytes)
    with archive.open(info, "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _stored(content: io.BytesIO, info: zipfile.ZipInfo) -> memoryview:
    """A member of an archive, as a part of its contents.

    A compressed one is refused: it may be a thousand times as large as the file.
    """
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its member {info.filename} is compressed, which skhash.save never does")
    data = content.getbuffer()
    *_, n_name, n_extra = _LOCAL_HEADER.unpack_from(data, info.header_offset)
    start = info.header_offset + _LOCAL_HEADER.size + n_name + n_extra
    return data[start : start + info.file_size]


def array_of(content: memoryview, name: str) -> NDArray[Any]:
    """The array of a .npy file, as a part of its contents; no memory is needed for it.

    Raises
    ------
    Exception
        Of any kind, if the file is of another kind or damaged.
    """
    header = io.BytesIO(content[:_LONGEST_HEADER])
    version = np.lib.format.read_magic(header)
    if version not in _HEADERS:
        raise ValueError(f"{name} is in another format")
    shape, by_columns, dtype = _HEADERS[version](header)
    if dtype.kind not in PLAIN:
        raise ValueError(f"{name} holds something else than numbers or text")
    array = np.frombuffer(content, dtype, math.prod(shape), header.tell())
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
    """The kind of samples of an estimator."""
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
