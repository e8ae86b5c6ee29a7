"""DeepBit: balanced bits that are stable under small rotations of the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

from .._files import content_digest
from .._rows import Features
from .._sklearn import Interval
from ..networks import DeepHasher, HashNet, NetworkParameters
from ..networks._extract import run_head
from ..networks._images import Images
from ._losses import DeepBitLoss

__all__ = ["DeepBit", "turn"]

_ANGLES = (-10.0, -5.0, 5.0, 10.0)
_ROTATION = 1e-3  # the paper's weight


class DeepBit(DeepHasher):
    """DeepBit: bits that are balanced, well quantised and stable under rotation [1]_.

    A network with outputs f = max(h, 0) and bits b = 1 where f >= 1/2, else 0,
    is trained. With f^k for the image rotated by -10, -5, 5 and 10 degrees, it
    minimises::

        bit_balance || mean_i b_i - 1/2 ||^2 + quantization mean_i || b_i - f_i ||^2
        + rotation mean_i sum_k exp(-(angle_k / 5)^2 / 2) || f_i^k - f_i ||^2

    After training, a bit is 1 if its output is at least ``threshold_``, the
    mean over the training samples.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    bit_balance : float, default=1.0
        Weight of the term that makes a bit 1 for half of the samples.
    quantization : float, default=1.0
        Weight of the distance between outputs and their bits.
    rotation : float, default=None
        Weight of the distance between an image and its rotated versions. None
        means 0.001 if X is images; features cannot be rotated, so the term is
        left out for them. 0 leaves it out for images too, which makes training
        much cheaper. With the term, a backbone that is not trained processes
        every image 5 times, and the features of all versions are in memory; a
        trained backbone processes every image 5 times per epoch.
    weight_decay : float, default=10.0
        As in DeepHasher.
    **network
        Parameters of DeepHasher.

    Attributes
    ----------
    threshold_ : ndarray of shape (n_bits,), float32
        Mean output of the training samples (of up to 1,024 if the backbone is
        trained). The decision function is h - threshold_, which has the same
        signs as f - threshold_, and also ranks samples with f = 0.

    See Also
    --------
    skhash.LSH : Random projections, with which this starts.

    Notes
    -----
    No term of this objective makes bits differ from each other, or keeps the
    similarities of images. These come from the random initial weights, and
    from weight decay, which moves weights to directions in which the features
    vary. The default weights of the terms and the threshold are those of the
    authors' program. Rotated images are mirrored at their edges. In the bit
    balance, b has no gradient; the gradient of f is used instead.

    References
    ----------
    .. [1] K. Lin, J. Lu, C.-S. Chen and J. Zhou, "Learning compact binary
       descriptors with unsupervised deep neural networks", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import DeepBit
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> DeepBit(n_bits=8, max_epochs=5, random_state=0).fit_transform(X).shape
    (100, 8)
    """

    requires_y = False

    _defaults: ClassVar[NetworkParameters] = {"weight_decay": 10.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "bit_balance": [Interval(Real, 0, None, closed="left")],
        "quantization": [Interval(Real, 0, None, closed="left")],
        "rotation": [Interval(Real, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        bit_balance: float = 1.0,
        quantization: float = 1.0,
        rotation: float | None = None,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(n_bits, **network)
        self.bit_balance = bit_balance
        self.quantization = quantization
        self.rotation = rotation

    def learn(self, X: Any, y: Any) -> None:
        """Train the network on images and their rotated versions."""
        data = self.open_inputs(X)
        if self.rotation and not isinstance(data, Images):
            raise ValueError(
                f"rotation={self.rotation} needs images to rotate, but X is features; give "
                "rotation=None, or fit on images."
            )
        inputs = self.build(data)
        rotation, angles = 0.0, tuple[float, ...]()
        if isinstance(data, Images) and self.rotation != 0:
            rotation, angles = self.rotation or _ROTATION, _ANGLES
        views, net = inputs, HashNet
        if isinstance(inputs, Images):
            net = _TurningNet if angles else HashNet
        elif angles:
            assert isinstance(data, Images)
            turned = [self._turned_features(data, angle) for angle in angles]
            views = np.stack([inputs[:], *turned], axis=1)
        loss = DeepBitLoss(self.bit_balance, self.quantization, rotation, angles)
        self.train_network(views, np.arange(len(inputs)), loss, net=net)
        self._set_threshold(inputs)
        self.warn_constant_bits(inputs)

    def _turned_features(self, images: Images, angle: float) -> NDArray[np.float32]:
        turned = _TurnedImages(images, angle)
        return self._extract(turned, cache=self.cache, verbose=self.verbose)[0]

    def _set_threshold(self, inputs: Features | Images) -> None:
        """Set the thresholds of the outputs to their means."""
        outputs = run_head(self.head_, self.sample_features(inputs), device=self.device)
        self.threshold_ = np.maximum(outputs, 0).mean(axis=0)
        # Thresholds are positive, so max(h, 0) and h are on the same side of them.
        self.head_.lower(self.threshold_)


def turn(images: torch.Tensor, angle: float) -> torch.Tensor:
    """Rotate images about their centres.

    Parameters
    ----------
    images : Tensor of shape (n, 3, size, size), uint8
        Pixels.
    angle : float
        Degrees, counter-clockwise.

    Returns
    -------
    Tensor of the same shape and dtype
        Interpolated linearly; the outside of an image is its mirror image.
    """
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], device=images.device)
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    turned = grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    return turned.round().clamp(0, 255).to(images.dtype)


class _TurnedImages(Images):
    """Images rotated by an angle."""

    def __init__(self, images: Images, angle: float) -> None:
        vars(self).update(vars(images))
        self.angle = angle

    def __getitem__(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> torch.Tensor:
        return turn(super().__getitem__(rows), self.angle)

    def collate(
        self, images: Iterable[tuple[NDArray[np.uint8], bool]]
    ) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        batch, readable = super().collate(images)
        return turn(batch, self.angle), readable

    def key(self, row: int, *digest: Any) -> bytes:
        """Digest of an image's content and the angle."""
        key = super().key(row, *digest)
        return key and content_digest(key + f"{self.angle}".encode())


class _TurningNet(HashNet):
    """A trainer that also runs the network on the rotated images of a batch."""

    def infer(self, x: Any, **fit_params: Any) -> torch.Tensor:
        """Outputs of shape (n, 1 + n_angles, n_bits)."""
        x = x.to(self.device)
        views = [x, *(turn(x, angle) for angle in self.criterion_.angles)]
        return torch.stack([super(_TurningNet, self).infer(v, **fit_params) for v in views], dim=1)
