"""Random numbers of networks that depend only on a seed, not on other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["draws_randomly", "seeded"]

# Held while torch's generators, one per device and process, are seeded temporarily.
_lock = threading.RLock()

# Layers of torch that draw random numbers; a layer with a rate only if the rate is not 0.
_RANDOM = (
    nn.modules.dropout._DropoutNd,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)


@contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Seed torch's global generators within the context, and restore them at its end.

    Only one thread at a time can be in the context, so that fits in several
    threads do not use each other's seeds.

    Parameters
    ----------
    seed : int
        The seed.
    device : str or torch.device, default="cpu"
        Device whose generator is seeded in addition to the CPU's.
    """
    device = torch.device(device)
    gpus = [device.index or 0] if device.type == "cuda" else []
    with _lock, torch.random.fork_rng(devices=gpus):
        # torch.manual_seed would seed all devices, also devices that are not restored.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield


def draws_randomly(module: nn.Module) -> bool:
    """Whether a module may draw random numbers in training: a layer does, or is not of torch.

    Parameters
    ----------
    module : nn.Module
        A network or a loss.

    Returns
    -------
    bool
    """
    return any(_may_draw(part) for part in module.modules())


def _may_draw(part: nn.Module) -> bool:
    if isinstance(part, _RANDOM):
        rates = [getattr(part, name) for name in ("p", "dropout") if hasattr(part, name)]
        return rates != [0]
    return not type(part).__module__.startswith(("torch.nn.modules.", "skhash."))
