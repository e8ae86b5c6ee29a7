"""GreedyHash: signs with a straight-through gradient."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Unpack

import numpy as np
import torch

from .._sklearn import Interval
from ..networks import DeepHasher, NetworkParameters
from ._losses import GreedyHashLoss

__all__ = ["GreedyHash"]


class GreedyHash(DeepHasher):
    """GreedyHash: codes as similar as the features of images, learned through the sign [1]_.

    The network is trained so that the cosine of the codes of two images is
    close to the cosine of their features, which are fixed. With b = sign(h)
    for outputs h, it minimises over the pairs (i, j) of the two halves of a
    batch::

        mean_ij (cos(b_i, b_j) - cos(f_i, f_j))^2 + quantization mean | |h| - 1 |^3

    Codes are not relaxed: the sign is used in the forward pass and ignored in
    the backward pass.

    The features are X. For images they are the features of the backbone before
    training, computed once, even if the backbone is trained.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    quantization : float, default=0.1
        Weight of the distance of outputs from +-1.
    center : bool, default=True
        Whether to centre features for their cosines. Most networks return
        features that are not negative. Without centring, the cosines of such
        features are large for all pairs, and bits are not balanced.
    weight_decay : float, default=30.0
        As in DeepHasher.
    **network
        Parameters of DeepHasher.

    See Also
    --------
    skhash.ITQ : Keeps directions of large variance; trains in a second.

    Notes
    -----
    This differs from the paper and its program in three points. All pairs of
    the two halves of a batch are compared, not only the first of one half with
    the first of the other and so on; this has the same mean and less noise.
    Features are centred. The head is trained by AdamW with much weight decay,
    by default on features; the program trains all of AlexNet by SGD with lr
    1e-4, momentum 0.9, weight decay 5e-4 and batches of 32
    (``optimizer="sgd"``).

    References
    ----------
    .. [1] S. Su, C. Zhang, K. Han and Y. Tian, "Greedy hash: towards fast
       optimization for accurate hash coding in CNN", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import GreedyHash
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> GreedyHash(n_bits=8, max_epochs=5, random_state=0).fit_transform(X).shape
    (100, 8)
    """

    requires_y = False

    _defaults: ClassVar[NetworkParameters] = {"weight_decay": 30.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "quantization": [Interval(Real, 0, None, closed="left")],
        "center": ["boolean"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        quantization: float = 0.1,
        center: bool = True,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(n_bits, **network)
        self.quantization = quantization
        self.center = center

    def learn(self, X: Any, y: Any) -> None:
        """Train the network on the similarities of its features."""
        inputs = self.build(self.open_inputs(X))
        mean = self.head_.mean
        centre = mean.clone() if self.center else torch.zeros_like(mean)
        loss = GreedyHashLoss(centre, self.quantization)
        features = self.training_features(inputs)[:]
        targets = np.zeros((len(inputs), features.shape[1]), np.float32)
        targets[self.readable_rows(inputs)] = features
        self.train_network(inputs, targets, loss)
        self.warn_constant_bits(inputs)
