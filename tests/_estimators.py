"""The public hashers with arguments that suit small inputs: one table for all tests of them all.

A new hasher needs one line in ARGUMENTS; a test fails until it has it.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

import skhash
from skhash.base import HasherMixin

NETWORK = {"n_bits": 2, "max_epochs": 10, "batch_size": 16, "lr": 0.01, "random_state": 0}

# Two bits, because the inputs of scikit-learn's common tests have as few as two features.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "DRSCHHasher": NETWORK,
    "DSHHasher": NETWORK,
    "DeepBit": NETWORK,
    "DSTDHHasher": {
        **NETWORK,
        "backbone": None,
        "n_anchors": 5,
        "n_concepts": 4,
        "max_epochs": 4,
        "hidden_layers": (),
        "tune": False,
    },
    "DSTDHLinear": {"n_bits": 2, "n_anchors": 5, "n_concepts": 4, "random_state": 0},
    "GreedyHash": NETWORK,
    "ITQ": {"n_bits": 2, "max_iter": 5, "random_state": 0},
    "KSH": {"n_bits": 2, "n_anchors": 20, "random_state": 0},
    "KSHHasher": NETWORK,
    "LSH": {"n_bits": 2, "random_state": 0},
    "LSMH": {"n_bits": 2, "max_iter": 5, "random_state": 0},
    "PCAH": {"n_bits": 2},
    "SADHHasher": {**NETWORK, "n_anchors": 5, "max_iter": 10, "weight_decay": 1.0},
    "SADHLinear": {"n_bits": 2, "n_anchors": 5, "max_iter": 10, "random_state": 0},
    "SAH": {"n_bits": 2, "random_state": 0},
    "SGH": {"n_bits": 2, "n_anchors": 20, "random_state": 0},
    "SKLSH": {"n_bits": 2, "random_state": 0},
    "SpectralHashing": {"n_bits": 2},
    "TagITQ": {"n_bits": 2, "random_state": 0},
    "TagITQHasher": {**NETWORK, "hidden_layers": (16,), "tune": False, "weight_decay": 0.1},
    "UHBDNN": {**NETWORK, "hidden_layers": (16, 8), "n_rounds": 2, "lr": 0.05},
    "WMH": {"n_bits": 2, "n_anchors": 5, "random_state": 0},
    "WeaklySupervisedHasher": {
        "estimator": skhash.DSHHasher(**{**NETWORK, "random_state": None}),
        "semantic_space": skhash.SemanticSpace(2, vector_size=4, window=2, epochs=4, max_iter=1),
        "max_epochs": 10,
        "batch_size": 16,
        "lr": 0.02,
        "weight_decay": 3.0,
        "random_state": 0,
    },
}

# Of scikit-learn's common tests: {hasher: {name of the test: why it cannot pass}}.
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {}

# Hashers that learn from tags, and those of them that cannot do without.
NEEDS_TAGS = {
    "DRSCHHasher",
    "DSHHasher",
    "KSH",
    "KSHHasher",
    "TagITQ",
    "TagITQHasher",
    "WeaklySupervisedHasher",
}
USES_TAGS = {"DSTDHHasher", "DSTDHLinear", "SAH", "WMH", *NEEDS_TAGS}

# Hashers whose bits are principal directions: n_bits <= n_samples, n_features.
BOUNDED_BITS = {"ITQ", "LSMH", "PCAH", "SADHHasher", "SADHLinear", "SAH", "UHBDNN", "WMH"}


# Hashers that are networks.
NETWORKS = {name for name in ARGUMENTS if issubclass(getattr(skhash, name), skhash.DeepHasher)}

# Hashers with an anchor graph of the features.
GRAPHS = {"DSTDHHasher", "DSTDHLinear", "SADHHasher", "SADHLinear", "WMH"}

# Hashers that start from the codes of ITQ, which takes most of a minute for a thousand bits.
STARTS_WITH_ITQ = {"SADHHasher", "SADHLinear", "SAH"}

# Bases to write hashers with, which are none themselves.
ABSTRACT = {"DeepHasher"}

# Hashers around another one, whose parameter ``n_bits`` it is.
WRAPPERS = {"WeaklySupervisedHasher"}

# Hashers whose fit takes labels besides the tags.
TAKES_LABELS = {"WeaklySupervisedHasher"}


def public_hashers() -> set[str]:
    """Names of all hashers that the package exports."""
    values = {name: getattr(skhash, name) for name in skhash.__all__}
    return {
        name
        for name, value in values.items()
        if isinstance(value, type) and issubclass(value, HasherMixin) and name not in ABSTRACT
    }


def n_bits_parameter(name: str) -> str:
    """What sets the number of bits of a hasher."""
    return "estimator__n_bits" if name in WRAPPERS else "n_bits"


def make_hasher(name: str, **changes: Any) -> Any:
    """A hasher with the arguments of the table, some of them changed."""
    if "n_bits" in changes:
        changes[n_bits_parameter(name)] = changes.pop("n_bits")
    # A clone, because a wrapper's arguments are estimators, which the table has once.
    return clone(getattr(skhash, name)(**ARGUMENTS[name])).set_params(**changes)


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """As scikit-learn's `parametrize_with_checks` takes it."""
    return EXPECTED_FAILED_CHECKS.get(type(estimator).__name__, {})
