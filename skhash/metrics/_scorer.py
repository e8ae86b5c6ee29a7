"""Retrieval as a scikit-learn scorer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED

from ._checks import check_integer, check_option
from ._distance_counts import Retrieval
from ._table import METRICS, check_average_precision, check_k, score


def retrieval_scorer(
    metric: str = "map",
    *,
    k: int | None = None,
    radius: int = 2,
    divisor: str = "min",
    gain: str = "linear",
    empty: str = "zero",
    ties: str = "expected",
    n_jobs: int | None = None,
) -> RetrievalScorer:
    """Make a scorer of leave-one-out retrieval for cross-validation.

    Parameters
    ----------
    metric : {"map", "precision", "recall", "ndcg", "precision_within_radius"}, default="map"
        Metric of the score.
    k : int, default=None
        Only the first k ranks count; all if None. Precision and recall need it.
    radius : int, default=2
        Radius for "precision_within_radius".
    divisor : {"min", "relevant", "hits"}, default="min"
        Divisor for "map"; see :func:`mean_average_precision`.
    gain : {"linear", "exponential"}, default="linear"
        Gain for "ndcg"; see :func:`ndcg_at_k`.
    empty : {"zero", "skip"}, default="zero"
        Whether samples that share no label with another count as 0 or are left
        out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    RetrievalScorer
        A callable ``scorer(estimator, X, y=None, labels=None)`` for the
        ``scoring`` of :class:`~sklearn.model_selection.GridSearchCV` and
        :func:`~sklearn.model_selection.cross_validate`. It encodes X and
        scores retrieval within it (:func:`leave_one_out_map`): samples are
        relevant to each other if they share a label, or a tag (``y``) if
        ``labels`` is None. If both are None it raises an error, which
        scikit-learn turns into scores of NaN and a warning.

    Examples
    --------
    With tags as y, samples that share a tag are relevant to each other:

    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.preprocessing import Binarizer
    >>> from skhash.metrics import retrieval_scorer
    >>> X = np.array([[-1.0], [1.0], [-2.0], [2.0], [-3.0], [3.0], [-4.0], [4.0]])
    >>> tags = [["sea"], ["wood"]] * 4
    >>> cross_val_score(Binarizer(), X, tags, scoring=retrieval_scorer(), cv=2)
    array([1., 1.])

    Ground truth can be passed as ``labels`` if metadata routing is enabled:

    >>> from sklearn import config_context
    >>> labels = ["blue", "green"] * 4
    >>> with config_context(enable_metadata_routing=True):
    ...     scorer = retrieval_scorer(k=1).set_score_request(labels=True)
    ...     cross_val_score(
    ...         Binarizer(), X, tags, scoring=scorer, cv=2, params={"labels": labels}
    ...     )
    array([1., 1.])
    """
    return RetrievalScorer(
        metric,
        k=k,
        radius=radius,
        divisor=divisor,
        gain=gain,
        empty=empty,
        ties=ties,
        n_jobs=n_jobs,
    )


# As an estimator it has parameters and a readable repr, and can be cloned and pickled.
class RetrievalScorer(BaseEstimator):
    """Scorer made by :func:`retrieval_scorer`, which describes the parameters."""

    # scikit-learn makes `set_score_request` from the arguments of `score`, except this one.
    __metadata_request__score: ClassVar = {"estimator": UNUSED}

    def __init__(
        self,
        metric: str = "map",
        *,
        k: int | None = None,
        radius: int = 2,
        divisor: str = "min",
        gain: str = "linear",
        empty: str = "zero",
        ties: str = "expected",
        n_jobs: int | None = None,
    ) -> None:
        self.metric = metric
        self.k = k
        self.radius = radius
        self.divisor = divisor
        self.gain = gain
        self.empty = empty
        self.ties = ties
        self.n_jobs = n_jobs

    def __call__(self, estimator: Any, X: Any, y: Any = None, **params: Any) -> float:
        """Score a fitted hasher; see :meth:`score`."""
        return self.score(estimator, X, y, **params)

    def score(self, estimator: Any, X: Any, y: Any = None, labels: Any = None) -> float:
        """Score a fitted hasher.

        Parameters
        ----------
        estimator : fitted estimator
            Its ``transform`` returns codes of 0 and 1.
        X : n_samples samples
            Input of ``transform``.
        y : tags of n_samples items, default=None
            Tags that define relevance if ``labels`` is None.
        labels : labels of n_samples items, default=None
            Labels that define relevance.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        ValueError
            If both ``y`` and ``labels`` are None, or X has one sample only.
        """
        cut = self._cut()
        if labels is None and y is None:
            raise ValueError(
                "score needs labels or y: without either nothing is relevant. In a search or "
                "cross-validation give tags as y, or pass labels: call "
                "sklearn.set_config(enable_metadata_routing=True) and set_score_request(labels="
                "True) of the hasher, or of the retrieval_scorer that is given as scoring; then "
                "fit(X, labels=labels)."
            )
        codes = np.asarray(estimator.transform(X))
        if len(codes) < 2:
            raise ValueError("X must have at least 2 samples: each is ranked against the others.")
        retrieval = Retrieval.within(
            codes,
            y if labels is None else labels,
            gain=self.gain,
            name="y" if labels is None else "labels",
        )
        options: dict[str, Any] = {"empty": self.empty, "ties": self.ties, "n_jobs": self.n_jobs}
        return float(score(retrieval, self.metric, cut, divisor=self.divisor, **options)[0])

    def _cut(self) -> list[int] | None:
        """Check the options; where the metric is measured."""
        check_option("metric", self.metric, tuple(METRICS))
        check_average_precision(self.k, self.divisor, self.empty)
        metric = METRICS[self.metric]
        if metric.cut == "radius":
            return [check_integer("radius", self.radius, 0)]
        if self.k is None and not metric.whole:
            raise ValueError(
                f"k must be given for metric={self.metric!r}: a full ranking has the same value "
                "for all codes."
            )
        return check_k(self.k)
