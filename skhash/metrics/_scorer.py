"""Retrieval as a scikit-learn scorer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED

from ._ranking import leave_one_out_map


def retrieval_scorer(
    *,
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
    ties: str = "expected",
) -> RetrievalScorer:
    """Make a scorer of leave-one-out retrieval for cross-validation.

    Parameters
    ----------
    k : int, default=None
        Only the first k ranks count; all if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        See :func:`mean_average_precision`.
    empty : {"zero", "skip"}, default="zero"
        Whether samples that share no label with another count as 0 or not at
        all.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.

    Returns
    -------
    RetrievalScorer
        A callable ``scorer(estimator, X, y=None, labels=None)`` for the
        ``scoring`` of :class:`~sklearn.model_selection.GridSearchCV` and
        :func:`~sklearn.model_selection.cross_validate`. It encodes X and
        scores retrieval within it (:func:`leave_one_out_map`): relevant is
        what shares a label, or without ``labels`` a tag (``y``).

    Examples
    --------
    With tags as y, what shares a tag is relevant:

    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.preprocessing import Binarizer
    >>> from skhash.metrics import retrieval_scorer
    >>> X = np.array([[-1.0], [1.0], [-2.0], [2.0], [-3.0], [3.0], [-4.0], [4.0]])
    >>> tags = [["sea"], ["wood"]] * 4
    >>> cross_val_score(Binarizer(), X, tags, scoring=retrieval_scorer(), cv=2)
    array([1., 1.])

    Ground truth is routed, once metadata routing is enabled:

    >>> from sklearn import config_context
    >>> labels = ["blue", "green"] * 4
    >>> with config_context(enable_metadata_routing=True):
    ...     scorer = retrieval_scorer(k=1).set_score_request(labels=True)
    ...     cross_val_score(
    ...         Binarizer(), X, tags, scoring=scorer, cv=2, params={"labels": labels}
    ...     )
    array([1., 1.])
    """
    return RetrievalScorer(k=k, divisor=divisor, empty=empty, ties=ties)


# As an estimator it has parameters, a readable repr, and survives clone and pickle.
class RetrievalScorer(BaseEstimator):
    """Scorer made by :func:`retrieval_scorer`, which describes the parameters."""

    # scikit-learn makes `set_score_request` from the arguments of `score`, but for this one.
    __metadata_request__score: ClassVar = {"estimator": UNUSED}

    def __init__(
        self,
        *,
        k: int | None = None,
        divisor: str = "min",
        empty: str = "zero",
        ties: str = "expected",
    ) -> None:
        self.k = k
        self.divisor = divisor
        self.empty = empty
        self.ties = ties

    def __call__(self, estimator: Any, X: Any, y: Any = None, **params: Any) -> float:
        """Score a fitted hasher; see :meth:`score`."""
        return self.score(estimator, X, y, **params)

    def score(self, estimator: Any, X: Any, y: Any = None, labels: Any = None) -> float:
        """Score a fitted hasher.

        Parameters
        ----------
        estimator : fitted estimator
            Its ``transform`` gives codes of 0 and 1.
        X : n_samples samples
            Input of ``transform``.
        y : tags of n_samples items, default=None
            Relevance if ``labels`` is None.
        labels : labels of n_samples items, default=None
            Relevance.

        Returns
        -------
        float
            Mean average precision, in [0, 1].

        Raises
        ------
        ValueError
            If both ``y`` and ``labels`` are None.
        """
        if labels is None and y is None:
            raise ValueError(
                "retrieval_scorer needs labels or y: without either nothing is relevant."
            )
        return leave_one_out_map(
            np.asarray(estimator.transform(X)),
            y if labels is None else labels,
            name="y" if labels is None else "labels",
            **self.get_params(),
        )
