"""Hashers that learn from features alone."""

from .._lazy import lazy_names

__all__ = [
    "ITQ",
    "LSH",
    "LSMH",
    "PCAH",
    "SADH",
    "SGH",
    "SKLSH",
    "UHBDNN",
    "DeepBit",
    "GreedyHash",
    "SADHLinear",
    "SpectralHashing",
]

# Those without a network need no torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DeepBit": "_deepbit",
        "GreedyHash": "_greedy",
        "ITQ": "_itq",
        "LSH": "_lsh",
        "LSMH": "_lsmh",
        "PCAH": "_pcah",
        "SADH": "_sadh_net",
        "SADHLinear": "_sadh",
        "SGH": "_sgh",
        "SKLSH": "_sklsh",
        "SpectralHashing": "_spectral",
        "UHBDNN": "_uhbdnn",
    },
)
