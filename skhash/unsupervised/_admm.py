"""Binary codes that are smooth on a graph, by ADMM: the code step of SADH."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["smooth_codes", "smoothness", "to_sphere"]

# Steps of L-BFGS per iteration, and how many it stores: each stored step needs two copies of B.
_INNER_STEPS = 5
_INNER_MEMORY = 5


def smoothness(
    B: NDArray[np.float64], graph: Any, bit_balance: float, decorrelation: float
) -> tuple[float, NDArray[np.float64]]:
    """Objective of codes that are smooth on a graph, with penalties, and its gradient.

    ``tr(B'(I - S)B) + bit_balance / n ||B'1||^2 + decorrelation / n ||B'B - n I||_F^2``
    for n samples. Every term grows linearly with n, so the weights have the
    same meaning for any number of samples.

    Parameters
    ----------
    B : ndarray of shape (n_samples, n_bits), float64
        Codes, relaxed or not.
    graph : LinearOperator of shape (n_samples, n_samples)
        The symmetric affinity S.
    bit_balance, decorrelation : float
        Weights.

    Returns
    -------
    value : float
        The objective.
    gradient : ndarray of shape (n_samples, n_bits), float64
        Its gradient.
    """
    n_samples, n_bits = B.shape
    differences = B - graph @ B
    sums = B.sum(axis=0)
    correlations = B.T @ B / n_samples - np.eye(n_bits)
    value = (
        np.vdot(B, differences)
        + bit_balance / n_samples * (sums @ sums)
        + decorrelation * n_samples * np.vdot(correlations, correlations)
    )
    gradient = 2 * differences + 2 * bit_balance / n_samples * sums
    gradient += 4 * decorrelation * (B @ correlations)
    return float(value), gradient


def to_sphere(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest point of the sphere through the corners of the cube [-1, 1]^{n x r}."""
    return M * (np.sqrt(M.size) / (np.linalg.norm(M) or 1.0))


def smooth_codes(
    codes: NDArray[np.float64],
    graph: Any,
    *,
    bit_balance: float = 5.0,
    decorrelation: float = 5.0,
    admm_penalty: float = 0.01,
    dual_step: float = 1e-3,
    max_iter: int = 50,
    tol: float = 1e-4,
    report: Callable[[int, float], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Solve for binary codes that are smooth on a graph, balanced and decorrelated.

    Minimises :func:`smoothness` over codes in {-1, 1} by ADMM. These codes are
    the intersection of the box [-1, 1] and the sphere of radius ``sqrt(n r)``.
    With ``Z1`` in the box and ``Z2`` on the sphere,

    - ``Z1 = clip(B + Y1 / admm_penalty, -1, 1)``, ``Z2 = B + Y2 / admm_penalty`` scaled to the
      sphere;
    - B = a few steps of L-BFGS on the objective ``+ sum_i <Y_i, B - Z_i> +
      admm_penalty / 2 ||B - Z_i||_F^2``;
    - ``Y_i += dual_step (B - Z_i)``.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bits), float64
        Initial codes, in {-1, 1}.
    graph : LinearOperator of shape (n_samples, n_samples)
        The symmetric affinity.
    bit_balance, decorrelation : float, default=5.0
        Weights of the penalties.
    admm_penalty : float, default=0.01
        Weight of the distances from box and sphere.
    dual_step : float, default=1e-3
        Step size of the multipliers.
    max_iter : int, default=50
        Largest number of iterations.
    tol : float, default=1e-4
        Stop once the relative change of B is below this.
    report : callable, default=None
        Called with number and objective of each iteration.

    Returns
    -------
    codes : ndarray of shape (n_samples, n_bits), float64
        The signs of the last B; the sign of 0 is 1.
    objective : ndarray of shape (n_iter,), float64
        The objective of B after each iteration, before its signs are taken.
    """
    B = codes
    Y1, Y2 = np.zeros_like(B), np.zeros_like(B)
    objective = []
    for iteration in range(max_iter):
        Z1 = np.clip(B + Y1 / admm_penalty, -1, 1)
        Z2 = to_sphere(B + Y2 / admm_penalty)
        # Both quadratics and both linear terms as one: admm_penalty ||B - target||^2 + constant.
        target = (Z1 + Z2 - (Y1 + Y2) / admm_penalty) / 2

        def augmented(
            flat: NDArray[np.float64], target: NDArray[np.float64] = target
        ) -> tuple[float, NDArray[np.float64]]:
            M = flat.reshape(target.shape)
            value, gradient = smoothness(M, graph, bit_balance, decorrelation)
            away = M - target
            gradient += 2 * admm_penalty * away
            return value + admm_penalty * float(np.vdot(away, away)), gradient.ravel()

        options = {"maxiter": _INNER_STEPS, "maxcor": _INNER_MEMORY}
        solved = minimize(augmented, B.ravel(), jac=True, method="L-BFGS-B", options=options)
        before, B = B, solved.x.reshape(B.shape)
        objective.append(smoothness(B, graph, bit_balance, decorrelation)[0])
        if report is not None:
            report(iteration + 1, objective[-1])
        Y1 += dual_step * (B - Z1)
        Y2 += dual_step * (B - Z2)
        if np.linalg.norm(B - before) <= tol * np.linalg.norm(before):
            break
    return np.where(B >= 0, 1.0, -1.0), np.asarray(objective)
