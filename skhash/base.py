"""The common part of all hashers: checks of features, codes and their names, score, a warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._decisions import affine_values, centred_projection
from ._parameters import ParametersMixin
from ._rows import Features, Rows, open_rows
from .codes import sign_bits

__all__ = [
    "HasherMixin",
    "LinearHasher",
    "check_features",
    "check_n_samples",
    "forgotten_on_failure",
    "narrow_features",
    "warn_constant_bits",
]

# Largest share of the features' range that rounding to float32 may take.
_COARSEST = 0.01


@overload
def check_features(
    estimator: BaseEstimator, X: Any, *, reset: bool, in_blocks: Literal[False] = False
) -> NDArray[np.floating[Any]]: ...


@overload
def check_features(
    estimator: BaseEstimator, X: Any, *, reset: bool, in_blocks: Literal[True]
) -> Features: ...


def check_features(
    estimator: BaseEstimator, X: Any, *, reset: bool, in_blocks: bool = False
) -> Features:
    """Validate a matrix of features.

    Parameters
    ----------
    estimator : estimator
        The estimator that gets the features. It stores their number and names,
        or compares them with the stored ones.
    X : array-like of shape (n_samples, n_features)
        Finite numbers.
    reset : bool
        True in ``fit``: store number and names. False elsewhere: compare them.
    in_blocks : bool, default=False
        Whether the caller reads X only by blocks of rows.

    Returns
    -------
    ndarray or Rows of shape (n_samples, n_features), float32 or float64
        No copy if X already is such an ndarray. float16 becomes float32, block
        by block when it is read if ``in_blocks``. Other numbers become float64.

    Raises
    ------
    ValueError, TypeError
        As in scikit-learn, with a message that names X. In ``fit`` also for
        numbers whose squares are beyond the range of their type.
    NotFittedError
        If ``reset`` is False and the estimator is not fitted.
    """
    if not reset:
        check_is_fitted(estimator)
    try:
        if hasattr(X, "__array__") and not hasattr(X, "columns"):
            X = np.asarray(X)  # scikit-learn would not keep the float32 of a tensor
        features = open_rows(partial(validate_data, estimator, reset=reset), X)
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a tensor with gradients
        if re.search(r"\bX\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"X must be a dense array of numbers of shape (n_samples, n_features): {error}"
        ) from error
    if isinstance(features, Rows):  # of float16: all squares are in the range of float32
        return features if in_blocks else features[:]
    if reset:
        _check_magnitude(features)
    return features


def _check_magnitude(X: NDArray[np.floating[Any]]) -> None:
    """Raise an error if squares, summed over a row, are beyond the range of their type."""
    peak = max(float(X.max()), -float(X.min()))
    limits = np.finfo(X.dtype)
    highest = float(limits.max) ** 0.5 / (4 * X.size**0.5)
    lowest = float(limits.tiny) ** 0.5 * 2**10
    if peak > highest or 0 < peak < lowest:
        raise ValueError(
            f"X has values of size {peak:.1e}, whose squares are beyond the range of {X.dtype}; "
            "scale it, for example with StandardScaler."
        )


def narrow_features(X: Features) -> Features:
    """Features in float32, for networks to be trained on.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64, or Rows
        Finite features.

    Returns
    -------
    ndarray of shape (n_samples, n_features), float32, or Rows
        Contiguous; no copy if X already has this form.

    Raises
    ------
    ValueError
        If different samples would become equal in float32, or if values are
        beyond its range.
    """
    if isinstance(X, Rows):
        return X
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(X, np.float32)
    if narrow is X or X.dtype == np.float32:
        return narrow
    _check_magnitude(narrow)
    low, high = X.min(axis=0), X.max(axis=0)
    steps = np.finfo(np.float32).eps * np.maximum(high, -low)[high > low]
    if len(steps) and steps.max() > _COARSEST * (high - low).max():
        raise ValueError(
            "X varies too little for its size: networks are trained in float32, where such values "
            "become equal; centre it, for example with StandardScaler."
        )
    return narrow


def check_n_samples(X: Sized) -> None:
    """Raise an error for a single sample, because nothing can be learned from it.

    Parameters
    ----------
    X : sized
        The samples of a ``fit``.

    Raises
    ------
    ValueError
        If there are fewer than 2.
    """
    if len(X) < 2:
        raise ValueError(
            f"X has n_samples = {len(X)}: give at least 2 samples to learn codes from."
        )


@contextmanager
def forgotten_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Context of a fit: an estimator is fitted completely, or not at all after an error.

    The attributes of an earlier fit are deleted at the start. Otherwise they
    could be mistaken for the results of a fit that failed.

    Parameters
    ----------
    estimator : estimator
        Its attributes that end in an underscore are those of a fit.

    Yields
    ------
    None
    """
    _forget(estimator)
    try:
        yield
    except BaseException:
        _forget(estimator)
        raise


def _forget(estimator: BaseEstimator) -> None:
    for name in [name for name in vars(estimator) if name.endswith("_") and name[0] != "_"]:
        delattr(estimator, name)


def warn_constant_bits(codes: ArrayLike, cause: str) -> None:
    """Warn if some bits are the same in all samples and so carry no information.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Codes of the training samples, in {0, 1} or {-1, 1}.
    cause : str
        The cause of constant bits in this method, and the remedy.
    """
    codes = np.asarray(codes)
    constant = int((codes == codes[:1]).all(axis=0).sum())
    if constant:
        warnings.warn(
            f"{constant} of {codes.shape[1]} bits are constant over the training samples: {cause}",
            UserWarning,
            stacklevel=2,
        )


class HasherMixin(ParametersMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Mixin for estimators that turn samples into binary codes.

    A subclass has a parameter ``n_bits`` and a method ``decision_function(X)``
    that returns real values of shape (n_samples, n_bits); the codes are their
    signs. It comes before :class:`sklearn.base.BaseEstimator` in the bases.
    """

    n_bits: int

    # With metadata routing enabled `Pipeline.score` passes `sample_weight=None` to every last
    # step, and fails if the step does not know it. Codes are scored without weights.
    __metadata_request__score: ClassVar = {"sample_weight": None}

    def transform(self, X: ArrayLike) -> NDArray[np.uint8]:
        """Encode samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), uint8
            1 where the decision function is at least 0, else 0. Pack them with
            :func:`skhash.codes.pack` to store them in ``n_bits / 8`` bytes. If
            the hasher is set to skip unreadable images, all values of their
            rows are :data:`skhash.codes.MISSING`.
        """
        return sign_bits(self.decision_function(X), missing=True)

    def score(self, X: ArrayLike, y: Any = None, labels: Any = None) -> float:
        """Mean average precision of leave-one-out Hamming retrieval within X.

        Every sample in turn is the query. All other samples are ranked by the
        Hamming distance of their codes. Ties count with their expectation over
        random order. A sample is relevant if it shares a label with the query,
        or a tag if no labels are given.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : tags of n_samples images, default=None
            Tags in any form that :func:`skhash.tags.encode_tags` takes. Used
            as relevance only if ``labels`` is None.
        labels : labels of n_samples images, default=None
            Ground truth in the same forms. This is a routed argument: after
            ``set_score_request(labels=True)``,
            :class:`~sklearn.model_selection.GridSearchCV` passes it on.

        Returns
        -------
        float
            Mean average precision, in [0, 1]. A query without relevant samples
            counts as 0.

        Raises
        ------
        ValueError
            If both ``y`` and ``labels`` are None, or X has only one sample.
        """
        # Imported here, as in scikit-learn's mixins: metrics are a later layer than estimators.
        from .metrics import retrieval_scorer

        return retrieval_scorer().score(self, X, y, labels)

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self)
        return self.n_bits

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Codes are uint8 for any dtype of X.
        tags.transformer_tags.preserves_dtype = []
        return tags


class LinearHasher(HasherMixin, BaseEstimator):
    """Base of hashers whose bits are signs of affine functions of the features.

    A subclass sets in ``fit``:

    - ``coef_``, ndarray of shape (n_bits, n_features),
    - ``intercept_``, ndarray of shape (n_bits,).
    """

    coef_: NDArray[np.floating[Any]]
    intercept_: NDArray[np.floating[Any]]

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Real values whose signs are the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), float32 or float64
            ``X @ coef_.T + intercept_``.
        """
        data = check_features(self, X, reset=False, in_blocks=True)
        return affine_values(data, self.coef_, self.intercept_)

    def _set_projection(
        self,
        X: Features,
        mean: NDArray[np.floating[Any]],
        coef: NDArray[np.floating[Any]],
        *,
        cause: str,
    ) -> None:
        """Set codes to the signs of ``(X - mean) @ coef.T``; warn if bits are constant on X.

        ``cause`` is the end of the warning, see :func:`warn_constant_bits`.
        """
        self.coef_, self.intercept_ = centred_projection(mean, coef, X.dtype)
        warn_constant_bits(sign_bits(affine_values(X, self.coef_, self.intercept_)), cause)

    @property
    def _n_features_out(self) -> int:
        return len(self.coef_)
