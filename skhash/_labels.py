"""Labels for supervised hashers."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .tags import encode_tags

__all__ = ["labelled_rows"]


def labelled_rows(
    y: Any, n_samples: int, estimator: Any, *, name: str = "y"
) -> tuple[sp.csr_array, NDArray[np.intp]]:
    """Encode labels, and find the rows that have any.

    Parameters
    ----------
    y : labels or tags of n_samples images
        In any form that :func:`skhash.tags.encode_tags` takes.
    n_samples : int
        Number of images.
    estimator : object
        The estimator whose ``fit`` received them, for the error message.
    name : str, default="y"
        Name of ``y`` in error messages.

    Returns
    -------
    labels : csr_array of shape (n_samples, n_labels), float32
        Indicator.
    rows : ndarray of int
        Rows that have a label.

    Raises
    ------
    ValueError
        If ``y`` is None, fewer than 2 rows have labels, or all share one.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None: "
            "give the labels (or tags) of every image."
        )
    labels = encode_tags(y, n_samples=n_samples, name=name).indicator
    rows = np.flatnonzero(np.diff(labels.indptr))
    if len(rows) < 2:
        raise ValueError(f"{name} has labels for {len(rows)} sample(s); at least 2 are needed.")
    if (labels.sum(axis=0) == len(rows)).any():
        raise ValueError(
            f"{name} has a label that all labelled samples share, so none are dissimilar."
        )
    return labels, rows
