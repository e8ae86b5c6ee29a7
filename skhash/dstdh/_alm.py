"""The discrete optimiser of DSTDH: augmented Lagrangian multipliers over codes in {-1, +1}.

Matrices are n x r here, one row per image. In the paper they are r x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.utils import gen_batches

from ..graphs import AnchorGraph, ConceptHypergraph

__all__ = ["DiscreteALM", "signs"]

Matrix = NDArray[np.float32]
Codes = NDArray[np.int8]
Graph: TypeAlias = AnchorGraph | ConceptHypergraph

# Added to the diagonal of Y'Y, whose entries are counts, so it hardly matters where tags occur. It
# makes Y'Y invertible where a tag is absent or two tags always come together.
_RIDGE = 1e-3
# An iteration goes through images block by block, to need little memory.
_BLOCK_ROWS = 8192
# With more tags, a dense factor of Y'Y costs too much (n_tags^2 memory, n_tags^3 time).
_MAX_DENSE_TAGS = 4096


def signs(values: NDArray[Any]) -> Codes:
    """-1 where a value is negative, else +1.

    Parameters
    ----------
    values : ndarray of any shape
        Real values.

    Returns
    -------
    ndarray of the same shape, int8
    """
    return np.where(values >= 0, np.int8(1), np.int8(-1))


class TagRegression:
    """Least squares ``min_P ||M - Y P||_F^2`` for changing M and fixed sparse Y (Eq. 18).

    Parameters
    ----------
    tags : csr_array of shape (n_samples, n_tags), float32
        Indicator Y.
    """

    def __init__(self, tags: sp.csr_array) -> None:
        self._Y = tags
        self._factor = None
        if tags.shape[1] <= _MAX_DENSE_TAGS:
            gram = sp.csr_array(tags.T @ tags).toarray().astype(np.float64)
            gram[np.diag_indices_from(gram)] += _RIDGE
            self._factor = cho_factor(gram, overwrite_a=True)

    def solve(self, rhs: NDArray[np.floating[Any]], start: Matrix | None = None) -> Matrix:
        """The minimiser P of shape (n_tags, n_bits), given ``Y' M``.

        ``start`` speeds up the iterative case.
        """
        if self._factor is not None:
            return cho_solve(self._factor, rhs).astype(np.float32)
        # With many tags per image Y'Y would be dense, so it is applied without being formed.
        rhs = rhs.astype(np.float32)
        return _conjugate_gradients(
            lambda P: self._Y.T @ (self._Y @ P) + np.float32(_RIDGE) * P,
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


class _Links:
    """The weighted sum of graphs as ``S = G diag(weights) G'``, G read block by block.

    Parameters
    ----------
    graphs : dict from str to (float, graph)
        Weight in the sum and graph, by name.
    n_samples : int
        Number of rows.
    deflate : bool
        Whether to remove the trivial eigenvectors.
    """

    def __init__(self, graphs: dict[str, tuple[float, Graph]], n_samples: int, deflate: bool):
        self._graphs = [graph for _, graph in graphs.values()]
        self._deflate = deflate
        self.n_samples = n_samples
        self.columns: dict[str, slice] = {}
        weights = [np.empty(0)]
        width = 0
        for name, (weight, graph) in graphs.items():
            # An eigenvector is removed by adding it with the weight -1.
            weights.append(weight * np.append(graph.weights, [-1.0] * deflate).astype(np.float64))
            self.columns[name] = slice(width, width + len(weights[-1]))
            width += len(weights[-1])
        self.weights = np.concatenate(weights)[:, None]
        self.gram = np.zeros((width, width))
        for rows in gen_batches(n_samples, _BLOCK_ROWS):
            G = self.block(rows)
            self.gram += G.T @ G

    def block(self, rows: slice) -> Matrix:
        """Some rows of G."""
        parts = [np.empty((rows.stop - rows.start, 0), np.float32)]
        for graph in self._graphs:
            parts.append(graph.block(rows))
            if self._deflate:
                parts.append(graph.trivial[rows, None])
        return np.hstack(parts)

    def gather(self, read: Callable[[slice], NDArray[Any]], n_bits: int) -> NDArray[np.float64]:
        """``G' M``, where ``read`` gives rows of M."""
        thin = np.zeros((len(self.weights), n_bits))
        if len(thin):
            for rows in gen_batches(self.n_samples, _BLOCK_ROWS):
                thin += self.block(rows).T @ read(rows).astype(np.float32)
        return thin

    def spread(self, thin: NDArray[np.float64]) -> Matrix:
        """The factor T with ``S M = G T``, from ``thin = G' M``."""
        return (self.weights * thin).astype(np.float32)


class DiscreteALM:
    """Codes Z of the objective of DSTDH by augmented Lagrangian multipliers.

    Minimises (Eq. 12, written for n x r matrices)::

        tag_weight ||Z - Y P||_{2,1} - alpha tr(Z' S_v Z) - beta tr(Z' S_h Z) + nu ||phi - Z||_F^2

    over Z in {-1, +1} and P, by Algorithm 1. The object keeps the auxiliary
    matrices and multipliers. A further call of :meth:`run` continues where the
    last one stopped.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bits)
        Z at the start, in {-1, +1}.
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
        The groups that the l2,1 norm shrinks: the residuals of one bit over all
        images (the definition of the paper and its program), or the residuals
        of one image over all bits (the usual definition; it tends to make bits
        constant).
    denoise : bool
        If False, the squared Frobenius norm replaces the l2,1 norm.
    discrete : bool
        If False, Z is relaxed to real values of mean size 1 during the
        iterations. Then :attr:`codes` are the signs of Z minus its column means.
    deflate : bool
        If True, the trivial eigenvector is removed from each graph. It has the
        largest eigenvalue and nearly equal entries, so that constant bits
        would maximise the graph terms.

    Attributes
    ----------
    history : list of dict
        For each iteration: the objective, its terms and the share of changed
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
        self._Z: NDArray[Any] = codes.astype(np.int8 if discrete else np.float32)
        self.transfer: Matrix | None = None
        self._regression: TagRegression | None = None
        if tags is not None and tags.shape[1]:
            self._regression = TagRegression(tags)
            self._Y = tags
            self._EA = np.zeros(codes.shape, np.float32)
            self._rhs = np.asarray(tags.T @ self._Z.astype(np.float32), np.float64)
        self._B_multiplier: Callable[[slice], Matrix] | None = None  # 0 before the first iteration
        self.history: list[dict[str, float]] = []
        self.relink(visual, conceptual)

    def relink(self, visual: AnchorGraph | None, conceptual: ConceptHypergraph | None) -> None:
        """Replace the graphs, after the features have changed.

        Parameters
        ----------
        visual : AnchorGraph of shape (n_samples, n_samples) or None
            S_v.
        conceptual : ConceptHypergraph of shape (n_samples, n_samples) or None
            S_h.
        """
        graphs: dict[str, tuple[float, Graph]] = {}
        if self.alpha and visual is not None:
            graphs["visual"] = self.alpha, visual
        if self.beta and conceptual is not None:
            graphs["conceptual"] = self.beta, conceptual
        n_samples, n_bits = self._Z.shape
        self._links = _Links(graphs, n_samples, self.deflate)
        self._thin = self._links.gather(self._Z.__getitem__, n_bits)
        self._thin_EB = np.zeros_like(self._thin)
        if self._B_multiplier is not None:
            self._thin_EB = self._links.gather(self._B_multiplier, n_bits)

    @property
    def objective(self) -> list[float]:
        """The objective after each iteration: Eq. 12 with the terms and graphs in use."""
        return [row["objective"] for row in self.history]

    @property
    def codes(self) -> Codes:
        """The codes, in {-1, +1}, of shape (n_samples, n_bits), int8."""
        if self.discrete:
            return self._Z
        return signs(self._Z - self._Z.mean(axis=0))

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
            Maximum number of iterations.
        tol : float
            Stop once at most this share of the bits changes in an iteration
            after the third.
        phi : ndarray of shape (n_samples, n_bits), optional
            Outputs of the hash function, to which the codes should be near.
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
            terms = self._step(phi)
            changed = float(np.mean(before != self.codes))
            self.history.append({"objective": sum(terms.values()), **terms, "changed": changed})
            if report is not None:
                report(iteration, self.history[-1]["objective"], changed)
            # The multipliers start from 0 and have an effect only after some iterations.
            if changed <= tol and iteration > 3:
                return iteration
        return max_iter

    def _step(self, phi: Matrix | None) -> dict[str, float]:
        """Run one iteration; return the terms of Eq. 12 after it."""
        links, mu, previous = self._links, self.mu, self._Z
        # B and its multiplier are needed only in products with G. With B = Z + (EB + S Z) / mu
        # (Eq. 20) the argument of Z (Eq. 23), mu B - EB + S B, equals mu Z + S (Z + B).
        thin, linked = self._thin, links.gram @ (links.weights * self._thin)
        thin_B = thin + (self._thin_EB + linked) / mu
        pull = links.spread(thin + thin_B)
        norms = None
        if self._regression is not None:
            self.transfer = self._regression.solve(self._rhs, self.transfer)
            self._rhs = np.zeros_like(self._rhs)
            if self.denoise and self.axis == 0:
                norms = self._norms_of_bits()
        size = 1.0
        if not self.discrete:
            total = sum(
                float(np.abs(arg).sum()) for _, _, arg, _, _ in self._parts(pull, norms, phi)
            )
            size = max(total / previous.size, 1e-30)
        Z = np.empty_like(previous)
        self._thin = np.zeros_like(thin)
        squares, of_samples, of_network = np.zeros(Z.shape[1]), 0.0, 0.0
        for rows, G, argument, fit, A in self._parts(pull, norms, phi):
            Z[rows] = signs(argument) if self.discrete else argument / np.float32(size)
            new = Z[rows].astype(np.float32)
            self._thin += G.T @ new
            if self._regression is not None:
                residual = new - fit
                EA = self._EA[rows]
                EA += mu * (residual - A)
                self._rhs += self._Y[rows].T @ (new - A + EA / (mu * self.rho))
                squares += np.square(residual).sum(axis=0, dtype=np.float64)
                of_samples += float(np.linalg.norm(residual, axis=1).sum())
            if phi is not None:
                of_network += float(np.square(phi[rows] - new).sum())
        self._thin_EB = self._thin_EB + mu * (self._thin - thin_B)
        spread = links.spread(thin)

        def multiplier(rows: slice) -> Matrix:
            """EB of some rows: EB + mu (Z - B), where the previous EB cancels out."""
            moved: Matrix = Z[rows].astype(np.float32) - previous[rows]
            return np.float32(mu) * moved - links.block(rows) @ spread

        self._B_multiplier = multiplier
        self._Z, self.mu = Z, mu * self.rho
        terms = {
            name: -float((links.weights[part] * self._thin[part] ** 2).sum())
            for name, part in links.columns.items()
        }
        if self._regression is not None:
            of_bits = np.sqrt(squares) if self.denoise else squares
            loss = of_samples if self.denoise and self.axis == 1 else float(of_bits.sum())
            terms["tags"] = self.tag_weight * loss
        if phi is not None:
            terms["network"] = self.nu * of_network
        return terms

    def _parts(
        self, pull: Matrix, norms: Matrix | None, phi: Matrix | None
    ) -> Iterator[tuple[slice, Matrix, Matrix, Any, Any]]:
        """For each block of rows: G, the argument of Z (Eq. 23), the tags' fit Y P and A."""
        mu = np.float32(self.mu)
        fit = A = None
        for rows in gen_batches(len(self._Z), _BLOCK_ROWS):
            G = self._links.block(rows)
            argument: Matrix = mu * self._Z[rows].astype(np.float32) + G @ pull
            if phi is not None and self.nu:
                argument += 2 * self.nu * phi[rows]
            if self._regression is not None:
                fit, T = self._residuals(rows)
                A = self._shrink(T, norms)
                argument += mu * (fit + A) - self._EA[rows]
            yield rows, G, argument, fit, A

    def _residuals(self, rows: slice) -> tuple[Matrix, Matrix]:
        """``Y P`` and ``Z - Y P + EA / mu``, the value that A approximates (Eq. 14)."""
        fit = self._Y[rows] @ self.transfer
        return fit, self._Z[rows].astype(np.float32) - fit + self._EA[rows] / np.float32(self.mu)

    def _norms_of_bits(self) -> Matrix:
        squares = np.zeros((1, self._Z.shape[1]))
        for rows in gen_batches(len(self._Z), _BLOCK_ROWS):
            squares += np.square(self._residuals(rows)[1]).sum(axis=0, dtype=np.float64)
        return np.sqrt(squares).astype(np.float32)

    def _shrink(self, T: Matrix, norms: Matrix | None = None) -> Matrix:
        """Minimiser over A of ``loss(A) + mu / 2 ||A - T||_F^2`` (Eqs. 14 to 16).

        ``norms`` are the norms of the groups; if None, they are computed from T.
        """
        if not self.denoise:
            return T * np.float32(self.mu / (self.mu + 2 * self.tag_weight))
        if norms is None:
            norms = np.linalg.norm(T, axis=self.axis, keepdims=True)
        kept = np.maximum(1 - self.tag_weight / (self.mu * np.maximum(norms, 1e-30)), 0)
        return T * kept.astype(np.float32)
