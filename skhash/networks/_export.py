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

__all__ = ["cause_of", "check_installed", "onnx_model"]

_OPSET = 20
_EXPORTER = ("onnx", "onnxscript")
# Packages that are needed, and the extra that installs them.
_NEEDS = {
    "onnx": (_EXPORTER, "onnx"),
    "onnxruntime": ((*_EXPORTER, "onnxruntime"), "onnx"),
    "openvino": ((*_EXPORTER, "openvino"), "openvino"),
}
# The oldest tested. That of 2.6 cannot export batch normalisation, and traces in silence what it
# cannot export, whatever it hangs on.
_TORCH = 2, 13
_lock = Lock()  # what traces a module keeps states that threads share


def check_installed(use: str, what: str) -> None:
    """Refuse to go on without the packages of a use: "onnx", "onnxruntime" or "openvino".

    Raises
    ------
    ImportError
        If one of them is missing, or torch too old; the message begins with ``what`` needs it.
    """
    if tuple(map(int, torch.__version__.split(".")[:2])) < _TORCH:
        newer = ".".join(map(str, _TORCH))
        raise ImportError(f"{what} needs torch {newer} or newer: `pip install -U torch`.")
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
        On the CPU, in evaluation mode; takes one tensor and gives one.
    example : Tensor of shape (n, ...)
        An input, of the sizes that the model takes.
    names : tuple of 2 str
        What the model calls its input and output.
    any_number : bool, default=False
        Whether it takes any number of rows, and not n alone; n must be 2 or more then.

    Returns
    -------
    onnx.ModelProto
        With its weights.

    Raises
    ------
    Exception
        Of many kinds, if the module cannot be translated; such as one whose computation depends on
        the values that it is given.
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
    """Say in a line why a module cannot be translated; exporters write pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what exporters have to say about their own insides from users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
