"""How good Hamming rankings are: average precision, precision, recall, nDCG.

A query's *relevant* items are those that share at least one label with it; R is their number in
the database. Items at the same distance are tied, and at 16 bits whole hundreds are: ``ties``
says how they count.

- "expected" (default): the exact expectation over a random order of the tied items, which no
  shuffling of the database changes;
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
        Labels that the database lacks are ignored.
    database_labels : labels of n_database items
        Ground truth in the same form. Items that share a label are relevant.
    k : int, default=None
        Only the first k ranks count; all if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        What the sum of precisions is divided by: the most relevant items that
        k ranks can hold, min(R, k); the relevant items of the database, R; or
        the relevant items found within k. All the same if k is None.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing in the database is relevant count as
        0 or not at all.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        How items at the same distance count: by the exact expectation over
        their random order, in database order, relevant first, relevant last.
    packed : bool, default=False
        Whether the codes are packed as by :func:`skhash.codes.pack`.
    n_jobs : int, default=None
        Number of threads that share the queries, -1 for all processors. None
        means as many as OpenMP would take: all, unless ``OMP_NUM_THREADS`` or
        threadpoolctl says less. The result is the same for any number.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.

    See Also
    --------
    average_precisions : The same, query by query.
    leave_one_out_map : Within one set of codes.

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
        Whether queries to which nothing is relevant get 0 or NaN.
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
        If codes, labels or options do not fit; the message names the argument.
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
        Ground truth, or tags, in any form that
        :func:`skhash.tags.encode_tags` takes. Items that share one are
        relevant to each other.
    k : int, default=None
        Only the first k ranks count; all if None.
    divisor : {"min", "relevant", "hits"}, default="min"
        See :func:`mean_average_precision`.
    empty : {"zero", "skip"}, default="zero"
        Whether samples that share no label with another count as 0 or not at
        all.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.
    name : str, default="labels"
        How error messages call ``labels``.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all samples.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.

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
        Number of ranks, the whole database if it has fewer items.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant count as 0 or not at all.
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
        If codes, labels or options do not fit; the message names the argument.
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
        Whether queries to which nothing is relevant count as 0 or not at all.
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
        If codes, labels or options do not fit; the message names the argument.
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

    An item may be relevant to a degree: the more labels it shares with the
    query, the greater its gain. The item at rank r counts its gain divided by
    ``log2(1 + r)``; the sum over the first k is divided by that of the ideal
    order.

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
        The gain of an item that shares s labels with the query: s, or
        2^s - 1, which some papers take. Or the gains themselves, at least 0,
        as array or sparse matrix.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant count as 0 or not at all.
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
        If codes, labels or options do not fit; the message names the argument.

    See Also
    --------
    sklearn.metrics.ndcg_score : The same of scores in place of codes.

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
        What to measure.
    divisor : {"min", "relevant", "hits"}, default="min"
        Of "map"; see :func:`mean_average_precision`.
    gain : {"linear", "exponential"} or array-like of shape (n_queries, n_database), \
            default="linear"
        Of "ndcg"; see :func:`ndcg_at_k`.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant count as 0 or not at all.
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
        If codes, labels or options do not fit; the message names the argument.
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
        Whether queries to which nothing is relevant count as 0 or not at all.
    ties : {"expected", "stable", "best", "worst"}, default="expected"
        See :func:`mean_average_precision`.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    precision : ndarray of shape (n_ks,)
        As :func:`precision_at_k` at each k.
    ks : ndarray of shape (n_ks,), int64
        The numbers of ranks.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
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
    """What retrieval in random order scores, exactly.

    Parameters
    ----------
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    metric : {"precision", "map", "recall", "ndcg"}, default="precision"
        Of what. The first two are both called "chance" in papers:

        - "precision": the mean share of the database that is relevant, R / n,
          the expected precision at any k of a random order, and the usual
          chance row of a MAP table;
        - "map": the expected mean average precision of a random order, which
          is higher, noticeably so for small databases:
          (H + (R - 1) (n - H) / (n - 1)) / n for a full ranking, with H the
          n-th harmonic number;
        - "recall", "ndcg": their expectation in a random order, at ``k``.
    k : int, default=None
        Cut-off of the ranking; precision does not depend on it.
    divisor : {"min", "relevant", "hits"}, default="min"
        Divisor for ``metric="map"``; see :func:`mean_average_precision`.
    gain : {"linear", "exponential"}, default="linear"
        Of ``metric="ndcg"``; see :func:`ndcg_at_k`.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant count as 0 or not at all.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If labels or options do not fit; the message names the argument.

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
    # All codes alike: the whole database is tied.
    query_codes, database_codes = (
        np.zeros((tags.n_samples, 1), np.uint8) for tags in (queries, database)
    )
    retrieval = Retrieval(query_codes, database_codes, queries, database, gain=gain)
    return float(score(retrieval, metric, check_k(k), divisor=divisor, empty=empty)[0])
