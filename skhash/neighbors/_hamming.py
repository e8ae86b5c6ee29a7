"""HammingNeighbors: scikit-learn's NearestNeighbors for binary codes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, overload

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
from ._backends import N_PROBES, Distances, Indices, Packed
from ._ids import Ids, check_ids
from ._memory import MemoryStore, View
from ._saving import add_to_folder, read_index, write_index
from ._store import IsStore, Store, StoreView, check_store
from ._urls import is_url, open_store

# Fewer queries than this are not worth another thread.
_QUERIES_PER_THREAD = 16


class HammingNeighbors(ParametersMixin, BaseEstimator):
    """Search for the nearest binary codes, with the interface of NearestNeighbors.

    The results are those of :class:`sklearn.neighbors.NearestNeighbors` with
    ``metric="hamming", algorithm="brute"``, with two differences. Distances
    are whole numbers of bits, and codes at equal distances are in the order of
    the database, for every backend. Only approximate backends may miss some of
    the nearest codes.

    The database can change: :meth:`partial_fit` adds codes at its end, and
    :meth:`remove` removes codes by their ids. Afterwards the results are those
    of a fit on the current codes in their order. Threads may search one
    estimator at the same time, even while another thread adds or removes
    codes: each search sees the database either before or after a change.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbors that :meth:`kneighbors` returns.
    radius : float, default=2
        Hamming distance, in bits, up to which (inclusive)
        :meth:`radius_neighbors` returns neighbors.
    backend : {"auto", "numpy", "faiss", "ivf"}, store or URL, default="auto"
        Search method. "numpy" and "faiss" return the same results. "faiss" is
        faster, most of all for long codes. It needs
        ``pip install "scikit-hash[faiss]"``, and keeps a second copy of codes
        that do not have 64, 128, 256 or 512 bits. "auto" uses faiss if it is
        installed and there are at least 16,384 codes that are not
        memory-mapped. "ivf" is approximate: faiss groups at least 16,384 codes
        into clusters, and a query is compared with the codes of the
        ``n_probes`` nearest clusters. Its searches within a radius are exact.
        A :class:`~skhash.neighbors.Store` also keeps the codes, in this
        process or elsewhere: ``fit`` replaces its codes, ``partial_fit`` adds
        to them. A URL, such as "postgresql://host/database?table=codes" or
        "duckdb:///file", is opened by :func:`~skhash.neighbors.open_store`; it
        must not contain a password.
    n_probes : int, default=32
        Number of clusters that "ivf" searches. More clusters find more of the
        nearest codes, but take longer. Other backends ignore it.
    packed : bool, default=False
        Whether codes are packed bytes, as returned by
        :func:`skhash.codes.pack`. Otherwise they are arrays of 0 and 1 with
        one column per bit.
    n_bits : int, default=None
        Length of the codes in bits. None means the number of columns, or eight
        times as many if ``packed``. It is needed only to check packed codes
        whose last byte has unused bits.
    n_jobs : int, default=None
        Number of threads that share the queries of a call. None means 1 unless
        in a :func:`joblib.parallel_config` context; -1 means all processors.

    Attributes
    ----------
    packed_codes_ : ndarray of shape (n_samples_fit_, ceil(n_bits_ / 8)), uint8
        The database, packed.
    ids_ : ndarray of shape (n_samples_fit_,), int64 or object with str
        Ids of the codes, in the order of the database.
    n_bits_ : int
        Length of the codes in bits.
    n_samples_fit_ : int
        Number of codes in the database.
    backend_ : {"numpy", "faiss", "ivf"} or store
        The backend in use.
    exact_ : bool
        Whether :meth:`kneighbors` is exact.
    n_features_in_ : int
        Number of columns seen in fit: bits, or bytes if ``packed``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit, if all were strings.

    See Also
    --------
    skhash.codes.hamming_distances : All distances between two sets of codes.
    skhash.neighbors.Store : The interface of an object given as ``backend``.

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

    With ids, codes can be added and removed:

    >>> neighbors = HammingNeighbors(n_neighbors=2).fit(codes, ids=["a", "b", "c", "d"])
    >>> neighbors.predict([[1, 1, 1, 0]])
    array([['b', 'd']], dtype=object)
    >>> neighbors.remove(["b"]).partial_fit([[1, 1, 1, 0]], ids=["e"])
    HammingNeighbors(n_neighbors=2)
    >>> neighbors.predict([[1, 1, 1, 0]])
    array([['e', 'd']], dtype=object)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="left")],
        "backend": [StrOptions({"auto", "numpy", "faiss", "ivf"}), IsStore()],
        "n_probes": [Interval(Integral, 1, None, closed="left")],
        "packed": ["boolean"],
        "n_bits": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
    }

    _store: Store

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        radius: float = 2,
        backend: Literal["auto", "numpy", "faiss", "ivf"] | Store | str = "auto",
        n_probes: int = N_PROBES,
        packed: bool = False,
        n_bits: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.backend = backend
        self.n_probes = n_probes
        self.packed = packed
        self.n_bits = n_bits
        self.n_jobs = n_jobs

    @property
    def packed_codes_(self) -> Packed:
        """The database, packed."""
        return self._view().codes

    @property
    def ids_(self) -> Ids:
        """Ids of the codes, in the order of the database."""
        return self._view().ids

    @property
    def n_samples_fit_(self) -> int:
        """Number of codes in the database."""
        return len(self._view())

    @property
    def backend_(self) -> str | Store:
        """The backend in use."""
        return self._view().backend

    @property
    def exact_(self) -> bool:
        """Whether kneighbors is exact."""
        self._view()  # raises an error if not fitted
        return getattr(self._store, "exact", True)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None, *, ids: Any = None) -> Self:
        """Use codes as the database.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_bits) or (n_samples, n_bytes)
            Values 0 and 1 of any numeric or boolean dtype; if ``packed``,
            bytes of dtype uint8, which are not copied: do not change them
            afterwards.
        y : None
            Ignored, present for API consistency. If all its values are
            different they are probably names of the samples: a warning asks to
            give them as ``ids``.
        ids : sequence of int or of str of shape (n_samples,), default=None
            An id for each code, such as the path of its photo, all different.
            None means the row numbers.

        Returns
        -------
        self : HammingNeighbors
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X is not an array of codes, or their length is not ``n_bits``;
            if ids are not all different, not of one type, or not as many as X
            has rows. The estimator stays as it was.
        ImportError
            If the backend needs a library that cannot be imported.
        """
        _warn_of_names(y)
        before = self.__dict__.copy()
        try:
            packed = self._validate_codes(X, reset=True)
            if ids is not None:
                ids = check_ids(ids, n_samples=len(packed))
            store = self._new_store()
            store.replace(ids, packed, self.n_bits_)
        except BaseException:
            self.__dict__ = before
            raise
        self._store = store
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: Any = None, *, ids: Any = None) -> Self:
        """Add codes at the end of the database, or of the store given as ``backend``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_bits) or (n_samples, n_bytes)
            Codes in the same form as in fit.
        y : None
            Ignored, see :meth:`fit`.
        ids : sequence of int or of str of shape (n_samples,), default=None
            An id for each code, of the same type as the ids in the database
            and not among them. None means the numbers after the largest id
            that the database ever had; it is not possible if ids are str.

        Returns
        -------
        self : HammingNeighbors
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X is not an array of codes, or their length is not that of the
            database; if an id is already in the database; if ids are not all
            different, not of one type, or not as many as X has rows. The
            database stays as it was.
        """
        if not self.__sklearn_is_fitted__():
            store = self._new_store()
            if store.n_bits is None:
                return self.fit(X, y, ids=ids)
            self._adopt(store)
        _warn_of_names(y)
        packed = self._validate_codes(X, reset=False)
        if ids is not None:
            ids = check_ids(ids, n_samples=len(packed))
        self._store.add(ids, packed, self.n_bits_)
        return self

    def remove(self, ids: Any) -> Self:
        """Remove codes from the database; the others keep their order.

        Parameters
        ----------
        ids : sequence of int or of str
            Ids of codes in the database, all different.

        Returns
        -------
        self : HammingNeighbors
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If an id is not in the database, or occurs twice. The database
            stays as it was.
        """
        check_is_fitted(self)
        self._store.remove(check_ids(ids))
        return self

    def positions(self, ids: Any) -> Indices:
        """Positions of codes in the database.

        Parameters
        ----------
        ids : sequence of int or of str
            Ids of any codes; they may repeat.

        Returns
        -------
        ndarray of shape (n_ids,), intp
            Row numbers in the database, -1 for an id that is not there.

        Raises
        ------
        ValueError, TypeError
            If ids are not of one type.

        Examples
        --------
        >>> from skhash import HammingNeighbors
        >>> neighbors = HammingNeighbors().fit([[0, 1], [1, 1]], ids=["a", "b"])
        >>> neighbors.positions(["b", "c"])
        array([ 1, -1])
        """
        check_is_fitted(self)
        ids = check_ids(ids, unique=False)
        store = self._store
        return (store if isinstance(store, MemoryStore) else StoreView(store)).positions(ids)

    @classmethod
    def from_store(cls, store: Store | str, **params: Any) -> Self:
        """Search the codes that are already in a store.

        Parameters
        ----------
        store : Store or str
            A store, or its URL; it must not be empty.
        **params : dict
            Parameters of the constructor, other than ``backend``.

        Returns
        -------
        HammingNeighbors
            The fitted estimator.

        Raises
        ------
        TypeError
            If ``store`` is not a store; the message names the missing methods.
        ValueError
            If the store has no codes yet.
        """
        if not is_url(store):
            check_store(store)
        estimator = cls(backend=store, **params)
        estimator._validate_params()
        estimator._adopt(estimator._new_store())
        return estimator

    @overload
    def kneighbors(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        return_distance: Literal[True] = True,
        *,
        return_ids: bool = False,
    ) -> tuple[Distances, Indices]: ...
    @overload
    def kneighbors(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        *,
        return_distance: Literal[False],
        return_ids: bool = False,
    ) -> Indices: ...
    @overload
    def kneighbors(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
        *,
        return_ids: bool = False,
    ) -> tuple[Distances, Indices] | Indices: ...
    def kneighbors(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
        *,
        return_ids: bool = False,
    ) -> tuple[Distances, Indices] | Indices:
        """Find the nearest codes.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes), default=None
            Query codes, in the same form as in fit. None means every code of
            the database; a code is not its own neighbor.
        n_neighbors : int, default=None
            Number of neighbors; None means the parameter of the estimator.
        return_distance : bool, default=True
            Whether to return the distances too.
        return_ids : bool, default=False
            Whether to return ids instead of row numbers. They are
            ``ids_[indices]``, and correct even if other threads change the
            database. The ids of a store need not all be read.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), int32
            Hamming distances in bits, ascending; only if ``return_distance``.
        indices : ndarray of shape (n_queries, n_neighbors), intp
            Row numbers in the database, or ids if ``return_ids``. Rows at
            equal distances are in ascending order.

        Raises
        ------
        ValueError
            If ``n_neighbors`` exceeds the number of codes (without the query
            itself), or X does not match the database.
        RuntimeError
            If row numbers are asked for, and another program changes the store
            during the search.
        """
        view, distances, found = self._nearest(X, n_neighbors)
        indices = view.ids_of(found) if return_ids else view.positions_of(found)
        return (distances, indices) if return_distance else indices

    @overload
    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        return_distance: Literal[True] = True,
        sort_results: bool = False,
        *,
        return_ids: bool = False,
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]]: ...
    @overload
    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        *,
        return_distance: Literal[False],
        sort_results: bool = False,
        return_ids: bool = False,
    ) -> NDArray[np.object_]: ...
    @overload
    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
        *,
        return_ids: bool = False,
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]] | NDArray[np.object_]: ...
    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
        *,
        return_ids: bool = False,
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]] | NDArray[np.object_]:
        """Find all codes within a distance.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes), default=None
            Query codes, in the same form as in fit. None means every code of
            the database; a code is not its own neighbor.
        radius : float, default=None
            Hamming distance in bits, inclusive; None means the parameter of
            the estimator.
        return_distance : bool, default=True
            Whether to return the distances too.
        sort_results : bool, default=False
            Whether the neighbors of a query are sorted by distance (equal
            distances in the order of the database). Otherwise they are in the
            order of the database.
        return_ids : bool, default=False
            Whether to return ids instead of row numbers; see
            :meth:`kneighbors`.

        Returns
        -------
        distances : ndarray of shape (n_queries,) of arrays, int32
            Hamming distances in bits; only if ``return_distance``.
        indices : ndarray of shape (n_queries,) of arrays, intp
            Row numbers in the database; ids if ``return_ids``.

        Raises
        ------
        ValueError
            If ``radius`` is negative, or X does not match the database.
        """
        view, indptr, distances, found = self._within(X, radius, sort_results)
        indices = view.ids_of(found) if return_ids else view.positions_of(found)
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
            Query codes, in the same form as in fit. None means every code of
            the database; a code is not its own neighbor.
        n_neighbors : int, default=None
            Number of neighbors; None means the parameter of the estimator.
        mode : {"connectivity", "distance"}, default="connectivity"
            Whether the entries are 1 or the distances in bits.

        Returns
        -------
        csr_array of shape (n_queries, n_samples_fit_), float64
            One stored entry per neighbor, nearest first in each row. Distances
            of 0 are stored too.
        """
        _check_mode(mode)
        view, distances, found = self._nearest(X, n_neighbors)
        indptr = np.arange(len(found) + 1) * found.shape[1]
        return _graph(view, indptr, distances.ravel(), found.ravel(), mode)

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
            Query codes, in the same form as in fit. None means every code of
            the database; a code is not its own neighbor.
        radius : float, default=None
            Hamming distance in bits, inclusive; None means the parameter of
            the estimator.
        mode : {"connectivity", "distance"}, default="connectivity"
            Whether the entries are 1 or the distances in bits.
        sort_results : bool, default=False
            Whether the entries of a row are sorted by distance. Otherwise they
            are in the order of the database.

        Returns
        -------
        csr_array of shape (n_queries, n_samples_fit_), float64
            One stored entry per neighbor. Distances of 0 are stored too.
        """
        _check_mode(mode)
        return _graph(*self._within(X, radius, sort_results), mode)

    def predict(self, X: ArrayLike, *, n_neighbors: int | None = None) -> Ids:
        """Ids of the nearest codes.

        At the end of a :class:`~sklearn.pipeline.Pipeline`, this makes
        ``pipeline.predict(photos)`` search with the input of the first step.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_bits) or (n_queries, n_bytes)
            Query codes, in the same form as in fit.
        n_neighbors : int, default=None
            Number of neighbors; None means the parameter of the estimator.

        Returns
        -------
        ndarray of shape (n_queries, n_neighbors), int64 or object with str
            Ids, nearest first; equal distances in the order of the database.

        Raises
        ------
        ValueError
            If ``n_neighbors`` exceeds the number of codes, or X does not match
            the database.

        See Also
        --------
        kneighbors : Distances too, and row numbers.
        """
        view, _, found = self._nearest(X, n_neighbors)
        return view.ids_of(found)

    def save(self, path: PathLike, *, incremental: bool = False) -> None:
        """Write the estimator and its database, without pickle.

        An existing file is replaced only when everything is written: an
        interrupted save leaves it as it was.

        Parameters
        ----------
        path : str or path-like
            Where to write: a file, or a folder if ``incremental``.
        incremental : bool, default=False
            Whether to update a folder by writing only the changes since this
            estimator was last saved there, or loaded from there: added codes,
            and marks of removed codes. From time to time parts of the folder
            are merged, so that there are few. A folder with another database
            is replaced.

        Raises
        ------
        TypeError
            If the codes are in a store that was given as ``backend``.
        ValueError
            If parameters were set that are not valid, or not those of the codes.
        RuntimeError
            If another process saves to the folder at the same time.
        OSError
            If the file or folder cannot be written.

        See Also
        --------
        load : The inverse.
        """
        check_is_fitted(self)
        write = add_to_folder if incremental else write_index
        store, header = self._kept(), self._header()
        self._from_header({**header, "n_bits": self.n_bits_})  # parameters may have been set
        write(path, header, store)

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        mmap_mode: Literal["r"] | None = None,
        backend: Literal["auto", "numpy", "faiss", "ivf"] | None = None,
    ) -> Self:
        """Read an estimator that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file, or the folder of ``save(path, incremental=True)``.
        mmap_mode : {"r"}, default=None
            "r" memory-maps the codes: they stay on the disk and are read when
            searches need them. The file must then stay in its place (saving to
            its path again is safe, except on Windows). Parts from which codes
            were removed, before or later, are read into memory.
        backend : {"auto", "numpy", "faiss", "ivf"}, default=None
            A backend to use instead of the saved one.

        Returns
        -------
        HammingNeighbors
            The fitted estimator.

        Raises
        ------
        ValueError
            If the file is of another kind, truncated or corrupt, or if a file
            of the folder is missing or is not the saved one; the message names
            the file.
        ImportError
            If the backend needs faiss and it cannot be imported.
        """
        if mmap_mode not in (None, "r"):
            raise ValueError(f'mmap_mode must be None or "r", got {mmap_mode!r}.')
        header, contents = read_index(path, mmap_mode=mmap_mode)
        try:
            estimator = cls._from_header(header)
            for array in contents["arrays"]:
                estimator._check_unused_bits(array, "the array")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} has an invalid header: {error}") from error
        if backend is not None:
            estimator.set_params(backend=backend)._validate_params()
        store = MemoryStore(str(estimator.backend), estimator.n_probes)
        store._fill(**contents)
        estimator._store = store
        return estimator

    def _new_store(self) -> Store:
        """Make the store that the parameter ``backend`` names."""
        if not isinstance(self.backend, str):
            return self.backend
        if is_url(self.backend):
            return open_store(self.backend)
        return MemoryStore(self.backend, self.n_probes)

    def _adopt(self, store: Store) -> None:
        """Use the codes of a store as the database."""
        n_bits = store.n_bits
        if n_bits is None:
            raise ValueError("store has no codes yet: use HammingNeighbors(backend=store).fit.")
        if self.n_bits not in (None, n_bits):
            raise ValueError(f"store has codes of {n_bits} bits, but n_bits={self.n_bits}.")
        self.n_bits_ = n_bits
        self.n_features_in_ = -(-n_bits // 8) if self.packed else n_bits
        self._store = store

    def _kept(self) -> MemoryStore:
        """The store, if it can be saved to a file."""
        if isinstance(self._store, MemoryStore) and isinstance(self.backend, str):
            return self._store
        raise TypeError(
            f"the codes are in a store, {type(self._store).__name__}, which keeps them itself: "
            "there is nothing to save. HammingNeighbors.from_store(store) searches them again."
        )

    def _header(self) -> dict[str, Any]:
        """The data of the estimator for a file, without its codes."""
        names = getattr(self, "feature_names_in_", None)
        return {
            # Numbers may be numpy scalars, which JSON cannot hold.
            "params": {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in self.get_params(deep=False).items()
            },
            "feature_names": None if names is None else list(names),
        }

    @classmethod
    def _from_header(cls, header: dict[str, Any]) -> Self:
        """Make an estimator from the result of :meth:`_header`, and check all of it."""
        estimator = cls(**header["params"])
        estimator._validate_params()
        if is_url(estimator.backend):
            raise ValueError("backend must be a name, as the codes are in the file, not a URL.")
        n_bits, names = header["n_bits"], header["feature_names"]
        if estimator.n_bits not in (None, n_bits):
            raise ValueError("n_bits differs between the parameters and the codes.")
        estimator.n_bits_ = n_bits
        estimator.n_features_in_ = -(-n_bits // 8) if estimator.packed else n_bits
        if names is not None:
            if len(names) != estimator.n_features_in_ or not all(type(n) is str for n in names):
                raise ValueError("feature_names must have a str for each column.")
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        return estimator

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_store")

    def __getstate__(self) -> dict[str, Any]:
        # Plain values and arrays, for skhash.save as well.
        state = super().__getstate__().copy()
        store = state.get("_store")
        if isinstance(store, MemoryStore) and store is not self.backend:
            state["_store"] = store.__getstate__()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("_store"), dict):
            store = MemoryStore.__new__(MemoryStore)
            store.__setstate__(state["_store"])
            state = {**state, "_store": store}
        super().__setstate__(state)

    def _view(self) -> View | StoreView:
        """The database as it is now."""
        if not self.__sklearn_is_fitted__():  # no attribute ending in "_" before fit
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: call fit first.")
        return self._store.view if isinstance(self._store, MemoryStore) else StoreView(self._store)

    def _validate_codes(self, X: Any, *, reset: bool) -> NDArray[np.uint8]:
        """Validate codes in the form given by the parameters, and pack them."""
        if reset or not self._is_plain(X):
            X = validate_data(self, X, order="C", ensure_min_samples=0, reset=reset)
        if len(X) == 0:
            raise ValueError(f"X has 0 samples (shape {X.shape}); give at least one code.")
        n_columns = X.shape[1]
        if not self.packed:
            if reset:
                self.n_bits_ = n_columns if self.n_bits is None else int(self.n_bits)
                if self.n_bits_ != n_columns:
                    raise ValueError(f"X has {n_columns} columns, but n_bits={self.n_bits}.")
            return pack(check_codes(X, name="X"))
        if X.dtype != np.uint8:
            raise TypeError(f"X must be packed codes of dtype uint8 (packed=True), got {X.dtype}.")
        if reset:
            self.n_bits_ = 8 * n_columns if self.n_bits is None else int(self.n_bits)
            if -(-self.n_bits_ // 8) != n_columns:
                raise ValueError(
                    f"X has {n_columns} bytes per code, but codes of n_bits={self.n_bits} "
                    f"have {-(-self.n_bits_ // 8)}."
                )
        self._check_unused_bits(X, "X")
        return X

    def _is_plain(self, X: Any) -> bool:
        """Whether validate_data can be skipped, which takes longer than a small search."""
        return (
            type(X) is np.ndarray
            and X.dtype == np.uint8
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and X.flags.c_contiguous
            and not hasattr(self, "feature_names_in_")
        )

    def _check_unused_bits(self, packed: NDArray[np.uint8], name: str) -> None:
        n_unused = 8 * packed.shape[1] - self.n_bits_
        if n_unused and unpack(packed[:, -1:], 8)[:, 8 - n_unused :].any():
            raise ValueError(
                f"{name} has bits set beyond the first n_bits={self.n_bits_} of a code; "
                "pack() sets them to 0."
            )

    def _check_n_neighbors(
        self, n_neighbors: int | None, n_codes: int | None, without: bool
    ) -> int:
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral) or isinstance(k, bool):
            raise TypeError(f"n_neighbors must be an integer, got {k!r}.")
        if n_codes is None:
            if k < 1:
                raise ValueError(f"n_neighbors must be at least 1, got {k}.")
        elif not 1 <= k <= n_codes - without:
            raise ValueError(
                f"n_neighbors must be between 1 and {n_codes - without}, got {k}: the database has "
                f"{n_codes} codes, and a query from it does not count itself."
            )
        return int(k)

    def _check_radius(self, radius: float | None) -> int:
        r = self.radius if radius is None else radius
        if not isinstance(r, Real) or isinstance(r, bool):
            raise TypeError(f"radius must be a number, got {r!r}.")
        if not r >= 0:
            raise ValueError(f"radius must be a Hamming distance of at least 0, got {r}.")
        return int(min(r, self.n_bits_))

    def _nearest(
        self, X: ArrayLike | None, n_neighbors: int | None
    ) -> tuple[View | StoreView, Distances, Any]:
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)  # raises; calling it every time would slow small searches
        view, alone = self._view(), X is None
        queries = view.codes if X is None else self._validate_codes(X, reset=False)
        # Other stores are counted only if they have too few codes: counting may take long.
        n_codes = len(view) if isinstance(view, View) else None
        k = self._check_n_neighbors(n_neighbors, n_codes, alone)
        parts = self._in_threads(view, lambda part: view.kneighbors(part, k + alone), queries)
        distances, found = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if alone:
            itself = found == view.own[:, None]
            # The code itself is not among the nearest k + 1, if so many before it are equal: drop
            # the last.
            itself[:, -1] |= ~itself.any(axis=1)
            distances, found = (a[~itself].reshape(-1, k) for a in (distances, found))
        return view, distances, found

    def _within(
        self, X: ArrayLike | None, radius: float | None, sort_results: bool
    ) -> tuple[View | StoreView, NDArray[np.intp], Distances, Any]:
        """Neighbors within a radius as the parts of a CSR matrix."""
        check_is_fitted(self)
        view = self._view()
        queries = view.codes if X is None else self._validate_codes(X, reset=False)
        r = self._check_radius(radius)
        parts = self._in_threads(view, lambda part: view.radius_neighbors(part, r), queries)
        indptrs, distances_, found_ = zip(*parts, strict=True)
        counts = np.concatenate([np.diff(indptr) for indptr in indptrs])
        distances, found = np.concatenate(distances_), np.concatenate(found_)
        rows = np.repeat(np.arange(len(queries)), counts)
        if X is None:
            others = view.own[rows] != found
            rows, distances, found = rows[others], distances[others], found[others]
            counts -= 1
        if sort_results:
            order = np.lexsort((distances, rows))  # stable
            distances, found = distances[order], found[order]
        return view, np.concatenate([[0], np.cumsum(counts)]), distances, found

    def _in_threads(
        self, view: View | StoreView, search: Callable[[Packed], Any], queries: Packed
    ) -> list[Any]:
        """Results of a search for consecutive parts of the queries, one per thread."""
        n_threads = -(-len(queries) // _QUERIES_PER_THREAD) if view.takes_threads else 1
        if n_threads > 1:
            n_threads = min(effective_n_jobs(self.n_jobs), n_threads)
        if n_threads <= 1:
            return [search(queries)]
        parts = gen_even_slices(len(queries), n_threads)
        return Parallel(n_threads, require="sharedmem")(
            delayed(search)(queries[part]) for part in parts
        )


def _graph(
    view: View | StoreView, indptr: NDArray[np.intp], distances: Distances, found: Any, mode: str
) -> sp.csr_array:
    data = np.ones(len(found)) if mode == "connectivity" else distances.astype(np.float64)
    shape = len(indptr) - 1, len(view)
    return sp.csr_array((data, view.positions_of(found), indptr), shape=shape)


def _warn_of_names(y: Any) -> None:
    if _are_names(y):
        warnings.warn(
            "y is ignored: HammingNeighbors returns row numbers. Give the names as ids, "
            "`fit(codes, ids=names)`: then ids_ and predict return them.",
            UserWarning,
            stacklevel=4,  # of the wrapper that checks parameters
        )


def _are_names(y: Any) -> bool:
    """Whether ``y`` has names, all different, rather than tags or classes."""
    if isinstance(y, str) or not hasattr(y, "__len__") or getattr(y, "ndim", 1) != 1:
        return False
    if not all(isinstance(name, str | os.PathLike) for name in y):
        return False
    return len({os.fspath(name) for name in y}) == len(y) > 1


def _check_mode(mode: str) -> None:
    if mode not in ("connectivity", "distance"):
        raise ValueError(f'mode must be "connectivity" or "distance", got {mode!r}.')


def _split(values: NDArray[Any], indptr: NDArray[np.intp]) -> NDArray[np.object_]:
    """One array per query, in an array of objects as in scikit-learn."""
    parts = np.empty(len(indptr) - 1, dtype=object)
    for i, (start, stop) in enumerate(pairwise(indptr)):
        parts[i] = values[start:stop]
    return parts
