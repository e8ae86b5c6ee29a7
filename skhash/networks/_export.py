"""Networks as ONNX models."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock
from typing import Any

import torch
from torch import nn

from ._versions import check_torch

__all__ = ["cause_of", "check_installed", "onnx_model"]

_OPSET = 20
_EXPORTER = ("onnx", "onnxscript")
# Required packages, and the extra that installs them.
_NEEDS = {
    "onnx": (_EXPORTER, "onnx"),
    "onnxruntime": ((*_EXPORTER, "onnxruntime"), "onnx"),
    "openvino": ((*_EXPORTER, "openvino"), "openvino"),
}
# The oldest tested version of torch. The exporter of 2.6 cannot export batch normalisation. If it
# cannot export a module it traces it without a warning, even if the result depends on the values.
_TORCH = 2, 13
_lock = Lock()  # the tracer of modules has global state


def check_installed(use: str, what: str) -> None:
    """Raise an error if packages of a use are missing: "onnx", "onnxruntime" or "openvino".

    Raises
    ------
    ImportError
        If a package is missing or torch is too old. The message begins with ``what``.
    """
    check_torch(_TORCH, what)
    packages, extra = _NEEDS[use]
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ImportError(
            f"{what} needs {' and '.join(missing)}: `pip install scikit-hash[{extra}]`."
        )


def onnx_model(
    module: nn.Module, example: torch.Tensor, *, names: tuple[str, str], any_number: bool = False
) -> Any:
    """Translate a module.

    Parameters
    ----------
    module : nn.Module
        On the CPU, in evaluation mode; maps one tensor to one tensor.
    example : Tensor of shape (n, ...)
        An input of the model's input size.
    names : tuple of 2 str
        Names of the model's input and output.
    any_number : bool, default=False
        Whether the model takes any number of rows and not only n; then n must be 2 or more.

    Returns
    -------
    onnx.ModelProto
        The model with its weights.

    Raises
    ------
    Exception
        Of many types, if the module cannot be translated. For example, its computation may depend
        on the values of its input.
    """
    with _lock, _silence():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=_OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_shapes=({0: torch.export.Dim("n")},) if any_number else None,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def cause_of(error: BaseException) -> str:
    """One line that says why a module cannot be translated; messages of exporters are long."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


@contextmanager
def _silence() -> Iterator[None]:
    """Hide messages of exporters about their internals from users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
