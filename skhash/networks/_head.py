"""The part of a network that turns features into bits."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._rows import Features, squares_about, summarise_columns

__all__ = ["HashHead"]


class HashHead(nn.Module):
    """Linear map, or a small multi-layer perceptron, from features to bits.

    Features are first centred and divided by one scale. Centre and scale come
    from the training features, are stored and are not trained. With one scale
    for all features, directions with a large variance stay large, so that
    weight decay and early iterations prefer them, as ridge regression does.
    Scaling every feature to unit variance would increase the noise of features
    with a small variance.

    Parameters
    ----------
    features : ndarray or Rows of shape (n_samples, n_features)
        Features that set the centre and the scale.
    n_bits : int
        Number of outputs.
    hidden_layers : sequence of int, default=()
        Units of each hidden layer.
    activation : type of nn.Module, default=nn.ReLU
        Activation after each hidden layer.
    dropout : float, default=0.0
        Share of the hidden units that are set to zero at random in training.
    tanh : bool, default=False
        Whether the head ends with tanh.
    random_state : int, default=0
        Seed of the initial weights.

    Raises
    ------
    ValueError
        If the features do not vary.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        features: Features,
        n_bits: int,
        *,
        hidden_layers: Sequence[int] = (),
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
        tanh: bool = False,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        mean = summarise_columns(features).mean
        scale = np.sqrt(squares_about(features, mean) / math.prod(features.shape))
        if scale <= 1e-7 * np.abs(mean).max():  # the resolution of float32
            raise ValueError(
                "X has features that do not vary, so codes cannot distinguish images; give samples "
                "that differ, or another backbone."
            )
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(random_state)
        widths = [features.shape[1], *hidden_layers]
        for width, next_width in pairwise(widths):
            layers += [_linear(width, next_width, generator), activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        last = _linear(widths[-1], n_bits, generator)
        nn.init.zeros_(last.bias)  # features are centred, so bits are balanced at the start
        layers.append(last)
        if tanh:
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    @property
    def _last_linear(self) -> nn.Linear:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)][-1]

    @torch.no_grad()
    def lower(self, values: NDArray[np.floating]) -> None:
        """Subtract a number per bit, shape (n_bits,), from the output of the last linear layer."""
        bias = self._last_linear.bias
        bias.sub_(torch.as_tensor(values, dtype=bias.dtype))

    @torch.no_grad()
    def stretch(self, factor: float) -> None:
        """Multiply the output of the last linear layer; a positive factor keeps the signs."""
        for parameter in self._last_linear.parameters():
            parameter.mul_(factor)

    @torch.no_grad()
    def compose(self, coef: NDArray[np.floating], offset: NDArray[np.floating]) -> None:
        """Change the last linear layer so that its output is ``outputs @ coef.T + offset``.

        Parameters
        ----------
        coef : ndarray of shape (n_bits, n_outputs)
            Coefficients.
        offset : ndarray of shape (n_bits,)
            Intercepts.
        """
        old = self._last_linear
        new = nn.utils.skip_init(nn.Linear, old.in_features, len(coef))
        matrix = torch.as_tensor(coef, dtype=torch.float64)
        new.weight.copy_(matrix @ old.weight.double())
        new.bias.copy_(matrix @ old.bias.double() + torch.as_tensor(offset, dtype=torch.float64))
        self.layers[list(self.layers).index(old)] = new

    @torch.no_grad()
    def set_linear(self, coef: NDArray[np.floating], intercept: NDArray[np.floating]) -> None:
        """Set the first linear layer to ``features @ coef.T + intercept`` for raw features.

        Parameters
        ----------
        coef : ndarray of shape (n_outputs, n_features)
            Coefficients.
        intercept : ndarray of shape (n_outputs,)
            Intercepts.
        """
        first: Any = self.layers[0]
        matrix = torch.as_tensor(coef, dtype=torch.float64)
        first.weight.copy_(matrix * self.scale.double())
        first.bias.copy_(
            torch.as_tensor(intercept, dtype=torch.float64) + matrix @ self.mean.double()
        )

    def drop_nothing(self) -> None:
        """Turn dropout off for later training."""
        for layer in self.layers:
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0

    def before_tanh(self) -> HashHead:
        """Return a head without tanh that shares the weights."""
        head = copy.copy(self)
        head._modules = dict(self._modules)
        head.layers = nn.Sequential(*(m for m in self.layers if not isinstance(m, nn.Tanh)))
        return head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs of shape (n_samples, n_bits); their signs are the bits."""
        return self.layers((features - self.mean) / self.scale)


def _linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's initial weights, drawn from a separate generator."""
    layer = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
    bound = 1 / math.sqrt(n_inputs)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator)
    return layer
