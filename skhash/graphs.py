"""Anchor graph and image-concept hypergraph, as n x n operators that are never formed.

Both graphs of the DSTDH paper have affinities of low rank. The optimiser needs only
products with them, which cost O((m + a) n r). So each graph is a
:class:`scipy.sparse.linalg.LinearOperator` that keeps only its thin factor.
"""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_random_state, gen_batches

from ._rows import Rows, open_rows
from .tags import project_tags

__all__ = ["AnchorGraph", "ConceptHypergraph", "anchor_graph", "concept_hypergraph"]

# k-means uses at most this many samples per centre (more hardly change the centres) and this many
# tag columns (more are projected, which keeps distances). Both limit time and memory.
_SAMPLES_PER_CENTRE = 100
_MAX_TAG_COLUMNS = 2048
# Distances are taken block by block: copies of all rows at once would double the memory.
_BLOCK_ROWS = 16_384
# Least weight of an image in a hyperedge. It is too small to matter, but without it an image whose
# weights all underflow to 0 would have degree 0.
_MIN_INCIDENCE = 1e-30
# An incidence that would need more bytes than this is kept in half precision.
_MOST_BYTES = 2**29


class _LowRankGraph(LinearOperator):
    """Affinity ``F diag(weights) F'`` of n samples, applied without being formed.

    Parameters
    ----------
    factor : ndarray or csr_array of shape (n_samples, rank), float32
        The thin factor F.
    weights : ndarray of shape (rank,), float32
        The diagonal between F and its transpose.
    trivial : ndarray of shape (n_samples,), float32
        Unit eigenvector of the largest eigenvalue, 1. It contains nothing
        about the similarity of samples.
    """

    def __init__(
        self, factor: Any, weights: NDArray[np.float32], trivial: NDArray[np.float32]
    ) -> None:
        super().__init__(np.dtype(np.float32), (factor.shape[0], factor.shape[0]))
        self.factor = factor
        self.weights = weights
        self.trivial = trivial

    def block(self, rows: slice) -> NDArray[np.float32]:
        """Some rows of G, where the affinity is ``G diag(weights) G'``.

        Parameters
        ----------
        rows : slice
            The rows.

        Returns
        -------
        ndarray of shape (n_rows, rank), float32
        """
        factor = self.factor[rows]
        return factor.toarray() if sp.issparse(factor) else factor.astype(np.float32)

    def _matmat(self, M: NDArray[Any]) -> NDArray[Any]:
        return self.factor @ (self.weights[:, None] * (self.factor.T @ M))

    def _matvec(self, v: NDArray[Any]) -> NDArray[Any]:
        return self._matmat(v.reshape(-1, 1)).ravel()

    def _adjoint(self) -> _LowRankGraph:
        return self


class AnchorGraph(_LowRankGraph):
    """Affinity S = V Lambda^-1 V' of the anchor graph (DSTDH, Eq. 2).

    Its rows sum to 1: constant vectors are fixed points.

    Parameters
    ----------
    similarities : csr_array of shape (n_samples, n_anchors), float32
        V, each row summing to 1 and nonzero at the sample's nearest anchors.

    Attributes
    ----------
    similarities : csr_array of shape (n_samples, n_anchors), float32
        V.
    trivial : ndarray of shape (n_samples,), float32
        Unit eigenvector of the largest eigenvalue, 1: it is constant.
    """

    def __init__(self, similarities: sp.csr_array) -> None:
        n_samples = similarities.shape[0]
        super().__init__(
            similarities,
            _inverse(similarities.T @ np.ones(n_samples)),  # summed in float64
            np.full(n_samples, 1 / np.sqrt(n_samples), np.float32),
        )
        self.similarities = similarities


class ConceptHypergraph(_LowRankGraph):
    """Affinity Dv^-1/2 H Dw De^-1 H' Dv^-1/2 of a hypergraph (DSTDH, Eqs. 5 to 10).

    All hyperedges have the same weight, Dw = I.

    Parameters
    ----------
    incidence : ndarray of shape (n_samples, n_concepts), float32 or float16
        H, with positive entries. Products are in float32 in both cases.

    Attributes
    ----------
    incidence : ndarray of shape (n_samples, n_concepts), float32 or float16
        H.
    trivial : ndarray of shape (n_samples,), float32
        Unit eigenvector of the largest eigenvalue, 1: proportional to the
        square roots of the vertices' degrees.
    """

    def __init__(self, incidence: NDArray[np.floating[Any]]) -> None:
        root_degrees = np.sqrt(incidence.sum(axis=1, dtype=np.float64))
        super().__init__(
            incidence,
            _inverse(incidence.sum(axis=0, dtype=np.float64)),
            (root_degrees / np.linalg.norm(root_degrees)).astype(np.float32),
        )
        self.incidence = incidence
        self._scale = _inverse(root_degrees)[:, None]

    def block(self, rows: slice) -> NDArray[np.float32]:
        """Some rows of ``Dv^-1/2 H``."""
        return self._scale[rows] * super().block(rows)

    def _matmat(self, M: NDArray[Any]) -> NDArray[Any]:
        blocks = list(gen_batches(len(M), _BLOCK_ROWS))
        thin = sum(self.block(rows).T @ M[rows] for rows in blocks)
        weighted = self.weights[:, None] * thin
        return np.concatenate([self.block(rows) @ weighted for rows in blocks])


def _inverse(degrees: NDArray[Any]) -> NDArray[np.float32]:
    """1 / degrees; 0 where a degree is 0, so that an anchor without samples has no effect."""
    safe = np.where(degrees > 0, degrees, 1)
    return np.where(degrees > 0, 1 / safe, 0).astype(np.float32)


def _unit_rows(X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A copy of X with rows of Euclidean norm 1; zero rows stay zero."""
    # Not scikit-learn's normalize, which does not change rows of norm below 1e-6.
    norms = np.sqrt(np.vecdot(X, X))
    norms[norms == 0] = 1
    return (X / norms[:, None]).astype(np.float32, copy=False)


def _centres(
    X: NDArray[np.float32], n_centres: int, max_iter: int, random_state: np.random.RandomState
) -> NDArray[np.float32]:
    """Centres of k-means, or X itself if there are no more samples; X is overwritten."""
    if len(X) <= n_centres:
        return X
    seed = int(random_state.randint(np.iinfo(np.int32).max))
    kmeans = KMeans(
        n_centres, init="random", n_init=1, max_iter=max_iter, random_state=seed, copy_x=False
    )
    with warnings.catch_warnings():
        # Few iterations are intended, and duplicate centres only share their samples.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit(X).cluster_centers_


def _sample_rows(
    n_samples: int, n_centres: int, random_state: np.random.RandomState
) -> NDArray[np.intp] | slice:
    size = _SAMPLES_PER_CENTRE * n_centres
    if n_samples <= size:
        return slice(None)
    return np.sort(random_state.choice(n_samples, size, replace=False))


def anchor_graph(
    X: ArrayLike | Rows,
    n_anchors: int = 100,
    *,
    n_neighbors: int = 2,
    bandwidth: float | None = None,
    max_iter: int = 5,
    random_state: Any = None,
) -> AnchorGraph:
    """Build the anchor graph of samples by their visual features (DSTDH, Eq. 2).

    Features are scaled to unit norm, and their k-means centres are the anchors.
    A sample is connected to its nearest anchors with weights ``exp(-d^2 /
    bandwidth^2)``, scaled to sum to 1. So samples are compared by their cosine.
    Centre features first if their mean is far from 0.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features.
    n_anchors : int, default=100
        Number of anchors; ``n_samples`` if that is smaller.
    n_neighbors : int, default=2
        Number of nearest anchors to which a sample is connected.
    bandwidth : float, default=None
        Width of the kernel in units of the unit-norm features. If None, the
        mean distance to the ``n_neighbors``-th nearest anchor.
    max_iter : int, default=5
        Iterations of k-means. It runs on at most 100 samples per anchor.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means.

    Returns
    -------
    AnchorGraph
        Operator of shape (n_samples, n_samples), float32.

    Raises
    ------
    ValueError
        If X is not a finite two-dimensional array, or a parameter is not
        positive.
    TypeError
        If ``n_anchors``, ``n_neighbors`` or ``max_iter`` is not an int.
    """
    features = open_rows(partial(check_array, input_name="X"), X)
    _check_counts(n_anchors=n_anchors, n_neighbors=n_neighbors, max_iter=max_iter)
    _check_bandwidth(bandwidth)
    n_samples = len(features)
    random_state = check_random_state(random_state)
    rows = _sample_rows(n_samples, n_anchors, random_state)
    anchors = _centres(_unit_rows(features[rows]), n_anchors, max_iter, random_state)
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(anchors)), algorithm="brute")
    search.fit(anchors)
    batches = gen_batches(n_samples, _BLOCK_ROWS)
    found = [search.kneighbors(_unit_rows(features[block])) for block in batches]
    distances, nearest = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if bandwidth is None:
        bandwidth = float(distances[:, -1].mean()) or 1.0
    # The nearest distance is subtracted before the exponential. The scaling cancels it. Without it,
    # a sample far from every anchor would underflow to 0/0.
    squares = distances**2
    weights = np.exp(-(squares - squares[:, :1]) / bandwidth**2)
    weights /= weights.sum(axis=1, keepdims=True)
    indptr = np.arange(0, nearest.size + 1, nearest.shape[1])
    similarities = sp.csr_array(
        (weights.astype(np.float32).ravel(), nearest.ravel(), indptr),
        shape=(n_samples, len(anchors)),
    )
    return AnchorGraph(similarities)


def concept_hypergraph(
    X: ArrayLike | Rows,
    tags: sp.csr_array,
    n_concepts: int = 500,
    *,
    bandwidth: float | None = None,
    tag_scale: float = 1.0,
    max_iter: int = 5,
    random_state: Any = None,
) -> ConceptHypergraph:
    """Build the image-concept hypergraph of samples (DSTDH, Eqs. 4 to 10).

    Concepts are k-means centres of unit-norm features stacked with tags. Every
    concept e is a hyperedge that contains image x with weight
    ``exp(-||x - e||^2 / (2 bandwidth^2))``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features.
    tags : csr_array of shape (n_samples, n_tags)
        Indicator of the tags; may have no columns.
    n_concepts : int, default=500
        Number of concepts; ``n_samples`` if that is smaller.
    bandwidth : float, default=None
        Width sigma of the kernel. If None, the mean distance to the nearest
        concept. (The authors' program uses 40, which makes all weights nearly
        1.)
    tag_scale : float, default=1.0
        Factor of the tags in the stack. At 1, as in the paper, the tags of an
        image have more weight than its features, whose norm is 1.
    max_iter : int, default=5
        Iterations of k-means. It runs on at most 100 samples per concept.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means, and of the random projection that is used if there are
        more than 2,048 tags.

    Returns
    -------
    ConceptHypergraph
        Operator of shape (n_samples, n_samples), float32. Its incidence is
        kept in float16 where it would take more than 512 MiB in float32.

    Raises
    ------
    ValueError
        If X is not a finite two-dimensional array, the numbers of rows
        differ, or a parameter is not positive.
    TypeError
        If ``tags`` is not sparse, or ``n_concepts`` or ``max_iter`` not an int.
    """
    features = open_rows(partial(check_array, input_name="X"), X)
    n_samples, n_features = features.shape
    _check_counts(n_concepts=n_concepts, max_iter=max_iter)
    _check_bandwidth(bandwidth)
    if not tag_scale >= 0:
        raise ValueError(f"tag_scale must be at least 0, got {tag_scale}.")
    if not sp.issparse(tags):
        raise TypeError(
            f"tags must be a sparse indicator, got {type(tags).__name__}; "
            "skhash.tags.encode_tags makes one from tags in any form."
        )
    if tags.shape[0] != n_samples:
        raise ValueError(
            f"tags must have a row per sample of X ({n_samples}), got {tags.shape[0]}."
        )
    random_state = check_random_state(random_state)
    Y = sp.csr_array(tags, dtype=np.float32) * np.float32(tag_scale)
    Y = project_tags(Y, _MAX_TAG_COLUMNS, random_state)
    rows = _sample_rows(n_samples, n_concepts, random_state)
    stack = np.hstack([_unit_rows(features[rows]), Y[rows].toarray()])
    concepts = _centres(stack, n_concepts, max_iter, random_state)
    del stack
    E_visual, E_tags = concepts[:, :n_features].T, concepts[:, n_features:].T
    concept_norms = np.einsum("ij,ij->i", concepts, concepts)

    def squares_of(block: slice) -> NDArray[np.float32]:
        """Squared distances between some samples and all concepts."""
        unit, words = _unit_rows(features[block]), Y[block]
        norms = np.square(unit).sum(axis=1) + np.asarray(words.multiply(words).sum(axis=1)).ravel()
        squares = norms[:, None] + concept_norms - 2 * (unit @ E_visual + words @ E_tags)
        return np.maximum(squares, 0, out=squares)

    blocks = list(gen_batches(n_samples, _BLOCK_ROWS))
    if bandwidth is None:
        # Distances are computed twice: to keep those of all samples would take too much memory.
        nearest = [np.sqrt(squares_of(block).min(axis=1)) for block in blocks]
        bandwidth = float(np.concatenate(nearest).mean()) or 1.0
    half = 4 * n_samples * len(concepts) > _MOST_BYTES
    incidence = np.empty((n_samples, len(concepts)), np.float16 if half else np.float32)
    least = float(np.finfo(np.float16).smallest_subnormal) if half else _MIN_INCIDENCE
    for block in blocks:
        weights = np.exp(squares_of(block) / np.float32(-2 * bandwidth**2))
        incidence[block] = np.maximum(weights, np.float32(least))
    return ConceptHypergraph(incidence)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, Integral):
            raise TypeError(f"{name} must be an int, got {count!r}.")
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")


def _check_bandwidth(bandwidth: float | None) -> None:
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive or None, got {bandwidth}.")
