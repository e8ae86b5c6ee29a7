"""The backends of HammingNeighbors: each searches one array of packed codes, all but one exactly.

A backend is a class with the methods of :class:`Backend`; only :func:`make_backend` knows them all.
A backend does not change after it is made, so threads may share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..codes import hamming_blocks, smallest

Packed = NDArray[np.uint8]
Distances = NDArray[np.int32]
Indices = NDArray[np.intp]

# In MiB. A block of distances is read several times, so it should stay in a core's cache: up to
# twice as fast as with the larger bound that hamming_blocks has by default.
_WORKING_MEMORY = 2.0

# Below this many codes numpy answers in a fraction of a millisecond; importing faiss takes longer.
_WORTH_FAISS = 2**14

# Number of clusters that "ivf" searches.
N_PROBES = 32


class Backend(Protocol):
    """The interface of a backend; queries are packed in the same way as its codes."""

    name: ClassVar[str]
    packed: Packed

    def kneighbors(self, queries: Packed, k: int) -> tuple[Distances, Indices]:
        """Nearest k codes of every query, by distance, equal distances by position.

        Both arrays have shape (n_queries, k): the first k of a stable sort. k is at most the
        number of codes.
        """

    def radius_neighbors(
        self, queries: Packed, radius: int
    ) -> tuple[NDArray[np.intp], Distances, Indices]:
        """All codes within a radius of every query, by position.

        The three arrays are ``indptr, distances, indices``: those of query i are at
        ``indptr[i]:indptr[i + 1]``.
        """


def make_backend(
    packed: Packed,
    name: str,
    *,
    n_probes: int = N_PROBES,
    clusters: Clusters | None = None,
) -> Backend:
    """Choose a backend; its name is "auto", "numpy", "faiss" or "ivf", which uses the clusters."""
    if not len(packed):
        return NumpyBackend(packed)
    if name == "ivf":
        if len(packed) < _WORTH_FAISS:
            return FaissBackend(packed)
        return IVFBackend(packed, n_probes, clusters)
    if name == "auto":
        # faiss copies codes of most lengths; a memory map is used to avoid such copies.
        if len(packed) < _WORTH_FAISS or is_memory_mapped(packed):
            return NumpyBackend(packed)
        try:
            return FaissBackend(packed)
        except ImportError:
            return NumpyBackend(packed)
    return FaissBackend(packed) if name == "faiss" else NumpyBackend(packed)


class Clusters(NamedTuple):
    """The clusters of an "ivf" search; codes that follow in the database are not in one yet.

    Parameters
    ----------
    centers : ndarray of shape (n_clusters, n_bytes), uint8
        Packed codes.
    numbers : ndarray of shape (n,), uint16
        The cluster of each of the first n codes.
    n_learned : int
        Number of codes when the clusters were made.
    """

    centers: Packed
    numbers: NDArray[np.uint16]
    n_learned: int

    def check(self, n_samples: int, n_bytes: int) -> None:
        """Refuse clusters with which faiss would read or write beyond its memory."""
        centers, numbers, n_learned = self
        if not (
            centers.dtype == np.uint8
            and centers.ndim == 2
            and len(centers)
            and centers.shape[1] == n_bytes
            and numbers.dtype == np.uint16
            and numbers.ndim == 1
            and len(numbers) <= n_samples
            and numbers.max(initial=0) < len(centers)
            and n_learned > 0
        ):
            raise ValueError("the clusters do not fit to the codes, or to each other.")


def clusters_of(backend: Backend, kept: NDArray[np.bool_] | None = None) -> Clusters | None:
    """The clusters of a backend, if it has made any, for all its codes or those marked."""
    clusters = backend.clusters if isinstance(backend, IVFBackend) else None
    if clusters is None or kept is None:
        return clusters
    numbers = clusters.numbers
    return clusters._replace(numbers=numbers[kept[: len(numbers)]])


def is_memory_mapped(array: Any) -> bool:
    """Whether an array is a part of a file that is mapped to memory."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


class NumpyBackend:
    """Distances to all codes in blocks, then selection."""

    name: ClassVar[str] = "numpy"

    def __init__(self, packed: Packed) -> None:
        self.packed = packed

    def kneighbors(self, queries: Packed, k: int) -> tuple[Distances, Indices]:
        distances = np.empty((len(queries), k), np.int32)
        indices = np.empty((len(queries), k), np.intp)
        for rows, block in hamming_blocks(queries, self.packed, working_memory=_WORKING_MEMORY):
            indices[rows] = smallest(block, k)
            distances[rows] = np.take_along_axis(block, indices[rows], axis=1)
        return distances, indices

    def radius_neighbors(
        self, queries: Packed, radius: int
    ) -> tuple[NDArray[np.intp], Distances, Indices]:
        counts, indices = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
        distances = [np.empty(0, np.int32)]
        for _, block in hamming_blocks(queries, self.packed, working_memory=_WORKING_MEMORY):
            flat = np.flatnonzero(block <= radius)
            rows, columns = np.divmod(flat, len(self.packed))
            counts.append(np.bincount(rows, minlength=len(block)))
            distances.append(block.ravel()[flat].astype(np.int32))
            indices.append(columns)
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        return indptr, np.concatenate(distances), np.concatenate(indices)


class FaissBackend(NumpyBackend):
    """The search of faiss in an array of codes; numpy where faiss would need too much memory.

    faiss runs in the calling thread: with its own threads, small batches wait much longer than they
    compute. To use several threads, give each of them a part of the queries.
    """

    name: ClassVar[str] = "faiss"

    # In bytes. faiss keeps k places for every possible distance of every query of a batch.
    # They should stay in the cache; where one query alone exceeds the limit, numpy is as fast.
    _BATCH_MEMORY = 4 * 2**20
    _QUERY_MEMORY = 64 * 2**20

    def __init__(self, packed: Packed) -> None:
        super().__init__(packed)
        self._faiss = _load_faiss()

    @cached_property
    def _wide(self) -> Packed:
        return _widen(self.packed)

    def kneighbors(self, queries: Packed, k: int) -> tuple[Distances, Indices]:
        memory = (8 * self._wide.shape[1] + 1) * k * np.dtype(np.int64).itemsize
        if memory > self._QUERY_MEMORY:
            return super().kneighbors(queries, k)
        n_together = min(32, max(1, self._BATCH_MEMORY // memory))
        queries = _widen(queries)
        distances = np.empty((len(queries), k), np.int32)
        indices = np.empty((len(queries), k), np.intp)
        with _in_calling_thread(self._faiss):
            for start in range(0, len(queries), n_together):
                rows = slice(start, start + n_together)
                # With counting ("mc") instead of a heap, faiss lists the codes of each distance in
                # the order of the database and keeps the first k of each list. This is faster, and
                # ties are in the right order.
                distances[rows], indices[rows] = self._faiss.knn_hamming(
                    queries[rows], self._wide, k, variant="mc"
                )
        return distances, indices

    def radius_neighbors(
        self, queries: Packed, radius: int
    ) -> tuple[NDArray[np.intp], Distances, Indices]:
        faiss, queries = self._faiss, _widen(queries)
        found = faiss.RangeSearchResult(len(queries))
        with _in_calling_thread(faiss):
            faiss.hamming_range_search(
                faiss.swig_ptr(queries),
                faiss.swig_ptr(self._wide),
                len(queries),
                len(self._wide),
                radius + 1,  # faiss means "nearer than"
                self._wide.shape[1],
                found,
            )
        indptr = faiss.rev_swig_ptr(found.lims, len(queries) + 1).astype(np.intp)
        n_found = int(indptr[-1])
        if not n_found:
            return indptr, np.empty(0, np.int32), np.empty(0, np.intp)
        distances = faiss.rev_swig_ptr(found.distances, n_found)
        indices = faiss.rev_swig_ptr(found.labels, n_found)
        # faiss does not define the order.
        order = np.lexsort((indices, np.repeat(np.arange(len(queries)), np.diff(indptr))))
        return indptr, distances[order].astype(np.int32), indices[order].astype(np.intp)


class IVFBackend(FaissBackend):
    """faiss's inverted file: an approximate search for the nearest; within a radius it is exact.

    The codes are grouped into about sqrt(n) clusters of similar codes. A query is compared with the
    codes of the ``n_probes`` nearest clusters. The first search or save makes the clusters, unless
    they are given. Codes that are added later are put into these clusters. When there are four
    times as many codes, new clusters are made.
    """

    name: ClassVar[str] = "ivf"

    _ROWS_PER_CLUSTER = 64  # for learning the clusters
    _N_ITER = 10

    def __init__(
        self, packed: Packed, n_probes: int = N_PROBES, clusters: Clusters | None = None
    ) -> None:
        super().__init__(packed)
        self._n_probes = n_probes
        self._given = clusters

    @property
    def clusters(self) -> Clusters | None:
        """The clusters, or None if they are not made yet."""
        return vars(self).get("_searched", (None, self._given))[1]

    def make_clusters(self) -> Clusters:
        """Make the clusters if they are not made yet."""
        return self.clusters or self._searched[1]

    @cached_property
    def _searched(self) -> tuple[Any, Clusters]:
        """The index of faiss, and its clusters, to which all codes belong."""
        faiss, wide, clusters = self._faiss, self._wide, self._given
        with _in_calling_thread(faiss):
            if clusters is None or len(wide) > 4 * clusters.n_learned:
                clusters = Clusters(self._new_centers(), np.empty(0, np.uint16), len(wide))
            centers, numbers, _ = clusters
            n_bits = 8 * wide.shape[1]
            quantizer = faiss.IndexBinaryFlat(n_bits)
            quantizer.add(_widen(centers))
            new = quantizer.search(wide[len(numbers) :], 1)[1][:, 0]
            every = np.concatenate([numbers, new]).astype(np.int64)
            index = faiss.IndexBinaryIVF(quantizer, n_bits, len(centers))
            index.nprobe = min(self._n_probes, len(centers))
            index.is_trained = True
            index.add_core(len(wide), faiss.swig_ptr(wide), None, faiss.swig_ptr(every))
        return index, clusters._replace(numbers=every.astype(np.uint16))

    def _new_centers(self) -> Packed:
        faiss, wide = self._faiss, self._wide
        n_clusters = 2 ** min(16, round(np.log2(len(wide)) / 2))
        n_bits = 8 * wide.shape[1]
        quantizer = faiss.IndexBinaryFlat(n_bits)
        index = faiss.IndexBinaryIVF(quantizer, n_bits, n_clusters)
        index.cp.niter, index.cp.seed = self._N_ITER, 0
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = self._ROWS_PER_CLUSTER
        n_rows = min(self._ROWS_PER_CLUSTER * n_clusters, len(wide))
        index.train(wide[np.random.default_rng(0).choice(len(wide), n_rows, replace=False)])
        centers = faiss.vector_to_array(quantizer.xb).reshape(n_clusters, -1)
        return np.ascontiguousarray(centers[:, : self.packed.shape[1]])

    def kneighbors(self, queries: Packed, k: int) -> tuple[Distances, Indices]:
        index, _ = self._searched
        with _in_calling_thread(self._faiss):
            distances, found = index.search(_widen(queries), k)
        order = np.lexsort((found, distances))
        distances, indices = (np.take_along_axis(a, order, axis=1) for a in (distances, found))
        short = (found < 0).any(axis=1)  # its clusters have fewer than k codes
        if short.any():
            distances[short], indices[short] = super().kneighbors(queries[short], k)
        return distances, indices.astype(np.intp, copy=False)


def _widen(packed: Packed) -> Packed:
    """Pad codes with zeros to a width for which faiss has a fast loop; distances stay the same.

    Codes that have such a width already are not copied.
    """
    n_bytes = packed.shape[1]
    width = next((w for w in (8, 16, 32, 64) if w >= n_bytes), -(-n_bytes // 8) * 8)
    if width > n_bytes:
        packed = np.pad(packed, ((0, 0), (0, width - n_bytes)))
    return np.ascontiguousarray(packed)


@contextmanager
def _in_calling_thread(faiss: Any) -> Iterator[None]:
    """Keep faiss to one thread; OpenMP has this setting once for each calling thread."""
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)


@cache
def _load_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "this backend needs faiss, which is not installed or cannot be imported "
            f'({error}): pip install "scikit-hash[faiss]", or use backend="numpy".'
        ) from error
    if not _ties_in_database_order(faiss):
        raise ImportError(
            f"this backend cannot use faiss {faiss.__version__}: among equal distances it does "
            'not return the codes in the order of the database; use backend="numpy".'
        )
    return faiss


def _ties_in_database_order(faiss: Any) -> bool:
    """Check the order of ties in a small problem.

    faiss documents no order among equal distances. The versions that we know have the right order
    (see FaissBackend.kneighbors); a version with another order must be detected.
    """
    packed = np.random.default_rng(0).integers(0, 8, size=(2**17, 1), dtype=np.uint8)
    queries = np.arange(8, dtype=np.uint8)[:, None]
    with _in_calling_thread(faiss):
        found = faiss.knn_hamming(_widen(queries), _widen(packed), 500, variant="mc")[1]
    return np.array_equal(found, NumpyBackend(packed).kneighbors(queries, 500)[1])
