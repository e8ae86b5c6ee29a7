"""All uses of scikit-learn's private interface: the only place to change if it changes.

Checked with every scikit-learn from the oldest one in ``pyproject.toml`` on.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import _fit_context as fit_context
from sklearn.utils import _param_validation
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as n_openmp_threads
from sklearn.utils._param_validation import HasMethods, StrOptions, validate_params

__all__ = [
    "DocumentedMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "fit_context",
    "n_openmp_threads",
    "validate_params",
]


class Interval(_param_validation.Interval):
    """Constraint of a parameter to an interval of numbers; a bool is not a number."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value is a number in the interval."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


class DocumentedMixin:
    """Mixin of estimators whose HTML representation links to their page of the documentation.

    It comes before :class:`sklearn.base.BaseEstimator` in the bases.
    """

    _doc_link_module = "skhash"
    # The only place with the address where the pages of `make docs` are published.
    _doc_link_template = (
        "https://scikit-hash.readthedocs.io/en/stable/generated/skhash.{estimator_name}.html"
    )
