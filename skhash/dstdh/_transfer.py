"""The common part of the linear and the deep form of DSTDH: terms, start, solver, presets."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._decisions import affine_values, centred_projection
from .._parameters import ParametersMixin
from .._ridge import RidgePath
from .._rows import Features
from .._sklearn import Interval, StrOptions
from ..codes import check_codes
from ..graphs import AnchorGraph, ConceptHypergraph, anchor_graph, concept_hypergraph
from ..semantic._tag_hasher import TagCodesMixin, tagged_rows
from ..semantic._targets import TARGET_TYPES, SemanticTargets
from ..social._tag_itq import tag_projection
from ..tags import TagMatrix, encode_tags
from ..unsupervised._itq import itq_projection, itq_rotation
from ._alm import DiscreteALM, signs

__all__ = ["SemanticTransfer"]

_PAPER_SAMPLES = 5325  # size of the training set for which the paper chose its weights


class TransferParameters(TypedDict, total=False):
    """Parameters of :class:`SemanticTransfer`, for type checkers."""

    alpha: float
    beta: float
    n_anchors: int
    n_concepts: int
    mu: float
    rho: float
    init: str | ArrayLike
    target: Any
    shrinkage: str
    tag_weight: float | str
    deflate: bool
    direct: bool
    indirect: bool
    use_tags: bool
    denoise: bool
    discrete: bool
    max_iter: int
    tol: float
    n_nearest_anchors: int
    concept_bandwidth: float | None
    tag_scale: float


class SemanticTransfer(TagCodesMixin, ParametersMixin):
    """Mixin of the hashers that learn codes by dual-level semantic transfer.

    It comes before the hasher's other base class; ``**others`` are the
    parameters of that class.

    Parameters
    ----------
    alpha : float, default=0.003
        Weight of the anchor graph.
    beta : float, default=0.0003
        Weight of the hypergraph.
    n_anchors : int, default=100
        Number m of anchors, at most the number of samples.
    n_concepts : int, default=500
        Number a of concepts, at most the number of samples. Both graphs compare
        samples by their cosine: centre features whose mean is far from 0.
    mu : float, default=0.01
        Weight of the ALM penalty at the start.
    rho : float, default=1.1
        Factor by which the penalty grows with each iteration.
    init : str or array-like of shape (n_samples, n_bits), default="semantic"
        Where the optimiser starts. "semantic": codes of the meaning of tags, as
        TagITQ and TagITQHasher make them (codes of ITQ if the tags do not
        distinguish images). "itq": codes of ITQ. "random": random codes. Or
        given codes in {0, 1}.
    target : str, path, mapping, callable or SemanticSpace, default="ppmi"
        How tags become vectors, with ``init="semantic"``; see
        :class:`~skhash.SemanticTargets`.
    shrinkage : {"bit", "sample"}, default="bit"
        The groups of the l2,1 norm: all residuals of a bit, as the paper
        defines the norm and its program computes it, or all residuals of an
        image.
    tag_weight : float or "auto", default="auto"
        Weight of the l2,1 loss, 1 in the paper. The norm of a bit's residuals
        grows with the square root of the number of samples, the other terms
        with the number itself. "auto" is ``sqrt(n_samples / 5325) / 2``. The
        root keeps the proportion of the terms; the factor 1/2 is used because
        the paper's full weight makes codes of photos with clean tags worse
        than their start.
    deflate : bool, default=True
        Remove the trivial eigenvectors from both graphs. They favour codes
        that are the same for all images, which maximise the graph terms.
    direct : bool, default=True
        Use direct transfer. False is the paper's ablation DSTDH-D.
    indirect : bool, default=True
        Use indirect transfer. False is DSTDH-I.
    use_tags : bool, default=True
        Use tags. False is DSTDH-NT, the same as fitting without y.
    denoise : bool, default=True
        Use the l2,1 loss. False is DSTDH-T, the squared Frobenius norm.
    discrete : bool, default=True
        Solve in {-1, +1}. False is DSTDH-R: relaxed codes, cut at the mean.
    max_iter : int, default=20
        Maximum number of iterations of the optimiser.
    tol : float, default=1e-3
        Stop once at most this share of the bits changes in an iteration after
        the third.
    n_nearest_anchors : int, default=2
        Number of anchors to which a sample is connected.
    concept_bandwidth : float or None, default=None
        Bandwidth sigma of the hypergraph (Eq. 4). None: the mean distance to
        the nearest concept.
    tag_scale : float, default=1.0
        Factor of the tags in the space of concepts, where they are stacked
        with the unit-norm features.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective (Eq. 12 without the network's term) after each iteration.
    history_ : list of dict
        For each iteration: the objective, its terms and the share of bits that
        changed.
    targets_ : SemanticTargets or None
        The vectors of the tags; None without tags.
    transfer_ : ndarray of shape (n_tags, n_bits), float32
        The semantic transfer matrix P (Eq. 18), one row per tag of
        ``vocabulary_``. None without direct transfer, tags or iterations.
    vocabulary_ : ndarray of shape (n_tags,)
        The tags seen in ``fit``.
    """

    n_bits: int
    random_state: Any

    # Presets: weights by dataset, the other settings by source.
    _datasets: ClassVar[dict[str, dict[str, Any]]] = {
        "mirflickr": {
            "alpha": 1e-2, "beta": 1e-3, "n_anchors": 100, "n_concepts": 500,
            "mu": 1e-2, "rho": 1.1,
        },
        "nus-wide": {
            "alpha": 10.0, "beta": 1e-4, "n_anchors": 700, "n_concepts": 700,
            "mu": 1.0, "rho": 2.0,
        },
    }  # fmt: skip
    _sources: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"init": "random", "deflate": False, "tag_weight": 1.0},
        # The authors' program starts from ITQ and has a hypergraph of nearly constant weights.
        "release": {
            "init": "itq", "max_iter": 4, "tol": 0.0, "deflate": False, "tag_weight": 1.0,
            "concept_bandwidth": 40.0,
        },
    }  # fmt: skip

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_concepts": [Interval(Integral, 1, None, closed="left")],
        "mu": [Interval(Real, 0, None, closed="neither")],
        "rho": [Interval(Real, 1, None, closed="left")],
        "init": [StrOptions({"semantic", "itq", "random"}), "array-like"],
        "target": TARGET_TYPES,
        "shrinkage": [StrOptions({"bit", "sample"})],
        "tag_weight": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "deflate": ["boolean"],
        "direct": ["boolean"],
        "indirect": ["boolean"],
        "use_tags": ["boolean"],
        "denoise": ["boolean"],
        "discrete": ["boolean"],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="both")],
        "n_nearest_anchors": [Interval(Integral, 1, None, closed="left")],
        "concept_bandwidth": [Interval(Real, 0, None, closed="neither"), None],
        "tag_scale": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        alpha: float = 3e-3,
        beta: float = 3e-4,
        n_anchors: int = 100,
        n_concepts: int = 500,
        mu: float = 1e-2,
        rho: float = 1.1,
        init: str | ArrayLike = "semantic",
        target: Any = "ppmi",
        shrinkage: str = "bit",
        tag_weight: float | str = "auto",
        deflate: bool = True,
        direct: bool = True,
        indirect: bool = True,
        use_tags: bool = True,
        denoise: bool = True,
        discrete: bool = True,
        max_iter: int = 20,
        tol: float = 1e-3,
        n_nearest_anchors: int = 2,
        concept_bandwidth: float | None = None,
        tag_scale: float = 1.0,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.alpha = alpha
        self.beta = beta
        self.n_anchors = n_anchors
        self.n_concepts = n_concepts
        self.mu = mu
        self.rho = rho
        self.init = init
        self.target = target
        self.shrinkage = shrinkage
        self.tag_weight = tag_weight
        self.deflate = deflate
        self.direct = direct
        self.indirect = indirect
        self.use_tags = use_tags
        self.denoise = denoise
        self.discrete = discrete
        self.max_iter = max_iter
        self.tol = tol
        self.n_nearest_anchors = n_nearest_anchors
        self.concept_bandwidth = concept_bandwidth
        self.tag_scale = tag_scale

    @classmethod
    def preset(cls, dataset: str = "mirflickr", *, source: str = "paper", **params: Any) -> Self:
        """Make a hasher with the settings of the paper or of its authors' program.

        Parameters
        ----------
        dataset : {"mirflickr", "nus-wide"}, default="mirflickr"
            The dataset for which the paper chose alpha, beta, mu, rho and the
            numbers of anchors and concepts (section IV-C).
        source : {"paper", "release"}, default="paper"
            "paper": Algorithm 1 as printed, from random codes. "release": 4
            iterations from ITQ codes, with hypergraph bandwidth 40. Neither
            uses deflation.
        **params
            Further parameters, such as ``n_bits``; they override the preset.

        Returns
        -------
        estimator
            An unfitted hasher of this class.

        Raises
        ------
        ValueError
            If there is no such dataset or source.
        """
        for name, value, known in (
            ("dataset", dataset, cls._datasets),
            ("source", source, cls._sources),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {sorted(known)}, got {value!r}.")
        return cls(**{**cls._datasets[dataset], **cls._sources[source], **params})

    def _encode(self, y: Any, n_samples: int) -> sp.csr_array:
        """Indicator of the tags, without columns if there are none; sets ``vocabulary_``."""
        if y is not None and self.use_tags:
            tags = encode_tags(y, n_samples=n_samples)
            if tags.indicator.nnz:  # an indicator of zeros is the same as no tags
                self.vocabulary_ = tags.vocabulary
                return tags.indicator
        self.vocabulary_ = np.empty(0, dtype=object)
        return sp.csr_array((n_samples, 0), dtype=np.float32)

    def _describe(self, indicator: sp.csr_array, seed: int) -> Any:
        """Vectors of the tags of the training images; None if no image has any.

        Sets ``targets_``. The codes of tags stay None until codes are learned.
        """
        self.targets_: SemanticTargets | None = None
        self._tag_codes = None
        if not indicator.shape[1]:
            return None
        targets = SemanticTargets(self.target, random_state=seed)
        vectors = targets._fit_rows(TagMatrix(indicator, self.vocabulary_))
        if not len(tagged_rows(vectors)):
            return None
        self.targets_ = targets
        return vectors

    def _graphs(
        self, X: Features, indicator: sp.csr_array, seeds: NDArray[Any]
    ) -> tuple[AnchorGraph | None, ConceptHypergraph | None]:
        """Anchor graph and hypergraph; None for one that is not in use."""
        visual = conceptual = None
        if self.alpha:
            visual = anchor_graph(
                X, self.n_anchors, n_neighbors=self.n_nearest_anchors, random_state=seeds[0]
            )
        if self.indirect and self.beta:
            conceptual = concept_hypergraph(
                X,
                indicator,
                self.n_concepts,
                bandwidth=self.concept_bandwidth,
                tag_scale=self.tag_scale,
                random_state=seeds[1],
            )
        return visual, conceptual

    def _given_codes(self, n_samples: int) -> NDArray[np.uint8] | None:
        """Codes to start from, given by the user."""
        shape = (n_samples, self.n_bits)
        if isinstance(self.init, str):
            return None
        codes = check_codes(self.init, name="init")
        if codes.shape != shape:
            raise ValueError(f"init must have shape {shape}, got {codes.shape}.")
        return codes

    def _starting_codes(
        self,
        path: RidgePath,
        vectors: Any,
        given: NDArray[np.uint8] | None,
        seed: int,
    ) -> tuple[NDArray[np.int8], NDArray[Any] | None]:
        """Codes to start from, and the coefficients whose output signs they are, if any."""
        random_state = check_random_state(seed)
        if given is not None:
            return signs(given - np.float32(0.5)), None
        if self.init == "random":
            return signs(random_state.uniform(-1, 1, size=(len(path.X), self.n_bits))), None
        projection = None
        if self.init == "semantic" and vectors is not None:
            projection = tag_projection(path, vectors, self.n_bits).projection
        if projection is not None and projection.any():
            R, _ = itq_rotation(path.project(projection), random_state=random_state)
            mean: NDArray[np.floating[Any]] = path.mean
            coef = R.T @ projection
        else:
            mean, coef, _ = itq_projection(path.X, self.n_bits, random_state=random_state)
        values = affine_values(path.X, *centred_projection(mean, coef, path.X.dtype))
        return signs(values), coef

    def _solver(
        self,
        codes: NDArray[np.int8],
        indicator: sp.csr_array,
        visual: AnchorGraph | None,
        conceptual: ConceptHypergraph | None,
        **weights: float,
    ) -> DiscreteALM:
        """The optimiser before its first iteration."""
        tag_weight = self.tag_weight
        if isinstance(tag_weight, str):
            tag_weight = float(np.sqrt(len(codes) / _PAPER_SAMPLES)) / 2
        return DiscreteALM(
            codes,
            indicator if self.direct else None,
            visual,
            conceptual,
            alpha=self.alpha,
            beta=self.beta,
            tag_weight=tag_weight,
            mu=self.mu,
            rho=self.rho,
            shrinkage=self.shrinkage,
            deflate=self.deflate,
            denoise=self.denoise,
            discrete=self.discrete,
            **weights,
        )

    def _report(self, iteration: int, objective: float, changed: float, when: str = "") -> None:
        print(
            f"[{type(self).__name__}] {when}iteration {iteration}: objective {objective:.6g}, "
            f"changed {changed:.2%}"
        )
