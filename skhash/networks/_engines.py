"""Engines that compute features of images: torch, or a library that compiles networks for CPUs.

A compiled network gives the same features as torch, except for rounding. Each image is computed
alone, by one thread. This is as fast as batches, because an image fits in a core's cache, and the
features of an image depend neither on other images nor on the number of threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ._backbones import Backbone
from ._export import cause_of, check_installed, onnx_model
from ._placement import autocast, placed, resolve_device

__all__ = ["ENGINES", "check_engine", "choose_engine", "make_forward"]

ENGINES = {"auto", "onnxruntime", "openvino", "torch"}

# Maps uint8 images (n, 3, H, W) to features (n, d).
Forward = Callable[[torch.Tensor], NDArray[np.float32]]
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# Largest allowed difference from torch's features, relative to the largest feature. On real photos
# compilers differed by a quarter of this; then outputs of heads differ by a tenth of the limit
# below which hashers compute bits again.
_TOLERANCE = 2e-5
_N_PROBES = 2
# For fewer images, compiling takes longer than computing with torch.
_WORTH_COMPILING = 256

_lock = Lock()
# For each network: its state when it was compiled, and the compiled functions. Not pickled.
_compiled: WeakKeyDictionary[Backbone, tuple[Any, dict[Any, Forward]]] = WeakKeyDictionary()
# The threads of compiled networks do not exist in a forked process.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compiled.clear)


def check_engine(engine: str, device: str, *, amp: bool) -> torch.device:
    """Raise an error if an engine is not installed or does not support the parameters.

    Parameters
    ----------
    engine : {"auto", "onnxruntime", "openvino", "torch"}
        The parameter of that name.
    device : str
        The parameter of that name.
    amp : bool
        Whether in bfloat16.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ImportError
        If the engine is not installed.
    ValueError
        If the engine does not support the device or bfloat16.
    """
    if engine not in _LOADERS:
        return resolve_device(device)
    check_installed(engine, f"engine={engine!r}")
    if device != "auto" and resolve_device(device).type != "cpu":
        raise ValueError(
            f"engine={engine!r} computes on the CPU, got device={device!r}; use engine='torch'."
        )
    if amp and engine == "onnxruntime":
        raise ValueError(
            "engine='onnxruntime' does not compute in bfloat16 on a CPU; set amp=False, or use "
            "engine='openvino' or engine='torch'."
        )
    return torch.device("cpu")


def choose_engine(
    backbone: Backbone, engine: str, device: str, *, amp: bool, n_images: int
) -> tuple[str, torch.device]:
    """Choose the engine and the device for a network.

    Parameters and errors are those of :func:`check_engine`. "auto" becomes an engine that is
    installed and can run this network, if there are enough images that compiling is worth it, or if
    the network is already compiled. Otherwise it becomes torch.
    """
    target = check_engine(engine, device, amp=amp)
    if engine != "auto":
        return engine, target
    for compiler in ("openvino", "onnxruntime") if target.type == "cpu" else ():
        if n_images < _WORTH_COMPILING and _key(compiler, amp) not in _compiled_of(backbone):
            continue
        with suppress(ImportError, ValueError):
            check_engine(compiler, device, amp=amp)
            make_forward(backbone, compiler, target, amp=amp)
            return compiler, target
    return "torch", target


def make_forward(backbone: Backbone, engine: str, device: torch.device, *, amp: bool) -> Forward:
    """Prepare a network for computing features; several threads may do so.

    Parameters
    ----------
    backbone : Backbone
        The network, which is not changed.
    engine : {"onnxruntime", "openvino", "torch"}
        As returned by :func:`choose_engine`. A compiled network is kept until the network changes.
    device : torch.device
        Device for computation.
    amp : bool
        Whether to use bfloat16 where it is safe.

    Returns
    -------
    callable
        Maps a uint8 Tensor (n, 3, H, W) to an ndarray (n, d), float32.

    Raises
    ------
    ValueError
        If the engine cannot run this network, or its features differ from torch's.
    """
    if engine == "torch":
        return _torch_forward(backbone, device, amp)
    key = _key(engine, amp)
    with _lock:
        compiled = _compiled_of(backbone)
        if key not in compiled:
            compiled[key] = _compile(backbone, engine, amp)
        _compiled[backbone] = _state(backbone), compiled
        return compiled[key]


def _key(engine: str, amp: bool) -> Any:
    return engine, amp, torch.get_num_threads()


def _compiled_of(backbone: Backbone) -> dict[Any, Forward]:
    """The compiled functions of a network; none if it has changed since."""
    state, compiled = _compiled.get(backbone, (None, {}))
    return compiled if state == _state(backbone) else {}


def _state(backbone: Backbone) -> Any:
    """A state that differs after any change of the network, by training or by the user."""
    tensors = [*backbone.parameters(), *backbone.buffers()]
    versions = [(t.data_ptr(), None if t.is_inference() else t._version) for t in tensors]
    return backbone.image_size, versions, [id(module) for module in backbone.modules()]


def _torch_forward(backbone: Backbone, device: torch.device, amp: bool) -> Forward:
    module = placed(backbone, device, channels_last=amp)

    @torch.no_grad()
    def forward(batch: torch.Tensor) -> NDArray[np.float32]:
        with autocast(device, amp):
            return module(batch.to(device)).float().cpu().numpy()

    return forward


def _compile(backbone: Backbone, engine: str, amp: bool) -> Forward:
    module = placed(backbone, "cpu")
    generator = torch.Generator().manual_seed(0)
    shape = (_N_PROBES, 3, backbone.image_size, backbone.image_size)
    probes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    try:
        model = onnx_model(module, probes[:1], names=("images", "features"))
        run = _LOADERS[engine](model.SerializeToString(), amp)
        # Run once here, under the lock: OpenVINO can deadlock if two threads use it first.
        found = run(probes.numpy())
    except Exception as error:  # exporters and compilers raise errors of many types
        raise ValueError(
            _refusal(module, engine, f"cannot be translated ({cause_of(error)})")
        ) from error
    if not amp:
        expected = _torch_forward(backbone, torch.device("cpu"), amp)(probes)
        off = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
        if not off <= _TOLERANCE:
            raise ValueError(_refusal(module, engine, f"would be {off:.1e} off torch's features"))
    return _in_threads(run)


def _refusal(module: nn.Module, engine: str, fault: str) -> str:
    name = type(module.net).__name__
    return f"engine={engine!r} does not suit the backbone {name!r}: it {fault}; use engine='torch'."


def _in_threads(run: Run) -> Forward:
    """Distribute the images of a batch over threads."""
    n_threads = torch.get_num_threads()

    def forward(batch: torch.Tensor) -> NDArray[np.float32]:
        images = batch.numpy()
        parts = np.array_split(images, min(n_threads, len(images)))
        if len(parts) == 1:
            return run(images)
        with ThreadPoolExecutor(len(parts)) as pool:
            return np.concatenate(list(pool.map(run, parts)))

    return forward


def _load_onnxruntime(model: bytes, amp: bool) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([session.run(None, {"images": one[None]})[0] for one in images])

    return run


@cache
def _openvino_core() -> Any:
    # The import of OpenVINO reports to its makers over the network, from a forked process, unless
    # its telemetry module is missing.
    reporter = "openvino_telemetry"
    silenced = sys.modules.setdefault(reporter, None) is None  # type: ignore[arg-type]
    try:
        import openvino
    finally:
        if silenced:
            del sys.modules[reporter]
    return openvino.Core()


def _load_openvino(model: bytes, amp: bool) -> Run:
    core = _openvino_core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if amp else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": torch.get_num_threads(),  # one thread each
        "ENABLE_CPU_PINNING": False,  # other threads and processes compute too
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = compiled.create_infer_request()  # used only by this thread
        return np.concatenate([request.infer({0: one[None]})[0] for one in images])

    return run


_LOADERS = {"onnxruntime": _load_onnxruntime, "openvino": _load_openvino}
