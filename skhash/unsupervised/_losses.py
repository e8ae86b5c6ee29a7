"""The losses of the unsupervised hashers with a network, one small class each.

All take the outputs of the head for a batch, shape (n, n_bits), and the targets
of the same rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

__all__ = ["DeepBitLoss", "GreedyHashLoss", "UHBDNNLoss", "straight_through_sign"]


class _StraightThroughSign(torch.autograd.Function):
    """Sign, 1 at 0, whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return torch.where(values >= 0, 1, -1).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def straight_through_sign(values: torch.Tensor) -> torch.Tensor:
    """Signs of values, with a gradient as if they were the values themselves.

    Parameters
    ----------
    values : Tensor
        Any numbers.

    Returns
    -------
    Tensor of the same shape
        1 where a value is at least 0, else -1.
    """
    return _StraightThroughSign.apply(values)


class GreedyHashLoss(nn.Module):
    """Distance between similarities of codes and similarities of fixed features.

    With b = sign(h) for outputs h, features f and their centre c, over the
    pairs of a sample i of the first half of a batch and j of the second::

        mean_ij (cos(b_i, b_j) - cos(f_i - c, f_j - c))^2 + quantization mean | |h| - 1 |^3

    The gradient ignores the sign. All pairs of the two halves are used, also
    if the batch has an odd size; a batch of one sample has no pairs.

    Su, Zhang, Han and Tian, "Greedy hash: towards fast optimization for accurate
    hash coding in CNN", NeurIPS 2018, section 4.2.

    Parameters
    ----------
    centre : Tensor of shape (n_features,)
        Origin of the angles between features.
    quantization : float, default=0.1
        Weight of the distance of outputs from +-1.
    """

    centre: torch.Tensor

    def __init__(self, centre: torch.Tensor, quantization: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.quantization = quantization

    def forward(self, outputs: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Loss of a batch."""
        half = len(outputs) // 2
        codes = normalize(straight_through_sign(outputs))
        features = normalize(features - self.centre, eps=torch.finfo(features.dtype).tiny)
        errors = codes[:half] @ codes[half:].T - features[:half] @ features[half:].T
        similarity = errors.square().sum() / max(errors.numel(), 1)
        return similarity + self.quantization * ((outputs.abs() - 1).abs() ** 3).mean()

    def extra_repr(self) -> str:
        """Parameters in the representation."""
        return f"quantization={self.quantization}"


class DeepBitLoss(nn.Module):
    """Balance, quantisation and rotation invariance of bits.

    With f = max(h, 0) for outputs h, b = 1 where f >= 0.5, else 0, and f^k for
    the output for the image rotated by the k-th angle, divided by the number
    of bits::

        bit_balance || mean_i b_i - 1/2 ||^2 + quantization mean_i || b_i - f_i ||^2
        + rotation mean_i sum_k exp(-(angle_k / 5)^2 / 2) || f_i^k - f_i ||^2

    In the bit balance the gradient of f is used for b, which has none; in the
    quantisation b is a fixed target.

    Lin, Lu, Chen and Zhou, "Learning compact binary descriptors with
    unsupervised deep neural networks", CVPR 2016.

    Parameters
    ----------
    bit_balance : float, default=1.0
        Weight of the first term.
    quantization : float, default=1.0
        Weight of the second.
    rotation : float, default=0.001
        Weight of the third.
    angles : sequence of float, default=()
        Angles of rotation in degrees. With angles, the outputs have shape (n,
        1 + n_angles, n_bits), with the upright image first; without angles,
        (n, n_bits).
    """

    def __init__(
        self,
        bit_balance: float = 1.0,
        quantization: float = 1.0,
        rotation: float = 0.001,
        angles: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.bit_balance = bit_balance
        self.quantization = quantization
        self.rotation = rotation
        self.angles = angles

    def forward(self, outputs: torch.Tensor, targets: Any = None) -> torch.Tensor:
        """Loss of a batch; there are no targets."""
        n, n_bits = len(outputs), outputs.shape[-1]
        views = outputs.relu().view(n, 1 + len(self.angles), n_bits)
        values, turned = views[:, 0], views[:, 1:]
        bits = (values >= 0.5).to(values.dtype)
        through = values + (bits - values).detach()
        loss = self.bit_balance * (through.mean(0) - 0.5).square().sum()
        loss = loss + self.quantization * (bits - values).square().sum() / n
        angles = torch.tensor(self.angles, dtype=values.dtype, device=values.device)
        weights = (-(angles / 5).square() / 2).exp()
        moved = (turned - values[:, None]).square().sum((0, 2)) / n
        return (loss + self.rotation * (weights * moved).sum()) / n_bits

    def extra_repr(self) -> str:
        """Parameters in the representation."""
        return f"{self.bit_balance}, {self.quantization}, {self.rotation}, angles={self.angles}"


class UHBDNNLoss(nn.Module):
    """The loss of the encoder of UH-BDNN, given codes B.

    For outputs H of a batch of n::

        quantization / 2n ||H - B||^2 + decorrelation / 2 || H'H / n - I ||^2
        + bit_balance n_samples / 2 || mean_i h_i ||^2

    Do, Doan and Cheung, "Learning to hash with binary deep neural network",
    ECCV 2016, Eq. 4. For all samples in one batch it is the loss of the paper,
    whose bit_balance / 2m ||H'1||^2 grows with the number m of samples.

    Parameters
    ----------
    n_samples : int
        Number of training samples.
    quantization : float, default=0.05
        Weight of the distance to the codes, the paper's lambda 2.
    decorrelation : float, default=0.01
        Weight of the decorrelation of bits, lambda 3.
    bit_balance : float, default=5e-07
        Weight of the balance of bits, lambda 4.
    """

    def __init__(
        self,
        n_samples: int,
        quantization: float = 0.05,
        decorrelation: float = 0.01,
        bit_balance: float = 5e-7,
    ) -> None:
        super().__init__()
        self.n_samples = n_samples
        self.quantization = quantization
        self.decorrelation = decorrelation
        self.bit_balance = bit_balance

    def forward(self, outputs: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Loss of a batch; the codes are -1 and 1."""
        n, n_bits = outputs.shape
        identity = torch.eye(n_bits, dtype=outputs.dtype, device=outputs.device)
        distance = (outputs - codes).square().sum() / n
        correlation = (outputs.T @ outputs / n - identity).square().sum()
        shift = self.n_samples * outputs.mean(0).square().sum()
        return (
            self.quantization * distance
            + self.decorrelation * correlation
            + self.bit_balance * shift
        ) / 2

    def extra_repr(self) -> str:
        """Parameters in the representation."""
        return f"{self.n_samples}, {self.quantization}, {self.decorrelation}, {self.bit_balance}"
