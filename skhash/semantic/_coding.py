"""Sparse coding of tag vectors, on scikit-learn's dictionary learning and Lasso solvers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning

# Iterations of the Lasso solver. While the dictionary or alpha still changes, approximate codes are
# enough: with exact codes learning takes several times longer and the result is not better.
_LEARNING_ITER = 20
_CALIBRATION_ITER = 50
_FINAL_ITER = 1_000
# Number of tags on which alpha is calibrated.
_CALIBRATION_TAGS = 300
# Bounds of alpha, relative to the alpha at which all codes are zero, and steps of the bisection.
_ALPHA_RANGE = 1e-4
_BISECTIONS = 14
# Largest allowed violation of the optimality conditions of codes, as a share of alpha.
_TOLERANCE = 0.05


class SparseCoding(NamedTuple):
    """Codes of vectors under a dictionary.

    ``codes[j]`` minimises ``1/2 ||V[j] - u @ components||^2 + alpha ||u||_1`` over u.
    """

    components: NDArray[np.float64]
    codes: NDArray[np.float64]
    alpha: float


def learn_sparse_coding(
    V: NDArray[np.float64],
    n_components: int,
    *,
    density: float,
    alpha: float | None,
    algorithm: str,
    max_iter: int,
    random_state: np.random.RandomState,
    verbose: int = 0,
) -> SparseCoding:
    """Learn a dictionary for vectors, and code them.

    Parameters
    ----------
    V : ndarray of shape (n_tags, n_dimensions), float64
    n_components : int
        At most the number of vectors that are not zero.
    density : float
        Wanted share of nonzeros in the codes; an estimate of it if alpha is given.
    alpha : float or None
        Weight of the l1 norm.
    algorithm : {"cd", "lars"}
        Solver.
    max_iter : int
        Passes over the vectors.
    random_state : RandomState
        Seed of the first atoms, mini-batches and the tags for calibration.
    verbose : int
        Whether to print a line per pass.

    Returns
    -------
    SparseCoding
        Every atom is used by some code, so there may be fewer atoms than
        ``n_components``. The sum of an atom's codes is at least 0.
    """
    V = np.ascontiguousarray(V)
    n_tags = len(V)
    norms = np.linalg.norm(V, axis=1)
    usable = np.flatnonzero(norms)
    first = random_state.choice(usable, n_components, replace=False)
    components = V[first] / norms[first, None]
    sample = V[random_state.choice(n_tags, min(n_tags, _CALIBRATION_TAGS), replace=False)]
    # Ten steps per pass or more. But scikit-learn replaces atoms that its first batch does not use,
    # so batches are large enough that eight of their codes use an atom, in the mean.
    batch_size = min(n_tags, max(ceil(8 / density), min(256, ceil(n_tags / 10))))
    # The first atoms are tags, whose codes have a single nonzero, so the first alpha is wrong. Each
    # pass updates the dictionary, then alpha.
    for iteration in range(max_iter):
        strength = alpha or calibrate_alpha(sample, components, density)
        learner = MiniBatchDictionaryLearning(
            n_components,
            alpha=strength,
            max_iter=1,
            batch_size=batch_size,
            fit_algorithm=algorithm,
            transform_max_iter=_LEARNING_ITER if algorithm == "cd" else _FINAL_ITER,
            dict_init=components,
            random_state=random_state.randint(np.iinfo(np.int32).max),
            tol=0.0,
            max_no_improvement=None,
        )
        with _quiet():
            components = learner.fit(V).components_
        if verbose:
            print(f"[SemanticSpace] pass {iteration + 1} of {max_iter}, alpha {strength:.4g}")
    strength = alpha or calibrate_alpha(sample, components, density)
    components, codes = _use_all_atoms(V, components, strength, algorithm)
    missed = kkt_violations(V, components, codes, strength) > _TOLERANCE * strength
    if missed.any():
        warnings.warn(
            f"The codes of {missed.sum()} of {n_tags} tags are only approximate: their sparse "
            "coding did not converge. Use a smaller density or a larger alpha.",
            ConvergenceWarning,
            stacklevel=5,
        )
    signs = np.where(codes.sum(axis=0) < 0, -1.0, 1.0)
    return SparseCoding(components * signs[:, None], codes * signs, float(strength))


def encode(
    V: NDArray[np.float64],
    components: NDArray[np.float64],
    alpha: float,
    algorithm: str,
    *,
    max_iter: int = _FINAL_ITER,
    init: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Sparse codes of vectors, of shape (n_tags, n_components)."""
    with _quiet():
        if algorithm == "cd":
            return sparse_encode(
                V, components, algorithm="lasso_cd", alpha=alpha, max_iter=max_iter, init=init
            )
        codes = sparse_encode(V, components, algorithm="lasso_lars", alpha=alpha, max_iter=max_iter)
        # If atoms are nearly dependent, the path of a few tags may be wrong.
        lost = kkt_violations(V, components, codes, alpha) > _TOLERANCE * alpha
        if lost.any():
            codes[lost] = encode(V[lost], components, alpha, "cd")
        return codes


def kkt_violations(
    V: NDArray[np.float64],
    components: NDArray[np.float64],
    codes: NDArray[np.float64],
    alpha: float,
) -> NDArray[np.float64]:
    """Violation of the optimality conditions by each code, of shape (n_tags,).

    The correlation of an atom with the residual is ``alpha * sign(code)``
    where the code is not zero, and at most alpha in size elsewhere.
    """
    correlations = (V - codes @ components) @ components.T
    return np.where(
        codes != 0,
        np.abs(correlations - alpha * np.sign(codes)),
        np.maximum(np.abs(correlations) - alpha, 0),
    ).max(axis=1)


def calibrate_alpha(
    V: NDArray[np.float64], components: NDArray[np.float64], density: float
) -> float:
    """The alpha at which a given share of the codes is nonzero, by bisection of its logarithm.

    It uses coordinate descent, which can start from the codes of the last alpha.
    """
    high = np.abs(V @ components.T).max()
    low = high * _ALPHA_RANGE
    codes = None
    for _ in range(_BISECTIONS):
        alpha = float(np.sqrt(low * high))
        codes = encode(V, components, alpha, "cd", max_iter=_CALIBRATION_ITER, init=codes)
        share = np.count_nonzero(codes) / codes.size
        if abs(share - density) <= 0.01 * density:
            break
        low, high = (alpha, high) if share > density else (low, alpha)
    return alpha


def _use_all_atoms(
    V: NDArray[np.float64],
    components: NDArray[np.float64],
    alpha: float,
    algorithm: str,
    *,
    n_rounds: int = 5,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Codes under a dictionary whose unused atoms are replaced, or dropped if that fails.

    An unused atom becomes the direction of the largest residual of a tag. If
    the residual is longer than alpha, the tag's code must use the new atom,
    except where another new atom suits the tag too. So there are several
    rounds.
    """
    codes = encode(V, components, alpha, algorithm)
    for _ in range(n_rounds):
        dead = np.flatnonzero(~codes.any(axis=0))
        residuals = V - codes @ components
        norms = np.linalg.norm(residuals, axis=1)
        worst = np.argsort(-norms, kind="stable")[: len(dead)]
        worst = worst[norms[worst] > alpha]
        if not len(worst):
            break
        components = components.copy()
        components[dead[: len(worst)]] = residuals[worst] / norms[worst, None]
        codes = encode(V, components, alpha, algorithm, init=codes)
    used = codes.any(axis=0)
    if not used.any():
        largest = np.abs(V @ components.T).max()
        raise ValueError(
            f"alpha={alpha:.4g} is too large: all codes are zero. For these tags it must be well "
            f"below {largest:.4g}."
        )
    return components[used], codes[:, used]


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning per mini-batch or tag: :func:`learn_sparse_coding` checks the final codes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # scikit-learn divides by zero where the codes of a mini-batch are all zero.
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
