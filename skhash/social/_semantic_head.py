"""Heads of networks that learn what tags mean, and bits of their outputs."""

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

# Of the tagged images, the share on which settings are compared, and factors that are tried.
_HELD_OUT = 0.2
_FACTOR = 3.0
_MOST_STEPS = 3
# A gain of the error that is worth three times the epochs.
_WORTH = 0.995
_RISE = 0.3  # part of the epochs in which the learning rate rises
# Batches that an epoch has at least: of few images it is several passes, or it would be over
# before the head has learned anything.
_LEAST_BATCHES = 16


class OneCycle:
    """Share of the learning rate in each epoch: up for the first third, down to 0 after it.

    A fall alone lets the head learn noisy tags by heart while the rate is high.

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

    A linear head begins at the ridge regression of least generalised
    cross-validation error; on features as they are, that is all.

    Parameters
    ----------
    hasher : DeepHasher
        A hasher in a fit, whose head has as many outputs as there are targets,
        without tanh.
    inputs : ndarray of shape (n_samples, n_features) or Images
        As its ``build`` returned them.
    targets : ndarray or csr_array of shape (n_samples, n_targets)
        Rows of zeros are images that nothing is known of.
    weight_decay : float
        Weight decay of the head.
    max_epochs : int
        Epochs.
    tune : bool, default=False
        Whether to try other strengths and more epochs, from these on, by the
        error on held-out images. Left out where the backbone is trained.
    **settings : dict
        Replace settings of the trainer.

    Returns
    -------
    dict
        The ``weight_decay`` and ``max_epochs`` in use, and the ``errors`` on
        held-out images of all that were tried, as a list of
        (weight_decay, max_epochs, error); of a head in closed form the strength
        of the ``ridge``.

    Raises
    ------
    ValueError
        If fewer than two images have targets.
    """
    rows, places = _described(hasher, inputs, targets)
    if len(rows) < 2:
        raise ValueError(
            f"y says something about {len(rows)} image(s); at least 2 need tags to learn from."
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
    """Rows of the readable images that have targets, and their places among the readable ones."""
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
        """Walk to the strength of least error, then to more epochs if they are worth it."""
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

    The map becomes part of the head's last layer; a tanh follows where the
    hasher has one.

    Parameters
    ----------
    hasher : DeepHasher
        A hasher in a fit, whose head has learned targets.
    inputs : ndarray of shape (n_samples, n_features) or Images
        As its ``build`` returned them.
    targets : ndarray or csr_array of shape (n_samples, n_targets)
        What it has learned; images that nothing is known of take no part.
    max_iter : int, default=50
        Alternations of ITQ.
    unit : bool, default=True
        Whether outputs get mean size 1, where losses that pull to -1 and 1 want
        them. Else they keep the lengths of what the head predicted.

    Returns
    -------
    ndarray of shape (max_iter,)
        ITQ's loss after each.

    Raises
    ------
    ValueError
        If the outputs are the same for all.
    """
    _, places = _described(hasher, inputs, targets)
    features = TakenRows(hasher.training_features(inputs), places)
    outputs = HeadRows(hasher.head_, features, device=hasher.device)
    mean, variances, directions = scatter_spectrum(outputs, hasher.n_bits)
    if not len(variances):
        raise ValueError(
            "y tells no image from another (the same tags for all, or features that do not "
            "tell them apart); lower weight_decay, or use ITQ, which needs no tags."
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
