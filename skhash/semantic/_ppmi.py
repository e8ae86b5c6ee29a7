"""Vectors of tags by counting: which tags occur together more often than by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.extmath import svd_flip

from ._lanczos import leading_left_vectors

__all__ = ["ppmi", "ppmi_vectors"]

_N_DIMENSIONS = 100
# Exponent of the context distribution, which lowers the PPMI with rare tags (Levy et al., 2015).
_CONTEXT_POWER = 0.75
_DENSE_TAGS = 400  # up to this number, all singular vectors cost no more than the first ones


def ppmi(indicator: sp.csr_array) -> sp.csr_array:
    """Positive pointwise mutual information of the tags of images.

    Parameters
    ----------
    indicator : csr_array of shape (n_images, n_tags)
        Tags; each tag has at least one image.

    Returns
    -------
    csr_array of shape (n_tags, n_tags), float64
        ``max(0, log p(a, b) / (p(a) q(b)))`` from the numbers of images that
        have both tags. A tag occurs together with itself on all its images. q
        are the shares of the tags to the power 0.75, scaled to sum to 1.
    """
    counts = sp.csr_array(indicator.astype(np.float64))
    together = sp.coo_array(counts.T @ counts)
    total = together.sum()
    share = together.sum(axis=1) / total
    context = share**_CONTEXT_POWER
    context /= context.sum()
    rows, columns = together.coords
    information = np.log(together.data / (total * share[rows] * context[columns]))
    matrix = sp.csr_array((np.maximum(information, 0), (rows, columns)), together.shape)
    matrix.eliminate_zeros()
    return matrix


def ppmi_vectors(indicator: sp.csr_array, n_dimensions: int | None = None) -> NDArray[np.float32]:
    """Vectors of tags whose inner products follow from the PPMI: ``U S`` of its SVD.

    Parameters
    ----------
    indicator : csr_array of shape (n_images, n_tags)
        Tags; each tag has at least one image.
    n_dimensions : int, default=None
        Maximum number of dimensions; 100 if None.

    Returns
    -------
    ndarray of shape (n_tags, n_dimensions), float32
        In order of decreasing singular value. There are at most as many
        dimensions as the rank of the PPMI, but at least one. Equal counts give
        equal vectors.
    """
    matrix = ppmi(indicator)
    n_tags = matrix.shape[0]
    wanted = min(n_dimensions or _N_DIMENSIONS, *indicator.shape)
    left: NDArray[Any]
    # The iteration is for a few of many vectors, and not for a matrix of zeros.
    if n_tags <= _DENSE_TAGS or wanted > n_tags // 2 or not matrix.nnz:
        left, values, _ = np.linalg.svd(matrix.toarray())
    else:
        left, values = leading_left_vectors(matrix, wanted, np.random.RandomState(0))
    rank = max(int((values[:wanted] > 1e-6 * values[0]).sum()), 1)
    left, _ = svd_flip(left[:, :rank], None)
    return (left * values[:rank]).astype(np.float32)
