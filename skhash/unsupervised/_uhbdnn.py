"""UH-BDNN, an autoencoder with binary codes inside."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Unpack

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from sklearn.utils import gen_batches
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from .._sklearn import Interval
from ..networks import DeepHasher, NetworkParameters
from ._itq import itq_codes
from ._losses import UHBDNNLoss

__all__ = ["UHBDNN", "Decoder", "descend_codes"]

_ITQ_ITERATIONS = 20  # enough, as the codes are improved later
_SWEEPS = 10
_BLOCK_ROWS = 8192  # so that there is never a copy of all features


class UHBDNN(DeepHasher):
    """UH-BDNN: a deep network whose codes reconstruct the features [1]_.

    An encoder with sigmoid hidden layers computes outputs H for m samples X. A
    linear decoder reconstructs X from codes B in {-1, 1}, and H should be
    equal to B. With samples as rows, the objective is::

        1/2m ||X - B W - c||^2 + ridge/2 ||W||^2 + quantization/2m ||H - B||^2
        + decorrelation/2 ||H'H / m - I||^2 + bit_balance/2m ||H'1||^2

    B starts from ITQ. In each of ``n_rounds`` rounds, B is fixed while the
    encoder is trained and the decoder is solved for. Then these are fixed, and
    B is improved bit by bit: each bit of each sample is set to the better of
    its two values (discrete coordinate descent, 10 sweeps). New samples are
    encoded by the signs of the encoder's outputs.

    In the objective X is centred and divided by the range of all its values.
    For images, X is the features of the backbone before training, even if the
    backbone is trained.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes; at most the number of samples and of features.
    hidden_layers : tuple of int, default=(256, 128)
        Units of the encoder's hidden layers.
    ridge : float, default=1e-05
        Weight of the norm of the decoder's weights, lambda 1 of the paper.
    quantization : float, default=0.05
        Weight of the distance between outputs and codes, lambda 2.
    decorrelation : float, default=0.01
        Weight of the decorrelation of bits, lambda 3.
    bit_balance : float, default=5e-07
        Weight of the balance of bits, lambda 4.
    n_rounds : int, default=5
        Number of rounds of network and codes.
    max_epochs : int, default=15
        Passes over the training data in every round.
    lr : float, default=0.01
        Learning rate of the head at the start of a round; it decreases to 0
        like a cosine.
    weight_decay : float, default=0.1
        As in DeepHasher; it replaces lambda 1 for the encoder.
    **network
        Parameters of DeepHasher.

    Attributes
    ----------
    objective_ : ndarray of shape (n_iter_,), float64
        The objective after each round, over all training samples.
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}; MISSING for
        unreadable images.
    history_ : list of dict
        Records of skorch for each epoch, with the round.
    n_iter_ : int
        Number of rounds.

    See Also
    --------
    skhash.ITQ : The initial codes.

    Notes
    -----
    This differs from the paper in four points. The encoder is trained by AdamW
    on batches, not by L-BFGS on all samples at once. On features of photos
    this reaches a lower objective and better codes in the same time, and it
    works for images and any number of samples; bits are then decorrelated
    within batches. The decoder, whose input is only codes, is solved for in
    closed form. The hidden layers have the same size for all code lengths, not
    from 90 and 20 units (8 bits) to 120 and 50 (32 bits). Features are
    centred, which changes only biases, and they enter the encoder at the scale
    of their standard deviation, where its sigmoids are neither flat nor nearly
    linear.

    With a checkpoint, training continues where the rounds stopped. Then
    ``n_rounds`` may be larger, but ``max_epochs`` may not, as later rounds
    depend on the completed ones.

    References
    ----------
    .. [1] T.-T. Do, A.-D. Doan and N.-M. Cheung, "Learning to hash with binary
       deep neural network", ECCV 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import UHBDNN
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> UHBDNN(n_bits=4, n_rounds=2, random_state=0).fit_transform(X).shape
    (100, 4)
    """

    requires_y = False
    head_activation = nn.Sigmoid

    _defaults: ClassVar[NetworkParameters] = {
        "hidden_layers": (256, 128),
        "max_epochs": 15,
        "lr": 1e-2,
        "weight_decay": 0.1,
    }

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "quantization": [Interval(Real, 0, None, closed="left")],
        "decorrelation": [Interval(Real, 0, None, closed="left")],
        "bit_balance": [Interval(Real, 0, None, closed="left")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        ridge: float = 1e-5,
        quantization: float = 0.05,
        decorrelation: float = 0.01,
        bit_balance: float = 5e-7,
        n_rounds: int = 5,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(
            n_bits,
            **network,
        )
        self.ridge = ridge
        self.quantization = quantization
        self.decorrelation = decorrelation
        self.bit_balance = bit_balance
        self.n_rounds = n_rounds

    def learn(self, X: Any, y: Any) -> None:
        """Train the network and improve the codes in turn."""
        inputs = self.build(self.open_inputs(X))
        decoder = Decoder(self.training_features(inputs)[:], self.ridge)
        # Means of sigmoids are far from 0, but bits should be balanced at the start.
        self.head_.lower(self.training_outputs(inputs).mean(axis=0))
        loss = UHBDNNLoss(
            len(decoder.features), self.quantization, self.decorrelation, self.bit_balance
        )
        codes = itq_codes(
            decoder.features, self.n_bits, n_iter=_ITQ_ITERATIONS, random_state=self._seed
        ).astype(np.float32)
        objective: list[float] = []

        def objective_of(outputs: NDArray[np.float32]) -> float:
            with torch.no_grad():
                encoding = loss(torch.from_numpy(outputs), torch.from_numpy(codes)).item()
            return decoder.objective(codes) + encoding

        def solve(round_: int) -> NDArray[np.float32]:
            nonlocal codes
            if round_ > 1:
                outputs = self.training_outputs(inputs)
                objective.append(objective_of(outputs))
                linear, quadratic = decoder.code_terms(codes)
                codes = descend_codes(codes, linear + self.quantization * outputs, quadratic)
            return codes

        # With a rate that decreases to 0, the noise of batches averages out, so rounds make
        # progress.
        schedule = LRScheduler(CosineAnnealingLR, T_max=self.max_epochs)
        history = self.train_in_rounds(
            inputs, solve, self.n_rounds, loss, callbacks=[*(self.callbacks or []), schedule]
        )
        objective.append(objective_of(self.training_outputs(inputs)))
        self.objective_, self.n_iter_ = np.array(objective), self.n_rounds
        self.history_ = history
        self.warn_constant_bits(inputs)


def descend_codes(
    codes: NDArray[np.float32],
    linear: NDArray[np.float32],
    quadratic: NDArray[np.float32],
    n_sweeps: int = _SWEEPS,
) -> NDArray[np.float32]:
    """Minimise ``tr(B Q B') - 2 tr(B L')`` over codes B in {-1, 1}, bit by bit.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bits)
        Initial codes.
    linear : ndarray of shape (n_samples, n_bits)
        L.
    quadratic : ndarray of shape (n_bits, n_bits)
        Q, symmetric.
    n_sweeps : int, default=10
        How often every bit is set, given the others; fewer times if no bit
        changes any more.

    Returns
    -------
    ndarray of shape (n_samples, n_bits)
        Codes whose objective is at most that of the initial codes.
    """
    codes = codes.copy()
    for _ in range(n_sweeps):
        before = codes.copy()
        for bit, column in enumerate(quadratic.T):
            others = codes @ column - codes[:, bit] * column[bit]
            codes[:, bit] = np.where(linear[:, bit] >= others, 1, -1)
        if np.array_equal(codes, before):
            break
    return codes


class Decoder:
    """Linear reconstruction of features from codes, by ridge regression.

    With S the features, centred and divided by the range of their values, the
    weights W and intercepts c minimise for given codes B of m samples
    ``1/2m ||S - B W - c||^2 + ridge/2 ||W||^2``.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features), float32
        Features, which must vary.
    ridge : float
        Strength, greater than 0.
    """

    def __init__(self, features: NDArray[np.float32], ridge: float) -> None:
        self.features = features
        self.ridge = ridge
        self._mean = features.mean(axis=0, dtype=np.float64)
        highest, lowest = features.max(axis=0) - self._mean, features.min(axis=0) - self._mean
        self._range = float(highest.max() - lowest.min())
        squares = (
            np.square(features[rows] - self._mean).sum()
            for rows in gen_batches(len(features), _BLOCK_ROWS)
        )
        self._variance = float(sum(squares)) / self._range**2 / len(features)

    def solve(self, codes: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """Weights W of shape (n_bits, n_features), and the objective at them."""
        centred = codes - codes.mean(axis=0)
        cross = (centred.T @ self.features).astype(np.float64) / self._range / len(codes)
        gram = (centred.T @ centred).astype(np.float64) / len(codes)
        coef = scipy.linalg.solve(
            gram + self.ridge * np.eye(len(gram)), cross, assume_a="pos", check_finite=False
        )
        return coef, float(self._variance - (cross * coef).sum()) / 2

    def objective(self, codes: NDArray[np.float32]) -> float:
        """The smallest value of the objective for codes."""
        return self.solve(codes)[1]

    def code_terms(
        self, codes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(S - c) W'`` and ``W W'``, which define the error of reconstruction from other codes.

        W and c are those for ``codes``.
        """
        coef, _ = self.solve(codes)
        quadratic = coef @ coef.T
        linear = self.features @ (coef.T / self._range).astype(np.float32)
        # c is minus the reconstruction of the mean code, as S has mean 0.
        linear += codes.mean(axis=0) @ quadratic - coef @ self._mean / self._range
        return linear, quadratic.astype(np.float32)
