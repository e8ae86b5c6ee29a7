"""DSTDH with a linear hash function."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._ridge import RidgePath
from ..base import LinearHasher, check_features, warn_constant_bits
from ..codes import check_codes
from ..graphs import AnchorGraph, ConceptHypergraph, anchor_graph, concept_hypergraph
from ..social._tag_itq import tag_projection, weighted_tags
from ..tags import encode_tags
from ..unsupervised._itq import itq_rotation, principal_projection
from ._alm import DiscreteALM, signs

__all__ = ["DSTDHLinear"]

_PAPER_SAMPLES = 5325  # the training set on which the paper's weights were found

_PAPER_SETTINGS = {
    "mirflickr": {
        "alpha": 1e-2, "beta": 1e-3, "n_anchors": 100, "n_concepts": 500, "mu": 1e-2, "rho": 1.1,
    },
    "nus-wide": {
        "alpha": 10.0, "beta": 1e-4, "n_anchors": 700, "n_concepts": 700, "mu": 1.0, "rho": 2.0,
    },
}  # fmt: skip
_SOURCES = {
    # Algorithm 1 as printed; plain least squares.
    "paper": {
        "init": "random", "max_iter": 10, "balance": False, "tag_weight": 1.0, "ridge": 0.0,
    },
    # What the authors' program does: ITQ start, 4 iterations, a hypergraph of constant weights.
    "release": {
        "init": "itq", "max_iter": 4, "tol": 0.0, "balance": False, "tag_weight": 1.0,
        "ridge": 0.0, "concept_bandwidth": 40.0,
    },
}  # fmt: skip


class DSTDHLinear(LinearHasher):
    """Dual-level semantic transfer hashing with a linear hash function (DSTDH-L) [1]_.

    Codes of the training images are learned from three sides: images alike in
    their features get like codes (anchor graph, Eq. 2), tags predict the codes
    up to an l2,1 loss that forgives noisy tags (direct transfer, Eq. 3), and
    images that share latent concepts of features and tags get like codes
    (indirect transfer, hypergraph, Eq. 10). The codes are solved in {-1, +1}
    by augmented Lagrangian multipliers (Algorithm 1), then a ridge regression
    from features to codes is the hash function.

    The defaults are what serves best on validation data and leave the paper in
    these points; :meth:`preset` gives the paper's and the authors' program's:

    - the optimiser starts from the codes of :class:`~skhash.social.TagITQ`
      (the paper: random codes; the program: ITQ);
    - the graphs weigh less (``alpha``, ``beta``): what they gain where tags are
      noisy they lose where tags are clean;
    - the l2,1 loss weighs more the more samples there are (``tag_weight``; 1);
    - trivial directions are taken out of both graphs (``balance``; kept);
    - the hypergraph's bandwidth follows from the data (40);
    - the hash function corrects that of the start by a ridge regression
      (plain least squares of the codes).

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    alpha : float, default=0.003
        Weight of the anchor graph.
    beta : float, default=0.0003
        Weight of the hypergraph.
    n_anchors : int, default=100
        Number m of anchors, at most the number of samples.
    n_concepts : int, default=500
        Number a of concepts, at most the number of samples.
    mu : float, default=0.01
        Weight of the ALM penalty at the start.
    rho : float, default=1.1
        Factor by which the penalty grows with each iteration.
    init : {"tags", "itq", "random"} or array-like of shape (n_samples, n_bits), default="tags"
        Where the optimiser starts: from the codes of TagITQ (of ITQ where no
        tag tells images apart), of ITQ, from random codes, or from given codes
        in {0, 1}.
    shrinkage : {"bit", "sample"}, default="bit"
        The groups of the l2,1 norm: all residuals of a bit, as the paper
        defines the norm and its program computes it, or all residuals of an
        image.
    tag_weight : float or "auto", default="auto"
        Weight of the l2,1 loss, 1 in the paper. The norm of a bit's residuals
        grows with the root of the number of samples, the other terms with the
        number itself; "auto" is ``sqrt(n_samples / 5325)``, which is 1 at the
        size of the paper's training set and keeps the proportion at others.
    balance : bool, default=True
        Take the trivial eigenvectors out of both graphs. They favour codes
        that are the same for all images, which maximise the graph terms.
    direct : bool, default=True
        Direct transfer. False is the paper's ablation DSTDH-D.
    indirect : bool, default=True
        Indirect transfer. False is DSTDH-I.
    use_tags : bool, default=True
        Use tags at all. False is DSTDH-NT, the same as fitting without y.
    denoise : bool, default=True
        The l2,1 loss. False is DSTDH-T, the squared Frobenius norm.
    discrete : bool, default=True
        Solve in {-1, +1}. False is DSTDH-R, relaxed and cut at the mean.
    max_iter : int, default=20
        Most iterations of the optimiser.
    tol : float, default=1e-3
        Stop once at most this share of the bits changes in an iteration after
        the third.
    ridge : float or "auto", default="auto"
        Strength of the ridge regression from features to codes, in units of
        the mean variance of the features; 0 is plain least squares. "auto"
        takes the strength of least generalised cross-validation error, and
        where the start has a hash function of its own (``init`` "tags" or
        "itq"), keeps it and regresses only what it lacks: the codes less the
        mean of the start's codes and its scaled outputs.
    n_nearest_anchors : int, default=2
        Number of anchors that a sample is tied to.
    concept_bandwidth : float or None, default=None
        Bandwidth sigma of the hypergraph (Eq. 4). None: the mean distance to
        the nearest concept.
    tag_scale : float, default=1.0
        Factor of the tags beside the unit-norm features in the space where
        concepts are found.
    warm_start : bool, default=False
        Start from ``codes_`` of the previous fit, if they fit in shape.
    random_state : int, RandomState instance or None, default=None
        Seed of k-means, ITQ's rotation and random codes, and of the random
        projections that stand in for thousands of tags.
    verbose : int, default=0
        1 prints a line per iteration.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_features), dtype of X
        Coefficients of the hash function.
    intercept_ : ndarray of shape (n_bits,), dtype of X
        Its intercepts.
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective (Eq. 12 without the network's term) after each iteration.
    n_iter_ : int
        Number of iterations.
    ridge_ : float
        The strength of the ridge used.
    transfer_ : ndarray of shape (n_tags, n_bits), float32
        The semantic transfer matrix P (Eq. 18); rows belong to
        ``vocabulary_``. None without direct transfer, tags or iterations.
    vocabulary_ : ndarray of shape (n_tags,)
        The tags seen.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had str column names.

    See Also
    --------
    skhash.social.TagITQ : The start, and a baseline.
    skhash.unsupervised.ITQ : Learns from features alone.

    References
    ----------
    .. [1] "Dual-level Semantic Transfer Deep Hashing for Efficient Social Image
       Retrieval", IEEE Transactions on Circuits and Systems for Video
       Technology, 2020.

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

    _parameter_constraints: ClassVar = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_concepts": [Interval(Integral, 1, None, closed="left")],
        "mu": [Interval(Real, 0, None, closed="neither")],
        "rho": [Interval(Real, 1, None, closed="left")],
        "init": [StrOptions({"tags", "itq", "random"}), "array-like"],
        "shrinkage": [StrOptions({"bit", "sample"})],
        "tag_weight": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "balance": ["boolean"],
        "direct": ["boolean"],
        "indirect": ["boolean"],
        "use_tags": ["boolean"],
        "denoise": ["boolean"],
        "discrete": ["boolean"],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="both")],
        "ridge": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "n_nearest_anchors": [Interval(Integral, 1, None, closed="left")],
        "concept_bandwidth": [Interval(Real, 0, None, closed="neither"), None],
        "tag_scale": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        alpha: float = 3e-3,
        beta: float = 3e-4,
        n_anchors: int = 100,
        n_concepts: int = 500,
        mu: float = 1e-2,
        rho: float = 1.1,
        init: str | ArrayLike = "tags",
        shrinkage: str = "bit",
        tag_weight: float | str = "auto",
        balance: bool = True,
        direct: bool = True,
        indirect: bool = True,
        use_tags: bool = True,
        denoise: bool = True,
        discrete: bool = True,
        max_iter: int = 20,
        tol: float = 1e-3,
        ridge: float | str = "auto",
        n_nearest_anchors: int = 2,
        concept_bandwidth: float | None = None,
        tag_scale: float = 1.0,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.alpha = alpha
        self.beta = beta
        self.n_anchors = n_anchors
        self.n_concepts = n_concepts
        self.mu = mu
        self.rho = rho
        self.init = init
        self.shrinkage = shrinkage
        self.tag_weight = tag_weight
        self.balance = balance
        self.direct = direct
        self.indirect = indirect
        self.use_tags = use_tags
        self.denoise = denoise
        self.discrete = discrete
        self.max_iter = max_iter
        self.tol = tol
        self.ridge = ridge
        self.n_nearest_anchors = n_nearest_anchors
        self.concept_bandwidth = concept_bandwidth
        self.tag_scale = tag_scale
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def preset(cls, dataset: str = "mirflickr", *, source: str = "paper", **params: Any) -> Self:
        """The settings of the paper or of its authors' program.

        Parameters
        ----------
        dataset : {"mirflickr", "nus-wide"}, default="mirflickr"
            Whose weights alpha, beta, mu, rho and numbers of anchors and
            concepts (section IV-C of the paper).
        source : {"paper", "release"}, default="paper"
            "paper": Algorithm 1 from random codes, 10 iterations. "release":
            from ITQ codes, 4 iterations, hypergraph bandwidth 40. Both: no
            balance, plain least squares.
        **params
            Further parameters, such as ``n_bits``; they override the preset.

        Returns
        -------
        DSTDHLinear
            An unfitted hasher.

        Raises
        ------
        ValueError
            If there is no such dataset or source.
        """
        for name, value, known in (
            ("dataset", dataset, _PAPER_SETTINGS),
            ("source", source, _SOURCES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {sorted(known)}, got {value!r}.")
        return cls(**{**_PAPER_SETTINGS[dataset], **_SOURCES[source], **params})

    @_fit_context(prefer_skip_nested_validation=True)
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
            If lengths differ, there is one sample only, ``init`` does not fit,
            or ITQ is to start with more bits than features or samples.
        """
        X = check_features(self, X, reset=True)
        if len(X) < 2:
            raise ValueError("X has n_samples = 1: give at least 2 samples to learn codes from.")
        # A seed for each part, so that leaving one out leaves the others as they are.
        random_state = check_random_state(self.random_state)
        seeds = random_state.randint(np.iinfo(np.int32).max, size=3)
        given = self._given_codes(len(X))
        indicator = self._encode(y, len(X))
        visual = self._anchor_graph(X, seeds[0])
        conceptual = self._concept_hypergraph(X, indicator, seeds[1])
        path = RidgePath(X)
        codes, start = self._start(path, indicator, given, check_random_state(seeds[2]))
        solver = DiscreteALM(
            codes,
            indicator if self.direct else None,
            visual,
            conceptual,
            alpha=self.alpha,
            beta=self.beta,
            tag_weight=float(
                np.sqrt(len(X) / _PAPER_SAMPLES) if self.tag_weight == "auto" else self.tag_weight
            ),
            mu=self.mu,
            rho=self.rho,
            shrinkage=self.shrinkage,
            balance=self.balance,
            denoise=self.denoise,
            discrete=self.discrete,
        )
        self.n_iter_ = solver.run(
            self.max_iter, tol=self.tol, report=self._report if self.verbose else None
        )
        self.objective_ = np.asarray(solver.objective)
        self.transfer_ = solver.transfer
        self.codes_ = (solver.codes > 0).astype(np.uint8)
        self.coef_, self.intercept_, self.ridge_ = self._regress(path, solver.codes, codes, start)
        warn_constant_bits(
            self.codes_,
            "the features or tags hardly vary, or the graph terms outweigh the rest; "
            "lower alpha and beta, or set balance=True.",
        )
        return self

    def _encode(self, y: Any, n_samples: int) -> sp.csr_array:
        """Indicator of the tags, without columns if there are none; sets ``vocabulary_``."""
        if y is not None and self.use_tags:
            tags = encode_tags(y, n_samples=n_samples)
            if tags.indicator.nnz:  # columns without any tag are no tags
                self.vocabulary_ = tags.vocabulary
                return tags.indicator
        self.vocabulary_ = np.empty(0, dtype=object)
        return sp.csr_array((n_samples, 0), dtype=np.float32)

    def _anchor_graph(self, X: NDArray[Any], seed: int) -> AnchorGraph | None:
        if not self.alpha:
            return None
        return anchor_graph(
            X, self.n_anchors, n_neighbors=self.n_nearest_anchors, random_state=seed
        )

    def _concept_hypergraph(
        self, X: NDArray[Any], indicator: sp.csr_array, seed: int
    ) -> ConceptHypergraph | None:
        if not (self.indirect and self.beta):
            return None
        return concept_hypergraph(
            X,
            indicator,
            self.n_concepts,
            bandwidth=self.concept_bandwidth,
            tag_scale=self.tag_scale,
            random_state=seed,
        )

    def _given_codes(self, n_samples: int) -> NDArray[np.uint8] | None:
        """Codes that a user or the last fit gives to start from."""
        shape = (n_samples, self.n_bits)
        if self.warm_start and getattr(self, "codes_", np.empty(0)).shape == shape:
            return self.codes_
        if isinstance(self.init, str):
            return None
        codes = check_codes(self.init, name="init")
        if codes.shape != shape:
            raise ValueError(f"init must have shape {shape}, got {codes.shape}.")
        return codes

    def _start(
        self,
        path: RidgePath,
        indicator: sp.csr_array,
        given: NDArray[np.uint8] | None,
        random_state: np.random.RandomState,
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """Codes to start from, and the coefficients whose outputs have their signs, if any."""
        if given is not None:
            return signs(given - 0.5), None
        if self.init == "random":
            return signs(random_state.uniform(-1, 1, size=(len(path.X), self.n_bits))), None
        projection = None
        if self.init == "tags" and indicator.shape[1]:
            targets = weighted_tags(indicator, random_state)
            projection, _ = tag_projection(path, targets, self.n_bits)
        if projection is None or not projection.any():
            projection = principal_projection(path.X, self.n_bits)[1]
        V = path.project(projection)
        R, _ = itq_rotation(V, random_state=random_state)
        return signs(V @ R), R.T @ projection

    def _regress(
        self,
        path: RidgePath,
        codes: NDArray[np.float32],
        start_codes: NDArray[np.float32],
        start: NDArray[Any] | None,
    ) -> tuple[NDArray[Any], NDArray[Any], float]:
        """Coefficients, intercept and ridge strength of the hash function of solved codes."""
        if start is None or self.ridge != "auto":
            return path.fit(codes, self.ridge)
        # The start's outputs, scaled to come nearest its codes.
        outputs = path.project(start)
        scale = np.abs(outputs).sum(axis=0) / np.maximum(np.square(outputs).sum(axis=0), 1e-30)
        lacking = codes - (start_codes + outputs * scale) / 2
        coef, intercept, strength = path.fit(lacking)
        kept = start * scale[:, None]
        coef = coef + kept
        return coef, intercept - (kept @ path.mean).astype(coef.dtype), strength

    @staticmethod
    def _report(iteration: int, objective: float, changed: float) -> None:
        print(
            f"[DSTDHLinear] iteration {iteration}: objective {objective:.6g}, changed {changed:.2%}"
        )
