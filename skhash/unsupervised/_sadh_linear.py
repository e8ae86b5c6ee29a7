"""Similarity-adaptive discrete hashing: the common part of its two forms, and the linear form."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._decisions import affine_values
from .._parameters import ParametersMixin
from .._ridge import RidgePath
from .._sklearn import Interval, StrOptions, fit_context
from ..base import LinearHasher, check_features, check_n_samples, warn_constant_bits
from ..codes import sign_bits
from ..graphs import AnchorGraph, anchor_graph
from ._admm import smooth_codes
from ._itq import itq_codes

__all__ = ["SADHLinear", "SmoothCodes"]


class SmoothingParameters(TypedDict, total=False):
    """Parameters of :class:`SmoothCodes`, for type checkers."""

    n_anchors: int
    n_nearest_anchors: int
    bit_balance: float
    decorrelation: float
    admm_penalty: float
    dual_step: float
    max_iter: int
    tol: float


class SmoothCodes(ParametersMixin):
    """Mixin of hashers whose learned codes are smooth on an anchor graph.

    It comes before the other base of the hasher; ``**others`` are parameters
    of that base.

    Parameters
    ----------
    n_anchors : int, default=500
        Number of anchors of the graph; at most ``n_samples`` are used. The
        graph compares samples by their angle at the origin: centre features
        that are far from it.
    n_nearest_anchors : int, default=2
        Number of anchors that a sample is connected to.
    bit_balance : float, default=5.0
        Weight rho_3 of the balance of bits.
    decorrelation : float, default=5.0
        Weight rho_4 of the decorrelation of bits.
    admm_penalty : float, default=0.01
        Weight of ADMM's distances from box and sphere (rho_1 and rho_2).
    dual_step : float, default=1e-3
        Step size of ADMM's multipliers.
    max_iter : int, default=50
        Largest number of iterations of ADMM; 0 keeps the initial codes.
    tol : float, default=1e-4
        Stop ADMM once the relative change of the relaxed codes is below this.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}.
    """

    n_bits: int
    verbose: int

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_nearest_anchors": [Interval(Integral, 1, None, closed="left")],
        "bit_balance": [Interval(Real, 0, None, closed="left")],
        "decorrelation": [Interval(Real, 0, None, closed="left")],
        "admm_penalty": [Interval(Real, 0, None, closed="neither")],
        "dual_step": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_anchors: int = 500,
        n_nearest_anchors: int = 2,
        bit_balance: float = 5.0,
        decorrelation: float = 5.0,
        admm_penalty: float = 0.01,
        dual_step: float = 1e-3,
        max_iter: int = 50,
        tol: float = 1e-4,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.n_anchors = n_anchors
        self.n_nearest_anchors = n_nearest_anchors
        self.bit_balance = bit_balance
        self.decorrelation = decorrelation
        self.admm_penalty = admm_penalty
        self.dual_step = dual_step
        self.max_iter = max_iter
        self.tol = tol

    def _graph(
        self, X: NDArray[np.floating[Any]], random_state: np.random.RandomState
    ) -> AnchorGraph:
        return anchor_graph(
            X, self.n_anchors, n_neighbors=self.n_nearest_anchors, random_state=random_state
        )

    def _smooth(
        self, codes: NDArray[np.float64], graph: AnchorGraph, label: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Codes in {-1, 1} improved by ADMM, and the objective of each iteration."""

        def report(iteration: int, objective: float) -> None:
            print(f"[{label}] iteration {iteration}: objective {objective:.6g}")

        return smooth_codes(
            codes,
            graph,
            bit_balance=self.bit_balance,
            decorrelation=self.decorrelation,
            admm_penalty=self.admm_penalty,
            dual_step=self.dual_step,
            max_iter=self.max_iter,
            tol=self.tol,
            report=report if self.verbose else None,
        )


class SADHLinear(SmoothCodes, LinearHasher):
    r"""Similarity-adaptive discrete hashing with linear hash functions (SADH-L) [1]_.

    Solves for codes B of the n training samples that change little between
    neighbours on an anchor graph S of the features, and whose bits are balanced
    and uncorrelated,

    .. math::

        \min_{B \in \{-1, 1\}^{n \times r}} \operatorname{tr}(B^\top (I - S) B)
        + \frac{\rho_3}{n} \|B^\top 1\|^2 + \frac{\rho_4}{n} \|B^\top B - n I\|_F^2,

    by ADMM, with {-1, 1} as the intersection of a box and a sphere. It starts
    from the codes of ITQ. A ridge regression from features to codes then
    encodes new samples.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code; at most the number of samples and of features.
    ridge : float or "auto", default="auto"
        Strength of the ridge regression, in units of the mean variance of the
        features. "auto" selects the strength with the smallest generalised
        cross-validation error.
    random_state : int, RandomState instance or None, default=None
        Seed of ITQ's rotation and of k-means.
    verbose : int, default=0
        1 prints a line per iteration.
    **smoothing
        Parameters of the code solver.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Coefficients of the hash function.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Its intercepts.
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective of the relaxed codes after each iteration of ADMM.
    n_iter_ : int
        Number of iterations.
    ridge_ : float
        The strength of the ridge used.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    SADHHasher : A network that learns the codes, and a graph that follows the network.
    ITQ : The initial codes.

    Notes
    -----
    The released program weights both penalties by 1e-3 without dividing them
    by n; for the 5,000 samples that it was written for, this is 5 here. The
    solver keeps about thirty arrays of shape (n_samples, n_bits).

    References
    ----------
    .. [1] F. Shen, Y. Xu, L. Liu, Y. Yang, Z. Huang and H. T. Shen,
       "Unsupervised deep hashing with similarity-adaptive and discrete
       optimization", IEEE TPAMI 40(12), 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import SADHLinear
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> SADHLinear(n_bits=4, n_anchors=20, random_state=0).fit_transform(X).shape
    (100, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SmoothCodes._parameter_constraints,
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        ridge: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        **smoothing: Unpack[SmoothingParameters],
    ) -> None:
        super().__init__(**smoothing)
        self.n_bits = n_bits
        self.ridge = ridge
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Solve for the codes of the samples and learn to predict them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : None
            Ignored.

        Returns
        -------
        SADHLinear
            The fitted hasher.

        Raises
        ------
        ValueError
            If there are fewer samples or features than bits, or one sample only.
        """
        X = check_features(self, X, reset=True)
        check_n_samples(X)
        random_state = check_random_state(self.random_state)
        start = itq_codes(X, self.n_bits, random_state=random_state)
        graph = self._graph(X, random_state)
        codes, self.objective_ = self._smooth(start, graph, "SADHLinear")
        self.n_iter_ = len(self.objective_)
        self.codes_ = (codes > 0).astype(np.uint8)
        self.coef_, self.intercept_, self.ridge_ = RidgePath(X).fit(codes, self.ridge)
        warn_constant_bits(
            sign_bits(affine_values(X, self.coef_, self.intercept_)),
            "the features hardly vary; fit on samples that differ.",
        )
        return self
