"""Heads of networks that predict the meaning of tags, and bits of their outputs."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from .._ridge import RidgePath
from .._rows import Features, TakenRows, row_blocks
from .._spectrum import scatter_spectrum
from ..networks import DeepHasher
from ..networks._distributed import is_first
from ..networks._extract import HeadRows, run_head
from ..networks._images import Images
from ..semantic._tag_hasher import tagged_rows
from ..unsupervised._itq import itq_rotation

__all__ = ["OneCycle", "learn_targets", "quantize_outputs"]

# Share of the tagged images on which settings are compared; factor between the settings tried.
_HELD_OUT = 0.2
_FACTOR = 3.0
_MOST_STEPS = 3
# Three times the epochs are used only if they lower the error to this share or less.
_WORTH = 0.995
_RISE = 0.3  # part of the epochs in which the learning rate rises
# Smallest number of batches in an epoch. With few images an epoch is several passes over them,
# because the head would learn too little in one.
_LEAST_BATCHES = 16


class OneCycle:
    """Share of the learning rate in each epoch: it rises for 30 % of them, then falls to 0.

    Without the rise, the head would memorise noisy tags while the rate is high.

    Parameters
    ----------
    n_epochs : int
        Number of epochs.
    """

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def __call__(self, epoch: int) -> float:
        """Share in an epoch, numbered from 0."""
        done = (epoch + 0.5) / self.n_epochs
        way = done / _RISE if done < _RISE else (1 - done) / (1 - _RISE)
        return (1 - math.cos(math.pi * min(max(way, 0.0), 1.0))) / 2


def learn_targets(
    hasher: DeepHasher,
    inputs: Features | Images,
    targets: Any,
    *,
    weight_decay: float,
    max_epochs: int,
    tune: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Train the head of a hasher to predict targets, by squared error.

    A linear head starts from the ridge regression with the smallest generalised
    cross-validation error. If the inputs are features, it is not trained further.

    Parameters
    ----------
    hasher : DeepHasher
        A hasher during its fit. Its head has one output per target and no tanh.
    inputs : ndarray of shape (n_samples, n_features) or Images
        As its ``build`` returned them.
    targets : ndarray or csr_array of shape (n_samples, n_targets)
        Images without any targets have rows of zeros.
    weight_decay : float
        Weight decay of the head.
    max_epochs : int
        Epochs.
    tune : bool, default=False
        Whether to also try other values of ``weight_decay`` and more epochs, and
        to choose by the error on held-out images. Ignored if the backbone is
        trained.
    **settings : dict
        Settings of the trainer that replace the hasher's.

    Returns
    -------
    dict
        The ``weight_decay`` and ``max_epochs`` in use, and ``errors``, the list
        of all (weight_decay, max_epochs, error on held-out images) tried. For a
        head in closed form only ``ridge``, the strength of the regression.

    Raises
    ------
    ValueError
        If fewer than two images have targets.
    """
    rows, places = _described(hasher, inputs, targets)
    if len(rows) < 2:
        raise ValueError(
            f"y gives targets for {len(rows)} image(s); at least 2 images need tags to learn from."
        )
    if not hasher.hidden_layers:
        features = TakenRows(hasher.training_features(inputs), places)
        described = targets[rows] if sp.issparse(targets) else TakenRows(targets, rows)
        coef, intercept, ridge = RidgePath(features).fit(described)
        hasher.head_.set_linear(coef, intercept)
        if not isinstance(inputs, Images):
            return {"ridge": ridge}
    search = _Search(hasher, inputs, targets, settings)
    errors: list[tuple[float, int, float]] = []
    if tune and not isinstance(inputs, Images) and len(rows) >= 10:
        weight_decay, max_epochs, errors = search.run(rows, weight_decay, max_epochs)
    search.train(rows, weight_decay, max_epochs, stage="targets")
    return {"weight_decay": weight_decay, "max_epochs": max_epochs, "errors": errors}


def _described(
    hasher: DeepHasher, inputs: Any, targets: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the readable images with targets, and their positions among the readable images."""
    rows = np.setdiff1d(tagged_rows(targets), hasher.skipped_)
    return rows, np.searchsorted(hasher.readable_rows(inputs), rows)


class _Search:
    """Training of a head on targets, and a search for its settings."""

    def __init__(
        self, hasher: DeepHasher, inputs: Any, targets: Any, settings: dict[str, Any]
    ) -> None:
        self.hasher = hasher
        self.inputs = inputs
        self.targets = targets
        self.settings = settings

    def train(
        self, rows: NDArray[np.intp], weight_decay: float, max_epochs: int, **settings: Any
    ) -> None:
        settings = {**self.settings, **settings}
        n_batches = math.ceil(len(rows) / settings.get("batch_size", self.hasher.batch_size))
        n_epochs = max_epochs * math.ceil(_LEAST_BATCHES / n_batches)
        schedule = LRScheduler(LambdaLR, lr_lambda=OneCycle(n_epochs))
        self.hasher.train_network(
            self.inputs,
            self.targets,
            nn.MSELoss(),
            rows=rows,
            callbacks=[*(self.hasher.callbacks or []), schedule],
            optimizer__weight_decay=weight_decay,
            max_epochs=n_epochs,
            **settings,
        )

    def run(
        self, rows: NDArray[np.intp], weight_decay: float, max_epochs: int
    ) -> tuple[float, int, list[tuple[float, int, float]]]:
        """Search the weight decay of least error, then try more epochs with it."""
        hasher, targets = self.hasher, self.targets
        shuffled = np.random.default_rng(hasher._seed).permutation(rows)
        n_held = max(1, round(_HELD_OUT * len(rows)))
        held, rest = np.sort(shuffled[:n_held]), np.sort(shuffled[n_held:])
        wanted = targets[held].toarray() if sp.issparse(targets) else targets[held]
        start = hasher.head_
        tried: dict[tuple[float, int], float] = {}

        def error(decay: float, epochs: int) -> float:
            if (decay, epochs) not in tried:
                hasher.head_ = copy.deepcopy(start)
                self.train(rest, decay, epochs, checkpoint=None, verbose=0)
                outputs = run_head(hasher.head_, self.inputs[held], device=hasher.device)
                tried[decay, epochs] = float(np.square(outputs - wanted).sum(axis=1).mean())
                if hasher.verbose and is_first():
                    print(
                        f"[{type(hasher).__name__}] weight_decay {decay:.3g}, {epochs} epochs: "
                        f"error {tried[decay, epochs]:.4f}"
                    )
            return tried[decay, epochs]

        def walk(decay: float, epochs: int) -> float:
            for factor in (_FACTOR, 1 / _FACTOR):
                for _ in range(_MOST_STEPS):
                    if error(decay * factor, epochs) >= error(decay, epochs):
                        break
                    decay *= factor
                else:
                    break
            return decay

        try:
            weight_decay = walk(weight_decay, max_epochs)
            longer = round(_FACTOR * max_epochs)
            if error(weight_decay, longer) < _WORTH * error(weight_decay, max_epochs):
                weight_decay, max_epochs = walk(weight_decay, longer), longer
        finally:
            hasher.head_ = start
        return weight_decay, max_epochs, [(*at, value) for at, value in tried.items()]


def quantize_outputs(
    hasher: DeepHasher,
    inputs: Features | Images,
    targets: Any,
    *,
    max_iter: int = 50,
    unit: bool = True,
) -> NDArray[np.float64]:
    """Turn the outputs of a head into bits: principal components, rotated by ITQ.

    The map becomes part of the head's last layer. A tanh follows if the hasher
    uses one.

    Parameters
    ----------
    hasher : DeepHasher
        A hasher during its fit. Its head has learned the targets.
    inputs : ndarray of shape (n_samples, n_features) or Images
        As its ``build`` returned them.
    targets : ndarray or csr_array of shape (n_samples, n_targets)
        The learned targets; images without any targets are not used.
    max_iter : int, default=50
        Number of alternations of ITQ.
    unit : bool, default=True
        Whether to scale outputs to mean size 1, which suits losses that pull
        outputs to -1 and 1. Otherwise they keep the lengths of the predictions.

    Returns
    -------
    ndarray of shape (max_iter,)
        ITQ's loss after each alternation.

    Raises
    ------
    ValueError
        If the outputs are the same for all images.
    """
    _, places = _described(hasher, inputs, targets)
    features = TakenRows(hasher.training_features(inputs), places)
    outputs = HeadRows(hasher.head_, features, device=hasher.device)
    mean, variances, directions = scatter_spectrum(outputs, hasher.n_bits)
    if not len(variances):
        raise ValueError(
            "y does not distinguish the images (all have the same tags, or similar features); "
            "lower weight_decay, or use ITQ, which needs no tags."
        )
    projection = np.zeros((hasher.n_bits, outputs.shape[1]))
    projection[: len(directions)] = directions
    projected = np.empty((len(outputs), hasher.n_bits), np.float32)
    for block, values in row_blocks(outputs):
        projected[block] = (values - mean) @ projection.T
    R, losses = itq_rotation(projected, n_iter=max_iter, random_state=hasher._seed)
    coef = R.T @ projection
    if unit:
        coef /= np.abs(projected @ R).mean()
    hasher.head_.compose(coef, -coef @ mean)
    if hasher.tanh_outputs:
        hasher.head_.layers.append(nn.Tanh())
    return losses
