"""HammingNeighbors: scikit-learn's NearestNeighbors for binary codes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import gen_even_slices
from sklearn.utils.validation import check_is_fitted, validate_data

from .._files import PathLike
from .._parameters import ParametersMixin
from .._sklearn import Interval, StrOptions, fit_context
from ..codes import check_codes, pack, unpack
from ._backends import Backend, Distances, Indices, make_backend
from ._files import read_bytes, write_bytes

# Fewer queries than this are not worth a thread of their own.
_QUERIES_PER_THREAD = 16


class HammingNeighbors(ParametersMixin, BaseEstimator):
    """Exact search for the nearest binary codes, with the interface of NearestNeighbors.

    The answers are those of :class:`sklearn.neighbors.NearestNeighbors` with
    ``metric="hamming", algorithm="brute"``, except that distances are whole
    numbers of bits and that equal distances come in the order of the
    database, whatever the backend.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbors that :meth:`kneighbors` returns.
    radius : float, default=2
        Hamming distance, in bits, up to which (inclusive)
        :meth:`radius_neighbors` returns neighbors.
    backend : {"auto", "numpy", "faiss"}, default="auto"
        What computes. All return the same. faiss is faster, most of all for
        long codes; it comes with ``pip install "scikit-hash[faiss]"`` and
        keeps a second copy of the packed codes. "auto" takes it if it is
        installed and there are at least 16,384 codes, not memory-mapped.
    packed : bool, default=False
        Whether codes are given as bytes, as :func:`skhash.codes.pack` makes
        them, or else as arrays of 0 and 1 with one column per bit.
    n_bits : int, default=None
        Length of the codes. None means the number of columns, or eight times
        that if ``packed``. It is needed only for packed codes whose last byte
        is partly filled, to have that checked.
    n_jobs : int, default=None
        Number of threads that share the queries of a call. None means 1
        unless in a :func:`joblib.parallel_config` context, -1 all processors.

    Attributes
    ----------
    packed_codes_ : ndarray of shape (n_samples_fit_, ceil(n_bits_ / 8)), uint8
        The database, packed.
    n_bits_ : int
        Length of the codes in bits.
    n_samples_fit_ : int
        Number of codes in the database.
    backend_ : {"numpy", "faiss"}
        The backend in use.
    n_features_in_ : int
        Number of columns seen in fit: bits, or bytes if ``packed``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, if all were strings.

    See Also
    --------
    skhash.codes.hamming_distances : All distances between two sets of codes.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import HammingNeighbors
    >>> codes = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
    >>> neighbors = HammingNeighbors(n_neighbors=2).fit(codes)
    >>> distances, indices = neighbors.kneighbors([[1, 1, 1, 0]])
    >>> distances
    array([[1, 1]], dtype=int32)
    >>> indices
    array([[1, 3]])
    >>> neighbors.kneighbors(return_distance=False)  # of each code among the others
    array([[2, 1],
           [2, 0],
           [0, 1],
           [1, 2]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="left")],
        "backend": [StrOptions({"auto", "numpy", "faiss"})],
        "packed": ["boolean"],
        "n_bits": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
    }

    _backend: Backend

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        radius: float = 2,
        backend: Literal["auto", "numpy", "faiss"] = "auto",
        packed: bool = False,
        n_bits: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.backend = backend
        self.packed = packed
        self.n_bits = n_bits
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Take codes as the database.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_bits) or (n_samples, n_bytes)
            Values 0 and 1 of any numeric or boolean dtype; if ``packed``,
            bytes of dtype uint8, which are not copied: do not change them
            afterwards.
        y : None
            Ignored; here for the interface. Names of the samples, such as
            paths, are told by being all different, and bring a warning: the
            search knows samples by their rows.

        Returns
        -------
        self : HammingNeighbors
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X holds no codes, or does not agree with ``n_bits``.
        ImportError
            If ``backend="faiss"`` and faiss cannot be imported.
        """
        self.packed_codes_ = self._validate_codes(X, reset=True)
        if _are_names(y, len(self.packed_codes_)):
            warnings.warn(
                "y is ignored: HammingNeighbors answers with row numbers. Keep the names beside "
                "it, and look them up: `np.asarray(names)[indices]`.",
                UserWarning,
                stacklevel=3,  # of the wrapper that checks parameters
            )
        self.n_samples_fit_ = len(self.packed_codes_)
        self._open_backend()
        return self

    def kneighbors(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> tuple[Distances, Indices] | Indices:
        """Find the nearest codes.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes), default=None
            Query codes, in the form of those of fit. None means every code of
            the database, itself not counted among its neighbors.
        n_neighbors : int, default=None
            How many; None means the estimator's parameter.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), int32
            Hamming distances in bits, ascending; only if ``return_distance``.
        indices : ndarray of shape (n_queries, n_neighbors), intp
            Row numbers in the database; equal distances in ascending order.

        Raises
        ------
        ValueError
            If ``n_neighbors`` exceeds the number of codes (without the query
            itself), or X does not fit the database.
        """
        distances, indices = self._nearest(X, n_neighbors)
        return (distances, indices) if return_distance else indices

    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]] | NDArray[np.object_]:
        """Find all codes within a distance.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes), default=None
            Query codes, in the form of those of fit. None means every code of
            the database, itself not counted among its neighbors.
        radius : float, default=None
            Hamming distance in bits, inclusive; None means the estimator's
            parameter.
        return_distance : bool, default=True
            Whether to return the distances too.
        sort_results : bool, default=False
            Whether the neighbors of a query are in the order of distance
            (equal ones in the order of the database) instead of that of the
            database alone.

        Returns
        -------
        distances : ndarray of shape (n_queries,) of arrays, int32
            Hamming distances in bits; only if ``return_distance``.
        indices : ndarray of shape (n_queries,) of arrays, intp
            Row numbers in the database.

        Raises
        ------
        ValueError
            If ``radius`` is negative, or X does not fit the database.
        """
        indptr, distances, indices = self._within(X, radius, sort_results)
        if return_distance:
            return _split(distances, indptr), _split(indices, indptr)
        return _split(indices, indptr)

    def kneighbors_graph(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        mode: Literal["connectivity", "distance"] = "connectivity",
    ) -> sp.csr_array:
        """Graph of the nearest codes.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes), default=None
            Query codes, in the form of those of fit. None means every code of
            the database, itself not counted among its neighbors.
        n_neighbors : int, default=None
            How many; None means the estimator's parameter.
        mode : {"connectivity", "distance"}, default="connectivity"
            Whether the entries are 1 or the distances in bits.

        Returns
        -------
        csr_array of shape (n_queries, n_samples_fit_), float64
            One stored entry per neighbor, nearest first in each row, a
            distance of 0 stored like any other.
        """
        _check_mode(mode)
        distances, indices = self._nearest(X, n_neighbors)
        indptr = np.arange(len(indices) + 1) * indices.shape[1]
        return self._graph(indptr, distances.ravel(), indices.ravel(), mode)

    def radius_neighbors_graph(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        mode: Literal["connectivity", "distance"] = "connectivity",
        sort_results: bool = False,
    ) -> sp.csr_array:
        """Graph of all codes within a distance.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes), default=None
            Query codes, in the form of those of fit. None means every code of
            the database, itself not counted among its neighbors.
        radius : float, default=None
            Hamming distance in bits, inclusive; None means the estimator's
            parameter.
        mode : {"connectivity", "distance"}, default="connectivity"
            Whether the entries are 1 or the distances in bits.
        sort_results : bool, default=False
            Whether the entries of a row are in the order of distance instead
            of that of the database.

        Returns
        -------
        csr_array of shape (n_queries, n_samples_fit_), float64
            One stored entry per neighbor, a distance of 0 stored like any
            other.
        """
        _check_mode(mode)
        return self._graph(*self._within(X, radius, sort_results), mode)

    def save(self, path: PathLike) -> None:
        """Write the estimator and its database to one file, without pickle.

        A file already there is replaced only when the new one is complete: an
        interrupted save leaves it as it was.

        Parameters
        ----------
        path : str or path-like
            Where to write.

        See Also
        --------
        load : The inverse.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        header = {
            # Numbers may be numpy's, which JSON does not know.
            "params": {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in self.get_params(deep=False).items()
            },
            "n_bits": self.n_bits_,
            "n_samples": self.n_samples_fit_,
            "feature_names": None if names is None else list(names),
        }
        write_bytes(path, header, self.packed_codes_)

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        mmap_mode: Literal["r"] | None = None,
        backend: Literal["auto", "numpy", "faiss"] | None = None,
    ) -> Self:
        """Read an estimator that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.
        mmap_mode : {"r"}, default=None
            "r" leaves the codes on the disk, memory-mapped, to be read as
            searches need them. The file must then stay where it is (saving to
            its path again is safe, except on Windows).
        backend : {"auto", "numpy", "faiss"}, default=None
            Another backend than that of the saved estimator.

        Returns
        -------
        HammingNeighbors
            The fitted estimator.

        Raises
        ------
        ValueError
            If the file is of another kind, truncated or corrupt.
        ImportError
            If the backend is "faiss" and faiss cannot be imported.
        """
        if mmap_mode not in (None, "r"):
            raise ValueError(f'mmap_mode must be None or "r", got {mmap_mode!r}.')
        header, payload = read_bytes(path, mmap_mode=mmap_mode)
        try:
            estimator = cls._from_header(header, payload)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} has a header that does not make sense: {error}") from error
        if backend is not None:
            estimator.set_params(backend=backend)._validate_params()
        estimator._open_backend()
        return estimator

    @classmethod
    def _from_header(cls, header: dict[str, Any], payload: NDArray[np.uint8]) -> Self:
        """Put together what :meth:`save` wrote, taking nothing for granted."""
        estimator = cls(**header["params"])
        estimator._validate_params()
        n_samples, n_bits, names = (header[key] for key in ("n_samples", "n_bits", "feature_names"))
        for key, value in {"n_samples": n_samples, "n_bits": n_bits}.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{key} must be a whole number of at least 1.")
        n_bytes = -(-n_bits // 8)
        if n_samples * n_bytes != len(payload):
            raise ValueError(f"{len(payload)} bytes do not hold so many codes of so many bits.")
        if estimator.n_bits not in (None, n_bits):
            raise ValueError("n_bits differs between the parameters and the codes.")
        estimator.n_bits_, estimator.n_samples_fit_ = n_bits, n_samples
        estimator.packed_codes_ = payload.reshape(n_samples, n_bytes)
        estimator._check_unused_bits(estimator.packed_codes_, "the array")
        estimator.n_features_in_ = n_bytes if estimator.packed else n_bits
        if names is not None:
            if len(names) != estimator.n_features_in_ or not all(type(n) is str for n in names):
                raise ValueError("feature_names must have a str for each column.")
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        return estimator

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "packed_codes_")

    def __getstate__(self) -> dict[str, Any]:
        # An index of faiss cannot be pickled, and is made again in no time.
        state = super().__getstate__().copy()
        state.pop("_backend", None)
        return state

    def _open_backend(self) -> Backend:
        self._backend = make_backend(self.packed_codes_, self.backend)
        self.backend_ = self._backend.name
        return self._backend

    def _validate_codes(self, X: Any, *, reset: bool) -> NDArray[np.uint8]:
        """Validate codes in the form that the parameters say, and pack them."""
        X = validate_data(self, X, order="C", ensure_min_samples=0, reset=reset)
        if len(X) == 0:
            raise ValueError(f"X has 0 samples (shape {X.shape}); give at least one code.")
        n_columns = X.shape[1]
        if not self.packed:
            if reset:
                self.n_bits_ = n_columns if self.n_bits is None else int(self.n_bits)
                if self.n_bits_ != n_columns:
                    raise ValueError(f"X has {n_columns} columns where n_bits={self.n_bits}.")
            return pack(check_codes(X, name="X"))
        if X.dtype != np.uint8:
            raise TypeError(f"X must be packed codes of dtype uint8 (packed=True), got {X.dtype}.")
        if reset:
            self.n_bits_ = 8 * n_columns if self.n_bits is None else int(self.n_bits)
            if -(-self.n_bits_ // 8) != n_columns:
                raise ValueError(
                    f"X has {n_columns} bytes a code, but codes of n_bits={self.n_bits} "
                    f"have {-(-self.n_bits_ // 8)}."
                )
        self._check_unused_bits(X, "X")
        return X

    def _check_unused_bits(self, packed: NDArray[np.uint8], name: str) -> None:
        n_unused = 8 * packed.shape[1] - self.n_bits_
        if n_unused and unpack(packed[:, -1:], 8)[:, 8 - n_unused :].any():
            raise ValueError(
                f"{name} has bits set beyond the first n_bits={self.n_bits_} of a code; "
                "pack() leaves 0."
            )

    def _check_n_neighbors(self, n_neighbors: int | None, limit: int) -> int:
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral) or isinstance(k, bool):
            raise TypeError(f"n_neighbors must be an integer, got {k!r}.")
        if not 1 <= k <= limit:
            raise ValueError(
                f"n_neighbors must be between 1 and {limit}, got {k}: the database has "
                f"{self.n_samples_fit_} codes, and a query from it does not count itself."
            )
        return int(k)

    def _check_radius(self, radius: float | None) -> int:
        r = self.radius if radius is None else radius
        if not isinstance(r, Real) or isinstance(r, bool):
            raise TypeError(f"radius must be a number, got {r!r}.")
        if not r >= 0:
            raise ValueError(f"radius must be a Hamming distance of at least 0, got {r}.")
        return int(min(r, self.n_bits_))

    def _nearest(self, X: ArrayLike | None, n_neighbors: int | None) -> tuple[Distances, Indices]:
        check_is_fitted(self)
        queries = self.packed_codes_ if X is None else self._validate_codes(X, reset=False)
        k = self._check_n_neighbors(n_neighbors, self.n_samples_fit_ - (X is None))
        parts = self._in_threads(
            lambda backend, part: backend.kneighbors(part, k + (X is None)), queries
        )
        distances, indices = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if X is None:
            itself = indices == np.arange(len(queries))[:, None]
            # Not among the nearest k + 1: so many codes before it equal it. Drop the last instead.
            itself[:, -1] |= ~itself.any(axis=1)
            distances, indices = (a[~itself].reshape(-1, k) for a in (distances, indices))
        return distances, indices

    def _within(
        self, X: ArrayLike | None, radius: float | None, sort_results: bool
    ) -> tuple[NDArray[np.intp], Distances, Indices]:
        """Neighbors within a radius as the parts of a CSR matrix."""
        check_is_fitted(self)
        queries = self.packed_codes_ if X is None else self._validate_codes(X, reset=False)
        r = self._check_radius(radius)
        parts = self._in_threads(lambda backend, part: backend.radius_neighbors(part, r), queries)
        indptrs, distances_, indices_ = zip(*parts, strict=True)
        counts = np.concatenate([np.diff(indptr) for indptr in indptrs])
        distances, indices = np.concatenate(distances_), np.concatenate(indices_)
        rows = np.repeat(np.arange(len(queries)), counts)
        if X is None:
            others = rows != indices
            rows, distances, indices = rows[others], distances[others], indices[others]
            counts -= 1
        if sort_results:
            order = np.lexsort((distances, rows))  # stable
            distances, indices = distances[order], indices[order]
        return np.concatenate([[0], np.cumsum(counts)]), distances, indices

    def _in_threads(
        self, search: Callable[[Backend, NDArray[np.uint8]], Any], queries: NDArray[np.uint8]
    ) -> list[Any]:
        """Results of a search for consecutive parts of the queries, one per thread."""
        backend = self._backend if hasattr(self, "_backend") else self._open_backend()
        n_threads = min(effective_n_jobs(self.n_jobs), -(-len(queries) // _QUERIES_PER_THREAD))
        if n_threads == 1:
            return [search(backend, queries)]
        parts = gen_even_slices(len(queries), n_threads)
        return Parallel(n_threads, require="sharedmem")(
            delayed(search)(backend, queries[part]) for part in parts
        )

    def _graph(
        self, indptr: NDArray[np.intp], distances: Distances, indices: Indices, mode: str
    ) -> sp.csr_array:
        data = np.ones(len(indices)) if mode == "connectivity" else distances.astype(np.float64)
        return sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, self.n_samples_fit_))


def _are_names(y: Any, n_samples: int) -> bool:
    """Whether ``y`` has a name for each sample, all different, rather than tags or classes."""
    if isinstance(y, str) or not hasattr(y, "__len__") or getattr(y, "ndim", 1) != 1:
        return False
    if len(y) != n_samples or not all(isinstance(name, str | os.PathLike) for name in y):
        return False
    return len({os.fspath(name) for name in y}) == n_samples > 1


def _check_mode(mode: str) -> None:
    if mode not in ("connectivity", "distance"):
        raise ValueError(f'mode must be "connectivity" or "distance", got {mode!r}.')


def _split(values: NDArray[Any], indptr: NDArray[np.intp]) -> NDArray[np.object_]:
    """One array per query, in an array of objects as scikit-learn has it."""
    parts = np.empty(len(indptr) - 1, dtype=object)
    for i, (start, stop) in enumerate(pairwise(indptr)):
        parts[i] = values[start:stop]
    return parts
