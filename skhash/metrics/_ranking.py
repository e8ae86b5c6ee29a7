"""How good Hamming rankings are: average precision, precision, recall.

A query's *relevant* items are those that share at least one label with it; R is their number in
the database. Items at the same distance are tied, and at 16 bits whole hundreds are: ``ties``
says how they count.

- "expected" (default): the exact expectation over a random order of the tied items, which no
  shuffling of the database changes;
- "stable": in database order, as a stable sort of the distances gives (most published code);
- "best", "worst": relevant ones first or last, the bounds of any tie-breaking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import AVERAGES, DIVISORS, EMPTY, check_integer, check_option, check_ranks
from ._counting import Groups, Retrieval, tag_pair
from ._formulas import Floats, Mean, RadiusCurve, average_precision, hits_at


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
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    return _map(retrieval, k, divisor, empty, ties)


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

    Returns
    -------
    ndarray of shape (n_queries,)
        Average precisions, in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
    """
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    check_average_precision(k, divisor, empty)
    blocks = [
        np.where(
            (ranking.n_relevant == 0) & (empty == "skip"),
            np.nan,
            average_precision(ranking, k, divisor),
        )
        for _, ranking in retrieval.rankings(ties, k)
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
    retrieval = Retrieval.within(codes, labels, packed=packed, name=name)
    return _map(retrieval, k, divisor, empty, ties)


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

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
    """
    precision, _ = precision_curve(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        [check_integer("k", k, 1)],
        empty=empty,
        ties=ties,
        packed=packed,
    )
    return float(precision[0])


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
    check_option("empty", empty, EMPTY)
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    ranks = curve_ranks(ks, retrieval.n_searched)
    hits = _mean(retrieval, ties, int(ranks.max()), empty, lambda groups: hits_at(groups, ranks))
    return hits / np.minimum(ranks, retrieval.n_searched), ranks


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

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
    """
    check_option("empty", empty, EMPTY)
    ranks = np.array([check_integer("k", k, 1)])
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)

    def recall(groups: Groups) -> Floats:
        return hits_at(groups, ranks)[:, 0] / np.maximum(groups.n_relevant, 1)

    return float(_mean(retrieval, ties, k, empty, recall))


def precision_within_radius(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    radius: int = 2,
    empty: str = "zero",
    packed: bool = False,
) -> float:
    """Mean share of relevant items among those within a Hamming radius.

    This is the precision of a hash table lookup. A query that retrieves
    nothing has precision 0.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    radius : int, default=2
        Items in at most this many bits different are retrieved.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant count as 0 or not at all.
    packed : bool, default=False
        Whether the codes are packed.

    Returns
    -------
    float
        In [0, 1]; NaN, with a warning, if ``empty="skip"`` skips all queries.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
    """
    check_integer("radius", radius, 0)
    precision, _, radii = precision_recall_by_radius(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        average="macro",
        empty=empty,
        packed=packed,
    )
    return float(precision[min(radius, radii[-1])])


def precision_recall_by_radius(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    average: str = "micro",
    empty: str = "zero",
    packed: bool = False,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Precision and recall of what lies within each Hamming radius.

    Parameters
    ----------
    query_codes, database_codes : array-like of shape (n, n_bits)
        Codes of 0 and 1.
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    average : {"micro", "macro"}, default="micro"
        "micro" pools all (query, item) pairs: relevant pairs retrieved,
        divided by the pairs retrieved (precision) and by all relevant pairs
        (recall), as in the precision-recall curves of the hashing literature.
        "macro" averages each query's precision and recall.
    empty : {"zero", "skip"}, default="zero"
        Whether queries to which nothing is relevant take part (with precision
        and recall 0) or are left out.
    packed : bool, default=False
        Whether the codes are packed.

    Returns
    -------
    precision : ndarray of shape (n_bits + 1,)
        0 where nothing is retrieved.
    recall : ndarray of shape (n_bits + 1,)
        Never decreases with the radius.
    radius : ndarray of shape (n_bits + 1,), int64
        0, 1, .., n_bits, where n_bits is that of whole bytes for packed codes.

    Raises
    ------
    ValueError, TypeError
        If codes, labels or options do not fit; the message names the argument.
    """
    check_option("average", average, AVERAGES)
    check_option("empty", empty, EMPTY)
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    curve = RadiusCurve(average, empty)
    for by_distance, _ in retrieval.rankings():
        curve.add(by_distance)
    precision, recall = curve.result()
    return precision, recall, np.arange(retrieval.n_bits + 1)


def chance_level(
    query_labels: Any,
    database_labels: Any,
    *,
    metric: str = "precision",
    k: int | None = None,
    divisor: str = "min",
    empty: str = "zero",
) -> float:
    """What retrieval in random order scores, exactly.

    Parameters
    ----------
    query_labels, database_labels : labels of n items
        Ground truth; see :func:`mean_average_precision`.
    metric : {"precision", "map"}, default="precision"
        "precision" is the mean share of the database that is relevant, R / n:
        the expected precision at any k of a random order, and the usual chance
        row of a MAP table. "map" is the expected mean average precision of a
        random order, which is higher, noticeably so for small databases:
        (H + (R - 1) (n - H) / (n - 1)) / n for a full ranking, with H the n-th
        harmonic number.
    k : int, default=None
        Cut-off of the ranking for ``metric="map"``.
    divisor : {"min", "relevant", "hits"}, default="min"
        Divisor for ``metric="map"``; see :func:`mean_average_precision`.
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
    check_option("metric", metric, ("precision", "map"))
    check_average_precision(k, divisor, empty)
    queries, database = tag_pair(query_labels, database_labels)
    # All codes alike: the whole database is tied.
    query_codes, database_codes = (
        np.zeros((tags.n_samples, 1), np.uint8) for tags in (queries, database)
    )
    if metric == "precision":
        return precision_at_k(query_codes, database_codes, queries, database, 1, empty=empty)
    return mean_average_precision(
        query_codes, database_codes, queries, database, k=k, divisor=divisor, empty=empty
    )


def check_average_precision(k: int | None, divisor: str, empty: str) -> None:
    """Check the options of average precision."""
    if k is not None:
        check_integer("k", k, 1)
    check_option("divisor", divisor, DIVISORS)
    check_option("empty", empty, EMPTY)


def curve_ranks(ks: ArrayLike | None, n_searched: int) -> NDArray[np.int64]:
    """Check the ranks of a precision curve, or choose them."""
    return np.arange(1, min(n_searched, 1000) + 1) if ks is None else check_ranks("ks", ks)


def _mean(
    retrieval: Retrieval,
    ties: str,
    limit: int | None,
    empty: str,
    value: Callable[[Groups], NDArray[Any]],
) -> Any:
    """Mean over queries of a value of their rankings."""
    mean = Mean(empty)
    for _, ranking in retrieval.rankings(ties, limit):
        mean.add(value(ranking), ranking.n_relevant)
    return mean.result()


def _map(retrieval: Retrieval, k: int | None, divisor: str, empty: str, ties: str) -> float:
    check_average_precision(k, divisor, empty)
    return float(
        _mean(retrieval, ties, k, empty, lambda groups: average_precision(groups, k, divisor))
    )
