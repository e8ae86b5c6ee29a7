"""What every hasher shares: checked features, codes and their names, the score, a warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._parameters import ParametersMixin
from .codes import sign_bits

__all__ = [
    "HasherMixin",
    "LinearHasher",
    "check_features",
    "forgotten_on_failure",
    "warn_constant_bits",
]


def check_features(estimator: BaseEstimator, X: Any, *, reset: bool) -> NDArray[np.floating[Any]]:
    """Validate a matrix of features.

    Parameters
    ----------
    estimator : estimator
        Whose features they are; remembers their number and names, or compares
        them with those it remembers.
    X : array-like of shape (n_samples, n_features)
        Finite numbers.
    reset : bool
        True in ``fit``: remember. False elsewhere: compare.

    Returns
    -------
    ndarray of shape (n_samples, n_features), float32 or float64
        No copy if X is one already; other numbers become float32.

    Raises
    ------
    ValueError, TypeError
        As scikit-learn does, in words that name X.
    NotFittedError
        If ``reset`` is False and the estimator is not fitted.
    """
    if not reset:
        check_is_fitted(estimator)
    try:
        return validate_data(estimator, X, dtype=[np.float32, np.float64], reset=reset)
    except (ValueError, TypeError) as error:
        if re.search(r"\bX\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"X must be a dense array of numbers of shape (n_samples, n_features): {error}"
        ) from error


@contextmanager
def forgotten_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Frame of a fit that leaves all it learned, or nothing if it fails or is interrupted.

    An earlier fit is forgotten at the start, so that nobody takes its codes for
    those of the one that failed.

    Parameters
    ----------
    estimator : estimator
        Whose attributes that end in an underscore come from a fit.
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
    """Warn if some bits are the same in all samples, so that they tell nothing apart.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Codes of the training samples, in {0, 1} or {-1, 1}.
    cause : str
        What brings constant bits about in this method, and the remedy.
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

    # With metadata routing enabled `Pipeline.score` hands on `sample_weight=None` to every last
    # step, and refuses one that has not heard of it. Codes are scored without weights.
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
            :func:`skhash.codes.pack` to store them in ``n_bits / 8`` bytes. All
            values of a row are :data:`skhash.codes.MISSING` where an image could
            not be read and the hasher was told to skip such.
        """
        return sign_bits(self.decision_function(X), missing=True)

    def score(self, X: ArrayLike, y: Any = None, labels: Any = None) -> float:
        """Mean average precision of leave-one-out Hamming retrieval within X.

        Every sample in turn is the query against all others, ranked by the
        Hamming distance of their codes; ties count by their expectation over
        random order. Relevant is what shares a label with the query, or a tag
        where no labels are given.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : tags of n_samples images, default=None
            Tags in any form that :func:`skhash.tags.encode_tags` takes. Used
            as relevance only if ``labels`` is None.
        labels : labels of n_samples images, default=None
            Ground truth in the same forms. A routed argument:
            ``set_score_request(labels=True)`` lets it through
            :class:`~sklearn.model_selection.GridSearchCV`.

        Returns
        -------
        float
            Mean average precision, in [0, 1]; queries to which nothing is
            relevant count 0.

        Raises
        ------
        ValueError
            If both ``y`` and ``labels`` are None, or X has one sample only.
        """
        # As scikit-learn's mixins do: scores lie downstream of the estimators that call them.
        from .metrics import retrieval_scorer

        return retrieval_scorer().score(self, X, y, labels)

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self)
        return self.n_bits

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Codes are uint8 whatever the dtype of X.
        tags.transformer_tags.preserves_dtype = []
        return tags


class LinearHasher(HasherMixin, BaseEstimator):
    """Base of hashers whose bits are signs of affine functions of the features.

    A subclass sets in ``fit``

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
        return check_features(self, X, reset=False) @ self.coef_.T + self.intercept_

    def _set_projection(
        self,
        X: NDArray[np.floating[Any]],
        mean: NDArray[np.floating[Any]],
        coef: NDArray[np.floating[Any]],
        *,
        cause: str,
    ) -> None:
        """Make the codes the signs of ``(X - mean) @ coef.T``; warn if bits are constant on X.

        ``cause`` completes the warning, see :func:`warn_constant_bits`.
        """
        self.coef_ = coef.astype(X.dtype, copy=False)
        self.intercept_ = -(coef @ mean).astype(X.dtype, copy=False)
        warn_constant_bits(sign_bits(X @ self.coef_.T + self.intercept_), cause)

    @property
    def _n_features_out(self) -> int:
        return len(self.coef_)
