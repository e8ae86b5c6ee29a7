"""Devices, precisions and memory layouts of networks."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ._distributed import cuda_name

__all__ = ["autocast", "in_evaluation", "place", "placed", "resolve_device"]


def resolve_device(device: str) -> torch.device:
    """Turn the parameter ``device`` into a torch device; "auto" is CUDA if available.

    With several GPUs, each process of a job has its own GPU.
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
    """Move a module to a device and set the memory layout of its convolutions.

    Only for training, where no other thread uses the module; else see :func:`placed`.
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
    """A module ready for evaluation, which several threads may use at the same time.

    Parameters
    ----------
    module : nn.Module
        The module, which is not changed.
    device : str or torch.device
        Device for computation.
    dtype : torch.dtype, default=None
        Dtype of real parameters and buffers; None keeps their dtypes.
    channels_last : bool, default=False
        Layout of the weights of convolutions.

    Returns
    -------
    nn.Module
        The module itself if it already has these properties, else a copy. A copy
        shares the tensors that need no change.
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
    """The module if it is in evaluation mode, else a copy in this mode that shares the weights."""
    if not any(part.training for part in module.modules()):
        return module
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared).eval()
