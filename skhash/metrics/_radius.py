"""Precision and recall of lookups within a Hamming radius."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import AVERAGES, EMPTY, check_integer, check_option
from ._distance_counts import Retrieval
from ._formulas import Floats, RadiusCurve
from ._table import score


def precision_within_radius(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    radius: int = 2,
    empty: str = "zero",
    packed: bool = False,
    n_jobs: int | None = None,
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
        Items that differ in at most this many bits are retrieved.
    empty : {"zero", "skip"}, default="zero"
        Whether queries without relevant items count as 0 or are left out.
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
    radii = [check_integer("radius", radius, 0)]
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    value = score(retrieval, "precision_within_radius", radii, empty=empty, n_jobs=n_jobs)
    return float(value[0])


def precision_recall_by_radius(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: Any,
    database_labels: Any,
    *,
    average: str = "micro",
    empty: str = "zero",
    packed: bool = False,
    n_jobs: int | None = None,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Precision and recall of the items within each Hamming radius.

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
        Whether queries without relevant items count with precision and recall
        0 or are left out.
    packed : bool, default=False
        Whether the codes are packed.
    n_jobs : int, default=None
        Number of threads; see :func:`mean_average_precision`.

    Returns
    -------
    precision : ndarray of shape (n_bits + 1,)
        0 where nothing is retrieved.
    recall : ndarray of shape (n_bits + 1,)
        Never decreases with the radius.
    radius : ndarray of shape (n_bits + 1,), int64
        0, 1, .., n_bits. For packed codes n_bits is 8 times the number of
        bytes.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; the message names it.
    """
    check_option("average", average, AVERAGES)
    check_option("empty", empty, EMPTY)
    retrieval = Retrieval(query_codes, database_codes, query_labels, database_labels, packed=packed)
    curve = RadiusCurve(average, empty)
    for ranked in retrieval.rankings(n_jobs=n_jobs):
        curve.add(ranked.by_distance)
    precision, recall = curve.result()
    return precision, recall, np.arange(retrieval.n_bits + 1)
