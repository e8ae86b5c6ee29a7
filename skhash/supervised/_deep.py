"""Supervised hashers with a network."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .._sklearn import Interval
from ..networks import DeepHasher, NetworkParameters
from ._losses import DRSCHLoss, DSHLoss, KSHLoss

__all__ = ["DRSCHHasher", "DSHHasher", "KSHHasher"]


class DSHHasher(DeepHasher):
    """Deep supervised hashing: similar images have close outputs, others distant ones.

    The contrastive loss of Liu, Wang, Shan and Chen, "Deep supervised hashing
    for fast image retrieval", CVPR 2016, on the outputs of a network, which
    are kept near +-1.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    margin : float, default=2.0
        Squared distance, in units of ``n_bits``, beyond which dissimilar pairs
        have no loss. For outputs of +-1 it is 4 times the share of the bits
        that differ, so 2 requires half of the bits to differ, as in the paper.
    quantization : float, default=0.01
        Weight of the distance of outputs from +-1.
    weight_decay : float, default=3.0
        As in DeepHasher. Distances can grow without bound, unlike inner
        products of tanh outputs, so more weight decay is needed.
    balance_pairs : bool, default=True
        Whether the similar and the dissimilar pairs of a batch have equal
        total weight. In the paper every pair has the same weight, which leads
        to constant bits if one kind is rare.
    **network
        Parameters of DeepHasher.

    See Also
    --------
    KSHHasher : Inner products of codes fitted to similarities.
    DRSCHHasher : Triplets instead of pairs.

    Notes
    -----
    The paper trains with lr 1e-3, momentum 0.9, weight decay 4e-3 and batches
    of 200 (``optimizer="sgd"``).

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import DSHHasher
    >>> X = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    >>> y = np.repeat(["cat", "dog", "boat", "tree"], 10)
    >>> hasher = DSHHasher(n_bits=8, max_epochs=50, random_state=0).fit(X, y)
    >>> hasher.transform(X).shape
    (40, 8)
    >>> hasher.score(X, y)
    1.0
    """

    retention = 150.0  # the loss grows with n_bits

    _defaults: ClassVar[NetworkParameters] = {"weight_decay": 3.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "margin": [Interval(Real, 0, None, closed="neither")],
        "quantization": [Interval(Real, 0, None, closed="left")],
        "balance_pairs": ["boolean"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        margin: float = 2.0,
        quantization: float = 0.01,
        balance_pairs: bool = True,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(n_bits, **network)
        self.margin = margin
        self.quantization = quantization
        self.balance_pairs = balance_pairs

    def make_loss(self) -> nn.Module:
        """Make the contrastive loss of pairs."""
        return DSHLoss(self.margin * self.n_bits, self.quantization, self.balance_pairs)


class KSHHasher(DeepHasher):
    """Inner products of codes fitted to similarities, by a network.

    The objective of KSH, ``|| H H' / n_bits - S ||_F^2``, on the tanh outputs H
    of a network, batch by batch, as a deep form of :class:`KSH`.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    balance_pairs : bool, default=True
        Whether the similar and the dissimilar pairs of a batch have equal
        total weight. Otherwise bits become constant if one kind is rare.
    **network
        Parameters of DeepHasher.

    See Also
    --------
    KSH : The kernel form of the paper.
    DSHHasher : Distances instead of inner products.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import KSHHasher
    >>> X = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    >>> y = np.repeat(["cat", "dog", "boat", "tree"], 10)
    >>> hasher = KSHHasher(n_bits=8, max_epochs=50, random_state=0).fit(X, y)
    >>> hasher.score(X, y)
    1.0
    """

    tanh_outputs = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "balance_pairs": ["boolean"],
    }

    def __init__(
        self, n_bits: int = 64, *, balance_pairs: bool = True, **network: Unpack[NetworkParameters]
    ) -> None:
        super().__init__(n_bits, **network)
        self.balance_pairs = balance_pairs

    def make_loss(self) -> nn.Module:
        """Make the loss of inner products."""
        return KSHLoss(self.balance_pairs)


class DRSCHHasher(DeepHasher):
    """Deep regularized similarity comparison hashing: triplets, weighted bits.

    Learns the network and a weight per bit. The weighted distance of a similar
    pair should be smaller than that of a dissimilar pair. The plain Hamming
    distance of codes ignores the weights.

    Zhang, Lin, Zhang, Zuo and Zhang, "Bit-scalable deep hashing with regularized
    similarity learning for image retrieval and person re-identification", IEEE
    Transactions on Image Processing 24(12), 2015.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    margin : float, default=1.0
        Required difference between the distances of the dissimilar and the
        similar pair, in units of ``n_bits``. These are squared distances of
        codes in [0, bit weight]. The authors' code starts from 5 for all
        lengths; then most triplets of long codes have no effect.
    smoothing : float, default=0.001
        Weight of the Laplacian term, which makes codes of similar samples
        similar.
    batch_size : int, default=64
        Samples per training step; the number of triplets grows with the cube.
    **network
        Parameters of DeepHasher.

    Attributes
    ----------
    bit_weights_ : ndarray of shape (n_bits,)
        Absolute weight of each bit. If shorter codes are needed, keep the bits
        with the largest weights.

    See Also
    --------
    DSHHasher : Pairs instead of triplets.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import DRSCHHasher
    >>> X = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    >>> y = np.repeat(["cat", "dog", "boat", "tree"], 10)
    >>> hasher = DRSCHHasher(n_bits=8, max_epochs=50, random_state=0).fit(X, y)
    >>> hasher.score(X, y)
    1.0
    """

    retention = 500.0  # the loss grows with n_bits

    _defaults: ClassVar[NetworkParameters] = {"batch_size": 64}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "margin": [Interval(Real, 0, None, closed="neither")],
        "smoothing": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        margin: float = 1.0,
        smoothing: float = 0.001,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(n_bits, **network)
        self.margin = margin
        self.smoothing = smoothing

    def make_loss(self) -> nn.Module:
        """Make the loss of triplets."""
        return DRSCHLoss(self.n_bits, self.margin * self.n_bits, self.smoothing)

    @property
    def bit_weights_(self) -> NDArray[np.float32]:
        """Absolute weight of each bit."""
        if not isinstance(self.loss_, DRSCHLoss):
            raise AttributeError("bit_weights_ are learned from labels, but there were none.")
        return self.loss_.bit_weights.detach().abs().numpy()
