"""Leading singular vectors of large sparse matrices, also if many singular values are equal."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["leading_left_vectors"]

_MAX_CYCLES = 300  # tags need two to five; then the directions are returned as they are
# Shares of the largest eigenvalue: the residual of a converged pair, and a length taken as zero.
_TOLERANCE = float(np.finfo(np.float64).eps)
_NOTHING = 1e-12


def leading_left_vectors(
    matrix: sp.csr_array, n_vectors: int, random_state: np.random.RandomState
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left singular vectors of the largest singular values, and the values.

    The thick-restart Lanczos method [1]_ on ``matrix @ matrix.T``. If few of its
    eigenvalues differ, for example for tags with one image each, the search
    finds no new direction early and continues from a random one. In this case
    ``svds`` of SciPy (ARPACK) gives different vectors in repeated calls, and
    before 1.17 it may fail or never end.

    Parameters
    ----------
    matrix : csr_array of shape (n_rows, n_columns)
        Not all zeros.
    n_vectors : int
        At most half the number of rows.
    random_state : RandomState
        Seed of the start.

    Returns
    -------
    vectors : ndarray of shape (n_rows, n_vectors)
        Orthonormal columns.
    values : ndarray of shape (n_vectors,)
        In decreasing order.

    References
    ----------
    .. [1] K. Wu and H. Simon, "Thick-restart Lanczos method for large symmetric
       eigenvalue problems", SIAM Journal on Matrix Analysis and Applications
       22, 2000.
    """
    transposed = matrix.T.tocsr()
    n_rows = matrix.shape[0]
    size = min(2 * n_vectors + 20, n_rows)
    n_kept = (n_vectors + size) // 2
    # Rows of the basis are orthonormal; projected is the matrix in this basis.
    basis = np.zeros((size + 1, n_rows))
    projected = np.zeros((size, size))
    basis[0] = _outside(basis[:0], random_state)
    values = np.zeros(n_vectors)
    first = 0
    for _ in range(_MAX_CYCLES):
        ran_out = False
        for i in range(first, size):
            image = matrix @ (transposed @ basis[i])
            known = basis[: i + 1]
            share = known @ image
            image -= share @ known
            correction = known @ image
            image -= correction @ known
            projected[: i + 1, i] = projected[i, : i + 1] = share + correction
            length = float(np.linalg.norm(image))
            if length > _NOTHING * np.abs(projected).max():
                basis[i + 1] = image / length
            else:
                length, ran_out = 0.0, True
                if i + 1 < n_rows:
                    basis[i + 1] = _outside(known, random_state)
        eigenvalues, rotation = np.linalg.eigh(projected)
        eigenvalues, rotation = eigenvalues[::-1], rotation[:, ::-1]
        basis[:n_kept] = rotation[:, :n_kept].T @ basis[:size]
        before, values = values, eigenvalues[:n_vectors]
        accuracy = _TOLERANCE * values[0]
        found = (length * np.abs(rotation[-1, :n_vectors]) <= accuracy).all()
        # One direction finds only one of several equal eigenvalues. So the search ends only after
        # new directions have found no larger values.
        growing = ran_out and size < n_rows and (values - before > 1e3 * accuracy).any()
        if found and not growing:
            break
        basis[n_kept] = basis[size]
        projected[:] = 0
        projected[range(n_kept), range(n_kept)] = eigenvalues[:n_kept]
        first = n_kept
    return basis[:n_vectors].T, np.sqrt(np.maximum(values, 0))


def _outside(
    known: NDArray[np.float64], random_state: np.random.RandomState
) -> NDArray[np.float64]:
    """A random unit vector orthogonal to orthonormal rows."""
    vector: NDArray[np.float64] = random_state.uniform(-1, 1, size=known.shape[1:])
    for _ in range(2):
        vector -= (known @ vector) @ known
        vector /= np.linalg.norm(vector)
    return vector
