"""DSTDH with a linear hash function."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._decisions import affine_values
from .._ridge import RidgePath
from .._rows import row_blocks
from .._sklearn import Interval, StrOptions, fit_context
from ..base import LinearHasher, check_features, check_n_samples, warn_constant_bits
from ._transfer import SemanticTransfer, TransferParameters

__all__ = ["DSTDHLinear"]


class DSTDHLinear(SemanticTransfer, LinearHasher):
    """Dual-level semantic transfer hashing with a linear hash function (DSTDH-L) [1]_.

    The objective for the codes of the training images has three parts. Images
    with similar features get similar codes (anchor graph, Eq. 2). Tags predict
    the codes, with an l2,1 loss that is robust to noisy tags (direct transfer,
    Eq. 3). Images that share latent concepts of features and tags get similar
    codes (indirect transfer, hypergraph, Eq. 10). Augmented Lagrangian
    multipliers solve for codes in {-1, +1} (Algorithm 1). Then a ridge
    regression from features to codes gives the hash function.

    The defaults were chosen on validation data. They differ from the paper in
    the following points. :meth:`preset` gives the settings of the paper or of
    the authors' program.

    - The optimiser starts from codes of the meaning of tags, as
      :class:`~skhash.TagITQ` without a kernel makes them
      (paper: random codes; program: ITQ).
    - The graphs have smaller weights ``alpha`` and ``beta``. Large weights
      help where tags are noisy, but harm where tags are clean.
    - The weight of the l2,1 loss, ``tag_weight``, grows with the number of
      samples (paper: 1).
    - ``deflate`` removes the trivial directions from both graphs (paper: they
      are kept).
    - The bandwidth of the hypergraph is computed from the data (program: 40).
    - A ridge regression corrects the hash function of the start (paper: plain
      least squares of the codes).

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    ridge : float or "auto", default="auto"
        Strength of the ridge regression from features to codes, in units of
        the mean variance of the features; 0 is plain least squares. "auto"
        takes the strength with the smallest generalised cross-validation
        error. If the start has a hash function (``init`` "semantic" or "itq"),
        "auto" also keeps that function and fits only the remainder: the codes
        minus the mean of the start's codes and its scaled outputs.
    warm_start : bool, default=False
        Start from ``codes_`` of the previous fit, if they have the right shape.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means, ITQ's rotation and random codes, and of the random
        projections that are used if there are thousands of tags.
    verbose : int, default=0
        1 prints a line per iteration.
    **transfer
        Parameters of the semantic transfer, as in DSTDHHasher.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Coefficients of the hash function.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Intercepts of the hash function.
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
    skhash.TagITQ : The start, and a baseline.
    skhash.ITQ : Learns from features alone.

    References
    ----------
    .. [1] L. Zhu, H. Cui, Z. Cheng, J. Li and Z. Zhang, "Dual-level semantic
       transfer deep hashing for efficient social image retrieval", IEEE
       Transactions on Circuits and Systems for Video Technology, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import DSTDHLinear
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> tags = [["warm", "sun"] if row[0] > 0 else ["cold"] for row in X]
    >>> hasher = DSTDHLinear(n_bits=4, n_concepts=20, random_state=0).fit(X, tags)
    >>> hasher.transform(X[:2]).shape
    (2, 4)
    """

    # For the linear form the paper names least squares, but no stopping rule.
    _sources: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {**SemanticTransfer._sources["paper"], "max_iter": 10, "ridge": 0.0},
        "release": {**SemanticTransfer._sources["release"], "ridge": 0.0},
    }

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SemanticTransfer._parameter_constraints,
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        ridge: float | str = "auto",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        **transfer: Unpack[TransferParameters],
    ) -> None:
        super().__init__(**transfer)
        self.n_bits = n_bits
        self.ridge = ridge
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn codes and hash function from features and tags.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : tags of n_samples images, default=None
            In any form that :func:`skhash.tags.encode_tags` takes. None is the
            tagless form DSTDH-NT.

        Returns
        -------
        DSTDHLinear
            The fitted hasher.

        Raises
        ------
        ValueError
            If lengths differ, there is only one sample, ``init`` has the wrong
            shape, or the start is ITQ with more bits than features or samples.
        """
        data = check_features(self, X, reset=True, in_blocks=True)
        check_n_samples(data)
        # A seed for each part, so that the other parts do not change if one is left out.
        random_state = check_random_state(self.random_state)
        seeds = random_state.randint(np.iinfo(np.int32).max, size=3)
        given = self._given_codes(len(data))
        indicator = self._encode(y, len(data))
        path = RidgePath(data)
        vectors = self._describe(indicator, seeds[2])
        codes, start = self._starting_codes(path, vectors, given, seeds[2])
        solver = self._solver(codes, indicator, *self._graphs(data, indicator, seeds))
        self.n_iter_ = solver.run(
            self.max_iter, tol=self.tol, report=self._report if self.verbose else None
        )
        self.history_ = solver.history
        self.objective_ = np.asarray(solver.objective)
        self.transfer_ = solver.transfer
        self.codes_ = (solver.codes > 0).astype(np.uint8)
        solved = solver.codes
        del solver  # and the graphs with it, which are large
        self.coef_, self.intercept_, self.ridge_ = self._regress(path, solved, codes, start)
        warn_constant_bits(
            self.codes_,
            "the features or tags have almost no variance, or the graph terms are too large; "
            "lower alpha and beta, or set deflate=True.",
        )
        if vectors is not None:
            values = affine_values(data, self.coef_, self.intercept_)
            self._learn_tag_codes(vectors, values)
        return self

    def _given_codes(self, n_samples: int) -> NDArray[np.uint8] | None:
        """Codes to start from, given by the user or the last fit."""
        shape = (n_samples, self.n_bits)
        if self.warm_start and getattr(self, "codes_", np.empty(0)).shape == shape:
            return self.codes_
        return super()._given_codes(n_samples)

    def _regress(
        self,
        path: RidgePath,
        codes: NDArray[np.int8],
        start_codes: NDArray[np.int8],
        start: NDArray[Any] | None,
    ) -> tuple[NDArray[Any], NDArray[Any], float]:
        """Coefficients, intercept and ridge strength of the hash function for solved codes."""
        if start is None or self.ridge != "auto":
            return path.fit(codes, self.ridge)
        # The start's outputs, scaled to be nearest to its codes.
        outputs = path.project(start)
        sizes, squares = np.zeros((2, self.n_bits))
        for _, block in row_blocks(outputs):
            sizes += np.abs(block).sum(axis=0)
            squares += np.square(block).sum(axis=0)
        scale = (sizes / np.maximum(squares, 1e-30)).astype(outputs.dtype)
        # The remainder, in place: codes - (start_codes + outputs * scale) / 2.
        outputs *= scale
        outputs += start_codes
        outputs *= -0.5
        outputs += codes
        coef, intercept, strength = path.fit(outputs)
        kept = start * scale[:, None]
        coef = coef + kept
        return coef, intercept - (kept @ path.mean).astype(coef.dtype), strength
