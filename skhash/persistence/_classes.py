"""The classes that files may name, and their modules: nothing else is imported."""

from __future__ import annotations

from importlib import import_module

from sklearn.base import BaseEstimator

import skhash

__all__ = ["SKLEARN", "class_name", "find_class"]

#: Estimators of scikit-learn that hold nothing but numbers, strings and other estimators.
SKLEARN = {
    "sklearn.decomposition": ("PCA", "TruncatedSVD"),
    "sklearn.feature_selection": ("VarianceThreshold",),
    "sklearn.frozen": ("FrozenEstimator",),
    "sklearn.impute": ("SimpleImputer",),
    "sklearn.pipeline": ("FeatureUnion", "Pipeline"),
    "sklearn.preprocessing": (
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "PowerTransformer",
        "QuantileTransformer",
        "RobustScaler",
        "StandardScaler",
    ),
    "sklearn.random_projection": ("GaussianRandomProjection", "SparseRandomProjection"),
}
# Parts of fitted estimators. Files name these without their modules, which may change.
_PARTS = {
    "skhash._kernel_features": ("KernelFeatures",),
    "skhash.semantic._embedding": ("TagEmbedding",),
    "skhash.semantic._tag_hasher": ("TagCodes",),
}
_MODULES = {
    "skhash.networks._efficientnet_lite": (
        "EfficientNetLite",
        "InvertedBottleneck",
        "SameConv2d",
    ),
    "skhash.networks._head": ("HashHead",),
    "skhash.supervised._losses": ("DRSCHLoss", "DSHLoss", "KSHLoss"),
    "skhash.unsupervised._losses": ("DeepBitLoss", "GreedyHashLoss", "UHBDNNLoss"),
    "torch.nn": (
        "BatchNorm2d",
        "Dropout",
        "Linear",
        "MSELoss",
        "ModuleList",
        "ReLU",
        "ReLU6",
        "Sequential",
        "Sigmoid",
        "Tanh",
    ),
}


def _public(module: str, name: str) -> str:
    return f"{module if module.startswith(('sklearn.', 'torch.')) else 'skhash'}.{name}"


# {kind: {name in files: (module, name there)}}.
_ALLOWED = {
    kind: {_public(m, name): (m, name) for m, names in table.items() for name in names}
    for kind, table in (
        ("estimator", {**SKLEARN, "skhash": tuple(n for n in dir(skhash) if n[0].isupper())}),
        ("part", _PARTS),
        ("module", _MODULES),
    )
}


def class_name(cls: type, kind: str) -> str | None:
    """The name in files of a class of a kind: "estimator", "part" or "module"; or None."""
    for public, (_, name) in _ALLOWED[kind].items():
        if name == cls.__name__ and _load(kind, public) is cls:
            return public
    return None


def find_class(public: str, kind: str) -> type:
    """Find the class that a file names.

    Raises
    ------
    ValueError
        If files may not name it; then it is not imported.
    """
    cls = _load(kind, public) if public in _ALLOWED[kind] else None
    if cls is None:
        raise ValueError(
            f"it names {public!r}, which skhash.load does not accept as {kind}; do not use it if "
            "you do not know its origin, otherwise upgrade scikit-hash"
        )
    return cls


def _load(kind: str, public: str) -> type | None:
    module, name = _ALLOWED[kind][public]
    found = getattr(import_module(module), name)
    if kind == "estimator" and not issubclass(found, BaseEstimator):
        return None
    return found
