"""The losses of the supervised hashers, one small class each.

All take the outputs of the head for a batch, shape (n, n_bits), and the label
indicator of the batch, shape (n, n_labels); two samples are similar if they
share a label.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DRSCHLoss", "DSHLoss", "KSHLoss", "similar_pairs"]


def similar_pairs(labels: torch.Tensor) -> torch.Tensor:
    """Find the pairs of samples that share a label.

    Parameters
    ----------
    labels : Tensor of shape (n, n_labels)
        Indicator.

    Returns
    -------
    Tensor of shape (n, n), bool
    """
    return labels @ labels.T > 0


def squared_distances(outputs: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances between all pairs, shape (n, n)."""
    norms = outputs.square().sum(1)
    return (norms[:, None] + norms - 2 * outputs @ outputs.T).clamp_min(0)


def _pair_weights(similar: torch.Tensor, balance_pairs: bool) -> torch.Tensor:
    """Weights of pairs, zero on the diagonal, of mean 1 off it.

    If ``balance_pairs``, similar and dissimilar pairs of the batch have the same total weight.
    Otherwise constant bits would be best if one kind is rare.
    """
    off_diagonal = ~torch.eye(len(similar), dtype=torch.bool, device=similar.device)
    weights = off_diagonal.to(torch.get_default_dtype())
    if balance_pairs:
        n_pairs = off_diagonal.sum()
        for kind in (similar & off_diagonal, ~similar & off_diagonal):
            if 0 < kind.sum() < n_pairs:
                weights[kind] = n_pairs / (2 * kind.sum())
    return weights


class DSHLoss(nn.Module):
    """Contrastive loss of deep supervised hashing.

    Over the pairs i < j of a batch of n, with s = 1 for similar pairs and d the
    Euclidean distance of their outputs b::

        sum_ij 1/2 (s d^2 + (1 - s) max(margin - d^2, 0)) / (n (n - 1))
        + quantization sum_i || |b_i| - 1 ||_1 / n

    Liu, Wang, Shan and Chen, "Deep supervised hashing for fast image
    retrieval", CVPR 2016: its relaxed loss.

    Parameters
    ----------
    margin : float
        Squared distance beyond which dissimilar pairs have no loss; it is 4
        times a Hamming distance where outputs are near +-1.
    quantization : float, default=0.01
        Weight of the distance of outputs from +-1.
    balance_pairs : bool, default=True
        Whether similar and dissimilar pairs have equal total weight.
    """

    def __init__(
        self, margin: float, quantization: float = 0.01, balance_pairs: bool = True
    ) -> None:
        super().__init__()
        self.margin = margin
        self.quantization = quantization
        self.balance_pairs = balance_pairs

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of a batch."""
        n = len(outputs)
        similar = similar_pairs(labels)
        distances = squared_distances(outputs)
        pairs = torch.where(similar, distances, (self.margin - distances).clamp_min(0))
        # Each pair is counted twice in the full matrix.
        contrast = (
            (_pair_weights(similar, self.balance_pairs) * pairs).sum() / 4 / max(n * (n - 1), 1)
        )
        return contrast + self.quantization * (outputs.abs() - 1).abs().sum() / n

    def extra_repr(self) -> str:
        """Parameters in the representation."""
        return f"{self.margin}, {self.quantization}, balance_pairs={self.balance_pairs}"


class KSHLoss(nn.Module):
    """Distance of inner products of codes from similarities, for outputs H in [-1, 1].

    ``|| H H' / n_bits - S ||_F^2 / n^2`` over a batch of n, with S = 1 for
    similar pairs and -1 for the others: the objective of Liu, Wang, Ji, Jiang
    and Chang, "Supervised hashing with kernels", CVPR 2012, batch by batch.

    Parameters
    ----------
    balance_pairs : bool, default=True
        Whether similar and dissimilar pairs of two samples have equal total
        weight.
    """

    def __init__(self, balance_pairs: bool = True) -> None:
        super().__init__()
        self.balance_pairs = balance_pairs

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of a batch."""
        similar = similar_pairs(labels)
        weights = _pair_weights(similar, self.balance_pairs)
        weights.fill_diagonal_(1)
        target = torch.where(similar, 1.0, -1.0)
        return (weights * (outputs @ outputs.T / outputs.shape[1] - target).square()).mean()

    def extra_repr(self) -> str:
        """Parameters in the representation."""
        return f"balance_pairs={self.balance_pairs}"


class DRSCHLoss(nn.Module):
    """Triplet loss of deep regularized similarity comparison hashing.

    Codes are ``y = bit_weights * sigmoid(outputs)``. Over the triplets of a
    batch, samples 1 and 2 similar, 1 and 3 not::

        mean max(|y_1 - y_2|^2 - |y_1 - y_3|^2, -margin)
        + smoothing tr(Y' L Y) / n^2

    with L the Laplacian of the similarities of the batch. The means over
    triplets and pairs replace the paper's sums, so that neither term depends on
    the batch size.

    Zhang, Lin, Zhang, Zuo and Zhang, "Bit-scalable deep hashing with
    regularized similarity learning for image retrieval and person
    re-identification", IEEE Transactions on Image Processing 24(12), 2015.

    Parameters
    ----------
    n_bits : int
        Number of bits.
    margin : float
        Required difference of the distances.
    smoothing : float, default=0.001
        Weight of the Laplacian term.
    """

    def __init__(self, n_bits: int, margin: float, smoothing: float = 0.001) -> None:
        super().__init__()
        self.margin = margin
        self.smoothing = smoothing
        self.bit_weights = nn.Parameter(torch.ones(n_bits))

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of a batch."""
        n = len(outputs)
        similar = similar_pairs(labels)
        distances = squared_distances(self.bit_weights * outputs.sigmoid())
        near = similar & ~torch.eye(n, dtype=torch.bool, device=outputs.device)
        triplets = near[:, :, None] & ~similar[:, None, :]
        gaps = (distances[:, :, None] - distances[:, None, :]).clamp_min(-self.margin)
        comparison = (triplets * gaps).sum() / triplets.sum().clamp_min(1)
        # tr(Y' L Y) = 1/2 sum_ij S_ij |y_i - y_j|^2.
        return comparison + self.smoothing * (similar * distances).sum() / 2 / n**2

    def extra_repr(self) -> str:
        """Parameters in the representation."""
        return f"{len(self.bit_weights)}, {self.margin}, {self.smoothing}"
