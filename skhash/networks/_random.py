"""Random numbers of networks that depend on a seed alone, whatever other threads draw."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["draws_randomly", "seeded"]

# Held while torch's generators, of which a process has one a device, are lent to a seed.
_lock = threading.RLock()

# Layers of torch that draw random numbers; of those with a rate, where it is not 0.
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
    """Seed torch's own generators for code that draws from no other, and restore them.

    One thread at a time gets in, so that fits in several threads do not draw
    from each other's seeds.

    Parameters
    ----------
    seed : int
        The seed.
    device : str or torch.device, default="cpu"
        Whose generator is seeded besides the CPU's.
    """
    device = torch.device(device)
    gpus = [device.index or 0] if device.type == "cuda" else []
    with _lock, torch.random.fork_rng(devices=gpus):
        # torch.manual_seed would seed all devices, also those that are not restored.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield


def draws_randomly(module: nn.Module) -> bool:
    """Whether a module may draw random numbers in training: a layer of torch does, or is unknown.

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
