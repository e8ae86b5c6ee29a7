"""The discrete optimiser of DSTDH: augmented Lagrangian multipliers over codes in {-1, +1}.

Matrices are n x r here, one row per image; the paper's are r x n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ..graphs import AnchorGraph, ConceptHypergraph

__all__ = ["DiscreteALM", "signs"]

Matrix = NDArray[np.float32]

# Added to the diagonal of Y'Y, whose entries are counts: too little to matter where tags occur,
# enough where a tag is absent or two tags always come together (the paper's inverse fails there).
_RIDGE = 1e-3
# Beyond this many tags a dense factor of Y'Y no longer pays (n_tags^2 memory, n_tags^3 time).
_MAX_DENSE_TAGS = 4096


def signs(values: NDArray[Any]) -> Matrix:
    """-1 where a value is negative, else +1.

    Parameters
    ----------
    values : ndarray of any shape
        Real values.

    Returns
    -------
    ndarray of the same shape, float32
    """
    return np.where(values >= 0, np.float32(1), np.float32(-1))


class TagRegression:
    """Least squares ``min_P ||M - Y P||_F^2`` for changing M and fixed sparse Y (Eq. 18).

    Parameters
    ----------
    tags : csr_array of shape (n_samples, n_tags), float32
        Indicator Y.
    """

    def __init__(self, tags: sp.csr_array) -> None:
        self._Y = tags
        self._Yt = sp.csr_array(tags.T)
        self._factor = None
        if tags.shape[1] <= _MAX_DENSE_TAGS:
            gram = sp.csr_array(self._Yt @ tags).toarray().astype(np.float64)
            gram[np.diag_indices_from(gram)] += _RIDGE
            self._factor = cho_factor(gram, overwrite_a=True)

    def solve(self, M: Matrix, start: Matrix | None = None) -> Matrix:
        """The minimiser P of shape (n_tags, n_bits); ``start`` speeds up the iterative case."""
        rhs = self._Yt @ M
        if self._factor is not None:
            return cho_solve(self._factor, rhs).astype(np.float32)
        # Y'Y would be dense where images have many tags, so it is applied and never formed.
        return _conjugate_gradients(
            lambda P: self._Yt @ (self._Y @ P) + np.float32(_RIDGE) * P,
            np.asarray(self._Y.sum(axis=0)).ravel() + np.float32(_RIDGE),  # of Y in {0, 1}
            rhs,
            np.zeros_like(rhs) if start is None else start,
        )


def _conjugate_gradients(
    gram: Callable[[Matrix], Matrix],
    diagonal: NDArray[np.float32],
    rhs: Matrix,
    start: Matrix,
    tol: float = 1e-4,
    max_iter: int = 200,
) -> Matrix:
    """Solve ``gram(P) = rhs`` for all columns at once, preconditioned by the diagonal of gram."""
    inverse_diagonal = (1 / diagonal)[:, None]
    P = start.copy()
    residual = rhs - gram(P)
    z = inverse_diagonal * residual
    direction = z.copy()
    rz = np.einsum("ij,ij->j", residual, z)
    target = tol**2 * max(float(np.einsum("ij,ij->", rhs, inverse_diagonal * rhs)), 1e-30)
    for _ in range(max_iter):
        if rz.sum() <= target:
            break
        product = gram(direction)
        curvature = np.einsum("ij,ij->j", direction, product)
        step = np.where(curvature > 0, rz / np.where(curvature > 0, curvature, 1), 0)
        P += step * direction
        residual -= step * product
        z = inverse_diagonal * residual
        rz, previous = np.einsum("ij,ij->j", residual, z), rz
        direction *= np.where(previous > 0, rz / np.where(previous > 0, previous, 1), 0)
        direction += z
    return P


class DiscreteALM:
    """Codes Z of the objective of DSTDH by augmented Lagrangian multipliers.

    Minimises (Eq. 12, written for n x r matrices)::

        tag_weight ||Z - Y P||_{2,1} - alpha tr(Z' S_v Z) - beta tr(Z' S_h Z) + nu ||phi - Z||_F^2

    over Z in {-1, +1} and P, by Algorithm 1. The object keeps the auxiliary
    matrices and multipliers, so that further calls of :meth:`run` go on where
    the last one stopped.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bits)
        Where to start: Z, in {-1, +1}.
    tags : csr_array of shape (n_samples, n_tags) or None
        Indicator Y. None leaves the direct transfer out (as does
        ``direct=False``).
    visual : AnchorGraph of shape (n_samples, n_samples) or None
        S_v. None leaves the term out.
    conceptual : ConceptHypergraph of shape (n_samples, n_samples) or None
        S_h. None leaves the indirect transfer out.
    alpha, beta, nu : float
        Weights of the visual, conceptual and network terms.
    tag_weight : float
        Weight of the loss of the tags, 1 in the paper.
    mu : float
        Weight of the ALM penalty.
    rho : float
        Factor by which ``mu`` grows with each iteration.
    shrinkage : {"bit", "sample"}
        Which groups the l2,1 norm shrinks as a whole: the residuals of one bit
        over all images (the paper's own definition, and its release), or those
        of one image over all bits (the usual reading; it tends to make bits
        constant).
    denoise : bool
        If False, the squared Frobenius norm stands in for the l2,1 norm.
    discrete : bool
        If False, Z is relaxed to real values of mean size 1 during the
        iterations; :attr:`codes` are then its signs about the mean of each bit.
    deflate : bool
        If True, the trivial eigenvector is taken out of each graph. It has the
        largest eigenvalue and nearly equal entries, so that constant bits
        would maximise the graph terms.

    Attributes
    ----------
    history : list of dict
        For each iteration the objective, its terms and the share of changed
        bits.
    """

    def __init__(
        self,
        codes: NDArray[Any],
        tags: sp.csr_array | None,
        visual: AnchorGraph | None,
        conceptual: ConceptHypergraph | None,
        *,
        alpha: float = 1e-2,
        beta: float = 1e-3,
        nu: float = 1e-3,
        tag_weight: float = 1.0,
        mu: float = 1e-2,
        rho: float = 1.1,
        shrinkage: str = "bit",
        denoise: bool = True,
        discrete: bool = True,
        deflate: bool = False,
    ) -> None:
        self.alpha, self.beta, self.nu = alpha, beta, nu
        self.tag_weight = tag_weight
        self.mu, self.rho = mu, rho
        self.axis = 0 if shrinkage == "bit" else 1
        self.denoise, self.discrete, self.deflate = denoise, discrete, deflate
        self._Z = codes.astype(np.float32)
        self.transfer: Matrix | None = None
        self._regression: TagRegression | None = None
        if tags is not None and tags.shape[1]:
            self._regression = TagRegression(tags)
            self._Y = tags
            self._A = np.zeros_like(self._Z)
            self._EA = np.zeros_like(self._Z)
        self._EB = np.zeros_like(self._Z)
        self.history: list[dict[str, float]] = []
        self.relink(visual, conceptual)

    def relink(self, visual: AnchorGraph | None, conceptual: ConceptHypergraph | None) -> None:
        """Go on with other graphs, of features that have changed.

        Parameters
        ----------
        visual : AnchorGraph of shape (n_samples, n_samples) or None
            S_v.
        conceptual : ConceptHypergraph of shape (n_samples, n_samples) or None
            S_h.
        """
        self._graphs = {
            name: (np.float32(weight), graph)
            for name, weight, graph in (
                ("visual", self.alpha, visual),
                ("conceptual", self.beta, conceptual),
            )
            if weight and graph is not None
        }
        self._linked, self._pull = self._link(self._Z)

    @property
    def objective(self) -> list[float]:
        """The objective after each iteration, Eq. 12 of the terms and graphs in use."""
        return [row["objective"] for row in self.history]

    @property
    def codes(self) -> Matrix:
        """The codes, in {-1, +1}, of shape (n_samples, n_bits)."""
        return self._Z if self.discrete else signs(self._Z - self._Z.mean(axis=0))

    def run(
        self,
        max_iter: int,
        *,
        tol: float = 0.0,
        phi: Matrix | None = None,
        report: Callable[[int, float, float], None] | None = None,
    ) -> int:
        """Iterate.

        Parameters
        ----------
        max_iter : int
            Most iterations.
        tol : float
            Stop once at most this share of the bits changes in an iteration
            after the third.
        phi : ndarray of shape (n_samples, n_bits), optional
            Output of the hash function that the codes are drawn to.
        report : callable, optional
            Called with the iteration, the objective and the share of changed
            bits.

        Returns
        -------
        int
            Number of iterations run.
        """
        for iteration in range(1, max_iter + 1):
            before = self.codes
            self._step(phi)
            changed = float(np.mean(before != self.codes))
            self.history.append({**self._objective(phi), "changed": changed})
            if report is not None:
                report(iteration, self.history[-1]["objective"], changed)
            # The multipliers start from 0 and take some iterations to act.
            if changed <= tol and iteration > 3:
                return iteration
        return max_iter

    def _step(self, phi: Matrix | None) -> None:
        mu, Z = self.mu, self._Z
        # B and its image under the graphs; S Z is at hand from the last iteration.
        B = Z + (self._EB + self._linked) / mu
        argument: Matrix = np.float32(mu) * B - self._EB + self._link(B)[0]
        if phi is not None and self.nu:
            argument += 2 * self.nu * phi
        if self._regression is not None:
            self.transfer = self._regression.solve(Z - self._A + self._EA / mu, self.transfer)
            fit = self._Y @ self.transfer
            self._A = self._shrink(Z - fit + self._EA / mu)
            argument += mu * (fit + self._A) - self._EA
        if self.discrete:
            Z = signs(argument)
        else:
            argument /= max(float(np.abs(argument).mean()), 1e-30)
            Z = argument
        if self._regression is not None:
            self._EA += mu * (Z - fit - self._A)
            self._fit = fit
        self._EB += mu * (Z - B)
        self._Z = Z
        self._linked, self._pull = self._link(Z)
        self.mu = mu * self.rho

    def _link(self, M: Matrix) -> tuple[Matrix, dict[str, float]]:
        """``(alpha S_v + beta S_h) M``, and for each graph its weight times ``tr(M' S M)``."""
        linked, pull = np.zeros_like(M), {}
        for name, (weight, graph) in self._graphs.items():
            product = graph @ M
            if self.deflate:
                product -= np.outer(graph.trivial, graph.trivial @ M)
            product *= weight
            pull[name] = float(np.vdot(M, product))
            linked += product
        return linked, pull

    def _shrink(self, T: Matrix) -> Matrix:
        """Minimiser over A of ``loss(A) + mu / 2 ||A - T||_F^2`` (Eqs. 14 to 16)."""
        if not self.denoise:
            return T * np.float32(self.mu / (self.mu + 2 * self.tag_weight))
        norms = np.maximum(np.linalg.norm(T, axis=self.axis, keepdims=True), 1e-30)
        kept = np.maximum(1 - self.tag_weight / (self.mu * norms), 0)
        return T * kept.astype(np.float32)

    def _objective(self, phi: Matrix | None) -> dict[str, float]:
        """Eq. 12 and its terms (of the tags the squared Frobenius norm if not denoising)."""
        terms = {name: -pull for name, pull in self._pull.items()}
        if self._regression is not None:
            residual = self._Z - self._fit
            if self.denoise:
                loss = float(np.linalg.norm(residual, axis=self.axis).sum())
            else:
                loss = float(np.vdot(residual, residual))
            terms["tags"] = self.tag_weight * loss
        if phi is not None:
            terms["network"] = self.nu * float(np.square(phi - self._Z).sum())
        return {"objective": sum(terms.values()), **terms}
