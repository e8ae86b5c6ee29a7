"""Leading singular vectors of large sparse matrices, however many singular values are equal."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["leading_left_vectors"]

_MAX_CYCLES = 300  # tags take two to five; after so many, directions are left as good as they are
# Shares of the largest eigenvalue: residuals of a pair that is found, and of what is no direction.
_TOLERANCE = float(np.finfo(np.float64).eps)
_NOTHING = 1e-12


def leading_left_vectors(
    matrix: sp.csr_array, n_vectors: int, random_state: np.random.RandomState
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left singular vectors of the largest singular values, and the values.

    The thick-restart Lanczos method [1]_ on ``matrix @ matrix.T``. Where few of
    its eigenvalues differ, as for tags that are on a single image each, the
    search runs out of directions early, and goes on from a random one. There
    ``svds`` of SciPy (ARPACK) gives other vectors when it is called again, and
    before 1.17 may fail or never end.

    Parameters
    ----------
    matrix : csr_array of shape (n_rows, n_columns)
        Not of zeros only.
    n_vectors : int
        At most half of the rows.
    random_state : RandomState
        Draws where to start.

    Returns
    -------
    vectors : ndarray of shape (n_rows, n_vectors)
        Orthonormal columns.
    values : ndarray of shape (n_vectors,)
        Falling.

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
    # Rows of the basis are orthonormal, and projected is the matrix between them.
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
        # A direction shows one of equal eigenvalues. So new ones must have shown no larger value.
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
    """A random unit vector at right angles to orthonormal rows."""
    vector: NDArray[np.float64] = random_state.uniform(-1, 1, size=known.shape[1:])
    for _ in range(2):
        vector -= (known @ vector) @ known
        vector /= np.linalg.norm(vector)
    return vector
