"""The public hashers with arguments that suit small inputs: one table for all tests of them all.

A new hasher needs one line in ARGUMENTS; a test fails until it has it.
"""

from __future__ import annotations

from typing import Any

import skhash
from skhash.base import HasherMixin

# Two bits, because the inputs of scikit-learn's common tests have as few as two features.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "DSTDHLinear": {"n_bits": 2, "n_anchors": 5, "n_concepts": 4, "random_state": 0},
    "ITQ": {"n_bits": 2, "max_iter": 5, "random_state": 0},
    "LSH": {"n_bits": 2, "random_state": 0},
    "PCAH": {"n_bits": 2},
    "TagITQ": {"n_bits": 2, "random_state": 0},
}

# Of scikit-learn's common tests: {hasher: {name of the test: why it cannot pass}}.
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {}

# Hashers that learn from tags, and those of them that cannot do without.
USES_TAGS = {"DSTDHLinear", "TagITQ"}
NEEDS_TAGS = {"TagITQ"}

# Hashers whose bits are principal directions: n_bits <= n_samples, n_features.
BOUNDED_BITS = {"ITQ", "PCAH"}


def public_hashers() -> set[str]:
    """Names of all hashers that the package exports."""
    values = {name: getattr(skhash, name) for name in skhash.__all__}
    return {
        name
        for name, value in values.items()
        if isinstance(value, type) and issubclass(value, HasherMixin)
    }


def make_hasher(name: str, **changes: Any) -> Any:
    """A hasher with the arguments of the table, some of them changed."""
    return getattr(skhash, name)(**{**ARGUMENTS[name], **changes})


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """As scikit-learn's `parametrize_with_checks` takes it."""
    return EXPECTED_FAILED_CHECKS.get(type(estimator).__name__, {})
