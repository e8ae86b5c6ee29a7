"""Metrics of Hamming rankings: average precision, precision, recall, nDCG.

A query's *relevant* items are those that share at least one label with it; R is their number in the
database. Items at the same distance are tied; with 16 bits these can be hundreds. ``ties`` says how
they count.

- "expected" (default): the exact expectation over a random order of the tied items; it does not
  depend on the order of the database;
- "stable": in database order, as a stable sort of the distances gives (most published code);
- "best", "worst": relevant ones first or last, the bounds of any tie-breaking.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import DIVISORS, GAINS, check_integer, check_option, label_pair
from ._distance_counts import Retrieval
from ._formulas import Floats
from ._table import (
    AT_RANKS,
    Measure,
    check_average_precision,
    check_k,
    curve_ranks,
    rank_for,
    score,
)


def mean_average_precision(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> float:
    """Mean average precision (MAP) of Hamming retrieval.

    The average precision of a query is the sum of the precisions at the ranks
    of its relevant items, divided by the number of relevant items. Published
    variants differ by more than 0.1 on the same codes; the defaults use the
    full ranking, count queries without a relevant item as 0, and do not depend
    on the order of the database. ``ties="stable"`` reproduces most published
    evaluation code.

    Parameters
    ----------
    query_codes : array-like of shape (n_queries, n_bits)
        Codes of 0 and 1.
    database_codes : array-like of shape (n_database, n_bits)
        Codes of 0 and 1.
    query_labels : labels of n_queries items
        Ground truth in any form that :func:`skhash.tags.encode_tags` takes.
        Labels that are not in the database are ignored.
    database_labels : labels of n_database items
        Ground truth in the same form. Items that share a label are relevant.
    k : int, default=None
        Only the first k ranks count; all if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        Divisor of the sum of precisions, for R relevant items in the database.
        "min" is min(R, k), the most relevant items that k ranks can hold.
        "relevant" is R. "hits" is the number of relevant items found within k.
        All are the same if k is None.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items in the database count as 0 or
        are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        How items at the same distance count: the exact expectation over a
        random order, the order of the database, relevant items first, or
        relevant items last.
    packed : bool, default=False
        Whether the codes are packed as by :func:`skhash.codes.pack`.
    n_jobs : int, default=None
        Number of threads that share the queries, -1 for all processors. None
        means as many as OpenMP would use: all, unless ``OMP_NUM_THREADS`` or
        threadpoolctl sets fewer. The result is the same for any number.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.

    See Also
    --------
    average_precisions : The same for each query.
    leave_one_out_map : The same within one set of codes.

    References
    ----------
    F. McSherry and M. Najork, "Computing information retrieval performance
    measures efficiently in the presence of tied scores", ECIR 2008.

    Examples
    --------
    >>> from skhash.metrics import mean_average_precision
    >>> query, labels = [[0, 0]], [["cat"]]
    >>> database = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> database_labels = [["dog"], ["cat"], ["dog"], ["dog"]]
    >>> mean_average_precision(query, database, labels, database_labels, ties="stable")
    0.5
    >>> round(mean_average_precision(query, database, labels, database_labels), 4)  # rank 2 or 3
    0.4167
    """
    check_average_precision(k, divisor, empty)
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    options: dict[str, Any] = {"divisor": divisor, "empty": empty, "ties": ties, "n_jobs": n_jobs}
    return float(score(retrieval, "map", check_k(k), **options)[0])


def average_precisions(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> Floats:
    """Average precision of each query.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    k : int, default=None
        Only the first k ranks count; all if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        See :func:`mean_average_precision`.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items get 0 or NaN.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    ndarray of shape (n_queries,)
        Average precisions, in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    check_average_precision(k, divisor, empty)
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    measure = Measure("map", check_k(k), empty, {"divisor": divisor})
    blocks = [
        np.where((ranked.n_relevant == 0) & (empty == "skip"), np.nan, measure.values(ranked)[:, 0])
        for ranked in rank_for([measure], retrieval, ties, n_jobs)
    ]
    return np.concatenate(blocks)


def leave_one_out_map(
    codes: ArrayLike,
    labels: Any,
    *,
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
    name: str = "labels",
) -> float:
    """Mean average precision with every item as the query against all others.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Codes of 0 and 1, of at least two samples.
    labels : labels of n_samples items
        Ground truth, or tags, in any form that :func:`skhash.tags.encode_tags`
        takes. Items that share a label are relevant to each other.
    k : int, default=None
        Only the first k ranks count; all if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        See :func:`mean_average_precision`.
    empty : {"zero", "skip"}, default="zero"
        Whether samples that share no label with another count as 0 or are left
        out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.
    name : str, default="labels"
        Name of ``labels`` in error messages.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all samples.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> from skhash.metrics import leave_one_out_map
    >>> codes = [[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0]]
    >>> leave_one_out_map(codes, ["cat", "cat", "dog", "dog"])
    1.0
    """
    check_average_precision(k, divisor, empty)
    retrieval = Retrieval.within(codes, labels, packed=packed, name=name)
    options: dict[str, Any] = {"divisor": divisor, "empty": empty, "ties": ties, "n_jobs": n_jobs}
    return float(score(retrieval, "map", check_k(k), **options)[0])


def precision_at_k(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    k: int,
    *,
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> float:
    """Mean share of relevant items among the first k.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    k : int
        Number of ranks; the whole database if it has fewer items.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    ks = [check_integer("k", k, 1)]
    return float(score(retrieval, "precision", ks, empty=empty, ties=ties, n_jobs=n_jobs)[0])


def recall_at_k(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    k: int,
    *,
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> float:
    """Mean share of the relevant items that is among the first k.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    k : int
        Number of ranks.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    ks = [check_integer("k", k, 1)]
    return float(score(retrieval, "recall", ks, empty=empty, ties=ties, n_jobs=n_jobs)[0])


def ndcg_at_k(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    k: int | None = None,
    *,
    gain: str | ArrayLike = "linear",
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> float:
    """Mean normalized discounted cumulative gain (nDCG) of the first k.

    Relevance is graded: the more labels an item shares with the query, the
    greater its gain. The gain of the item at rank r is divided by
    ``log2(1 + r)``. The sum over the first k is divided by the sum for the
    ideal order.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items, or None
        Ground truth; see :func:`mean_average_precision`. None if ``gain`` is a
        matrix.
    k : int, default=None
        Number of ranks; the full ranking if None.
    gain : {"linear", "exponential"} or array-like of shape (n_queries, n_database), \
            default="linear"
        Gain of an item that shares s labels with the query: s, or 2^s - 1 as
        in some papers. Or the gains themselves, at least 0, as an array or
        sparse matrix.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`; "best" and "worst" put greater
        gains first or last.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.

    See Also
    --------
    sklearn.metrics.ndcg_score : The same metric for scores instead of codes.

    References
    ----------
    K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR
    techniques", ACM Transactions on Information Systems 20(4), 2002.

    Examples
    --------
    >>> from skhash.metrics import ndcg_at_k
    >>> query, labels = [[0, 0]], [["cat", "sofa"]]
    >>> database = [[0, 0], [0, 1], [1, 1]]
    >>> database_labels = [["cat"], ["cat", "sofa"], ["dog"]]
    >>> round(ndcg_at_k(query, database, labels, database_labels), 4)
    0.8597
    """
    retrieval = Retrieval(
        query_codes, database_codes, query_labels, database_labels, packed=packed, gain=gain
    )
    ks = check_k(k)
    return float(score(retrieval, "ndcg", ks, empty=empty, ties=ties, n_jobs=n_jobs)[0])


def metric_curve(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    ks: ArrayLike | None = None,
    *,
    metric: str,
    divisor: str = "min",
    gain: str | ArrayLike = "linear",
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    """Any metric of the first k items, for several k.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items, or None
        Ground truth; see :func:`mean_average_precision`. None if ``gain`` is a
        matrix.
    ks : array-like of shape (n_ks,), int, default=None
        Numbers of ranks; 1, 2, .., min(n_database, 1000) if None.
    metric : {"map", "precision", "recall", "ndcg"}
        Metric to compute.
    divisor : {"min", "relevant", "hits"}, default="min"
        Divisor for "map"; see :func:`mean_average_precision`.
    gain : {"linear", "exponential"} or array-like of shape (n_queries, n_database), \
            default="linear"
        Gain for "ndcg"; see :func:`ndcg_at_k`.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    values : ndarray of shape (n_ks,)
        The metric at each k.
    ks : ndarray of shape (n_ks,), int64
        The numbers of ranks.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    check_option("metric", metric, AT_RANKS)
    check_option("divisor", divisor, DIVISORS)
    retrieval = Retrieval(
        query_codes, database_codes, query_labels, database_labels, packed=packed, gain=gain
    )
    ranks = curve_ranks(ks, retrieval.n_searched)
    options: dict[str, Any] = {"divisor": divisor, "empty": empty, "ties": ties, "n_jobs": n_jobs}
    return score(retrieval, metric, ranks, **options), ranks


def precision_curve(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    ks: ArrayLike | None = None,
    *,
    empty: str = "zero",
    ties: str = "expected",
    packed: bool = False,
    n_jobs: int | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    """Mean precision among the first k items, for several k.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    ks : array-like of shape (n_ks,), int, default=None
        Numbers of ranks; 1, 2, .., min(n_database, 1000) if None.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    precision : ndarray of shape (n_ks,)
        The result of :func:`precision_at_k` at each k.
    ks : ndarray of shape (n_ks,), int64
        The numbers of ranks.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    return metric_curve(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        ks,
        metric="precision",
        empty=empty,
        ties=ties,
        packed=packed,
        n_jobs=n_jobs,
    )


def chance_level(
    query_labels: Any,
    database_labels: Any,
    *,
    metric: str = "precision",
    k: int | None = None,
    divisor: str = "min",
    gain: str = "linear",
    empty: str = "zero",
) -> float:
    """Exact expectation of a metric for retrieval in random order.

    Parameters
    ----------
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    metric : {"precision", "map", "recall", "ndcg"}, default="precision"
        The metric. Papers call both of the first two "chance":

        - "precision": the mean share of the database that is relevant, R / n,
          the expected precision at any k of a random order, and the usual
          chance row of a MAP table;
        - "map": the expected mean average precision of a random order. It is
          higher than "precision", most of all for small databases:
          (H + (R - 1) (n - H) / (n - 1)) / n for a full ranking, with H the
          n-th harmonic number;
        - "recall", "ndcg": their expectation in a random order, at ``k``.
    k : int, default=None
        Cut-off of the ranking; precision does not depend on it.
    divisor : {"min", "relevant", "hits"}, default="min"
        Divisor for ``metric="map"``; see :func:`mean_average_precision`.
    gain : {"linear", "exponential"}, default="linear"
        Gain for ``metric="ndcg"``; see :func:`ndcg_at_k`.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> from skhash.metrics import chance_level
    >>> chance_level(["cat"], ["cat", "dog", "dog", "dog"])
    0.25
    >>> round(chance_level(["cat"], ["cat", "dog", "dog", "dog"], metric="map"), 4)
    0.5208
    """
    check_option("metric", metric, AT_RANKS)
    check_option("gain", gain, GAINS)
    check_average_precision(k, divisor, empty)
    queries, database = label_pair(query_labels, database_labels)
    # With equal codes the whole database is tied: a random order.
    query_codes, database_codes = (
        np.zeros((tags.n_samples, 1), np.uint8) for tags in (queries, database)
    )
    retrieval = Retrieval(query_codes, database_codes, queries, database, gain=gain)
    return float(score(retrieval, metric, check_k(k), divisor=divisor, empty=empty)[0])
