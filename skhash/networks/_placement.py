"""Where and how networks are computed: devices, precisions, layouts."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ._distributed import cuda_name

__all__ = ["autocast", "in_evaluation", "place", "placed", "resolve_device"]


def resolve_device(device: str) -> torch.device:
    """Turn the parameter ``device`` into a torch device; "auto" is CUDA where there is one.

    Of several GPUs, each process of a job has its own.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = cuda_name()
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        raise ValueError(f"device={device!r} cannot be used here: {error}") from error


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """Context in which matrix products and convolutions run in bfloat16 if ``amp``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=amp)


def place(module: nn.Module, device: str | torch.device, *, channels_last: bool = False) -> None:
    """Move a module to a device, its convolutions in one layout or the other.

    For training, which has the module for itself; else see :func:`placed`.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module.to(device, memory_format=memory_format)  # type: ignore[call-overload]


def placed(
    module: nn.Module,
    device: str | torch.device,
    *,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> nn.Module:
    """A module ready to be evaluated, which other threads may evaluate at the same time.

    Parameters
    ----------
    module : nn.Module
        Is left as it is.
    device : str or torch.device
        Where to compute.
    dtype : torch.dtype, default=None
        Of parameters and buffers that are real numbers; None leaves them.
    channels_last : bool, default=False
        Layout of the weights of convolutions.

    Returns
    -------
    nn.Module
        The module itself if it is all that already, else a copy. A copy shares
        the tensors that need no change.
    """
    memo: dict[int, torch.Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        plain = tensor.detach()
        moved = plain.to(
            device,
            dtype if dtype is not None and plain.is_floating_point() else plain.dtype,
            memory_format=torch.channels_last
            if channels_last and plain.ndim == 4
            else torch.preserve_format,
        )
        if moved is plain:
            memo[id(tensor)] = tensor
        elif isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(moved, requires_grad=False)
        else:
            memo[id(tensor)] = moved
    as_it_is = all(id(moved) == key for key, moved in memo.items())
    return in_evaluation(module) if as_it_is else copy.deepcopy(module, memo).eval()


def in_evaluation(module: nn.Module) -> nn.Module:
    """A module in evaluation mode: itself if it is in it, else a copy that shares the weights."""
    if not any(part.training for part in module.modules()):
        return module
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared).eval()
