"""TagITQ with a network."""

from __future__ import annotations

import copy
import math
from numbers import Integral
from typing import Any, ClassVar, Unpack

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from .._ridge import RidgePath
from .._sklearn import Interval
from .._spectrum import scatter_spectrum
from ..networks import DeepHasher, NetworkParameters
from ..networks._extract import run_head
from ..networks._images import Images
from ..semantic._tag_hasher import TagCodesMixin, tagged_rows
from ..semantic._targets import TARGET_TYPES, SemanticTargets
from ..tags import encode_tags
from ..unsupervised._itq import itq_rotation

__all__ = ["SemanticHead", "TagITQHasher"]

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


class SemanticHead:
    """Mixin of network hashers whose head learns semantic targets before it gives bits.

    It comes before :class:`~skhash.networks.DeepHasher` in the bases.
    """

    def learn_targets(
        self: Any,
        inputs: NDArray[np.float32] | Images,
        targets: Any,
        *,
        weight_decay: float,
        max_epochs: int,
        tune: bool,
        stage: str = "targets",
    ) -> dict[str, Any]:
        """Train the head to predict targets, by squared error.

        A linear head begins at the ridge regression of least generalised
        cross-validation error; on features as they are, that is all.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, n_features) or Images
            As :meth:`build` returned them; the head has as many outputs as
            there are targets.
        targets : ndarray or csr_array of shape (n_samples, n_targets)
            Rows of zeros are images that nothing is known of.
        weight_decay : float
            Weight decay of the head.
        max_epochs : int
            Epochs.
        tune : bool
            Whether to try other strengths and more epochs, from these on, by
            the error on held-out images. Left out where the backbone is
            trained.
        stage : str, default="targets"
            Name of the checkpoint.

        Returns
        -------
        dict
            The ``weight_decay`` and ``max_epochs`` in use, and the ``errors`` on
            held-out images of all that were tried, as a list of
            (weight_decay, max_epochs, error); of a head in closed form the
            strength of the ``ridge``.
        """
        rows = np.setdiff1d(tagged_rows(targets), self.skipped_)
        if len(rows) < 2:
            raise ValueError(
                f"y says something about {len(rows)} image(s); at least 2 need tags to learn from."
            )
        chosen = {"weight_decay": weight_decay, "max_epochs": max_epochs, "errors": []}
        if not self.hidden_layers:
            positions = np.searchsorted(self.readable_rows(inputs), rows)
            features = self.training_features(inputs)[positions]
            coef, intercept, ridge = RidgePath(features).fit(targets[rows])
            self.head_.set_linear(coef, intercept)
            if not isinstance(inputs, Images):
                return {"ridge": ridge}
        if tune and not isinstance(inputs, Images) and len(rows) >= 10:
            chosen = self._tune(inputs, targets, rows, weight_decay, max_epochs)
        self._regress(inputs, targets, rows, chosen, stage=stage)
        return chosen

    def _regress(
        self: Any, inputs: Any, targets: Any, rows: NDArray[np.intp], chosen: dict[str, Any],
        **settings: Any,
    ) -> None:  # fmt: skip
        n_batches = math.ceil(len(rows) / self.batch_size)
        n_epochs = chosen["max_epochs"] * math.ceil(_LEAST_BATCHES / n_batches)
        schedule = LRScheduler(LambdaLR, lr_lambda=OneCycle(n_epochs))
        self.train_network(
            inputs,
            targets,
            nn.MSELoss(),
            rows=rows,
            callbacks=[*(self.callbacks or []), schedule],
            optimizer__weight_decay=chosen["weight_decay"],
            max_epochs=n_epochs,
            **settings,
        )

    def _tune(
        self: Any,
        inputs: NDArray[np.float32],
        targets: Any,
        rows: NDArray[np.intp],
        weight_decay: float,
        max_epochs: int,
    ) -> dict[str, Any]:
        """Walk to the strength of least error, then to more epochs if they are worth it."""
        shuffled = np.random.default_rng(self._seed).permutation(rows)
        n_held = max(1, round(_HELD_OUT * len(rows)))
        held, rest = np.sort(shuffled[:n_held]), np.sort(shuffled[n_held:])
        wanted = targets[held].toarray() if sp.issparse(targets) else targets[held]
        start = self.head_
        tried: dict[tuple[float, int], float] = {}

        def error(decay: float, epochs: int) -> float:
            if (decay, epochs) not in tried:
                self.head_ = copy.deepcopy(start)
                chosen = {"weight_decay": decay, "max_epochs": epochs}
                self._regress(inputs, targets, rest, chosen, checkpoint=None, verbose=0)
                outputs = run_head(self.head_, inputs[held], device=self.device)
                tried[decay, epochs] = float(np.square(outputs - wanted).sum(axis=1).mean())
                if self.verbose:
                    print(
                        f"[{type(self).__name__}] weight_decay {decay:.3g}, {epochs} epochs: "
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
            decay = walk(weight_decay, max_epochs)
            longer = round(_FACTOR * max_epochs)
            if error(decay, longer) < _WORTH * error(decay, max_epochs):
                decay, max_epochs = walk(decay, longer), longer
        finally:
            self.head_ = start
        errors = [(*settings, value) for settings, value in tried.items()]
        return {"weight_decay": decay, "max_epochs": max_epochs, "errors": errors}

    def quantize_outputs(
        self: Any, inputs: NDArray[np.float32] | Images, rows: NDArray[np.intp], max_iter: int
    ) -> NDArray[np.float64]:
        """Turn the outputs of the head into bits: principal components, rotated by ITQ.

        The map becomes part of the head's last layer.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, n_features) or Images
            As :meth:`build` returned them.
        rows : ndarray of int
            Readable images to learn from.
        max_iter : int
            Alternations of ITQ.

        Returns
        -------
        ndarray of shape (max_iter,)
            ITQ's loss after each.
        """
        outputs = self.training_outputs(inputs)[np.searchsorted(self.readable_rows(inputs), rows)]
        mean, variances, directions = scatter_spectrum(outputs, self.n_bits)
        if not len(variances):
            raise ValueError(
                "y tells no image from another (the same tags for all, or features that do not "
                "tell them apart); lower weight_decay, or use ITQ, which needs no tags."
            )
        projection = np.zeros((self.n_bits, outputs.shape[1]))
        projection[: len(directions)] = directions
        projected = ((outputs - mean) @ projection.T).astype(np.float32)
        R, losses = itq_rotation(projected, n_iter=max_iter, random_state=self._seed)
        coef = R.T @ projection
        # Outputs of mean size 1: signs stay, and losses that pull to -1 and 1 find them there.
        coef /= np.abs(projected @ R).mean()
        self.head_.compose(coef, -coef @ mean)
        return losses


class TagITQHasher(TagCodesMixin, SemanticHead, DeepHasher):
    """Iterative quantisation of the semantic targets that a network predicts.

    The network form of :class:`TagITQ`. The head of the network learns by
    squared error what the tags of the training images mean, as vectors; the
    principal components of its outputs, rotated by ITQ [1]_, give the bits.
    Nothing in it needs labels: how strongly weights decay and for how long the
    head is trained follows from the error on held-out targets, which tells
    noisy tags from clean ones. A linear head on features needs no training: it
    is the ridge regression of :class:`TagITQ` without a kernel.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    target : str, path, mapping, callable or SemanticSpace, default="ppmi"
        What the tags of an image mean; see
        :class:`~skhash.semantic.SemanticTargets`.
    tune : bool, default=True
        Whether ``weight_decay`` and ``max_epochs`` are where a search begins:
        thrice or a third of the decay as long as that helps, then thrice the
        epochs, by the error on a fifth of the images. Each step trains a head.
        A backbone that is trained is trained once, without a search.
    max_iter : int, default=50
        Alternations of ITQ.
    hidden_layers : tuple of int, default=(512,)
        Units of the head's hidden layers.
    dropout : float, default=0.5
        As in DeepHasher.
    weight_decay : float, default=3.0
        As in DeepHasher; a start of the search.
    max_epochs : int, default=30
        Epochs; a start of the search. Of fewer than 16 batches of images, an
        epoch is as many passes as make 16.
    **network
        Parameters of DeepHasher.

    Attributes
    ----------
    targets_ : SemanticTargets
        The vectors of tags.
    chosen_ : dict
        ``weight_decay`` and ``max_epochs`` in use, and ``errors``, a list of
        (weight_decay, max_epochs, error on held-out targets) of all tried; of a
        linear head on features ``ridge``, its strength.
    quantization_ : ndarray of shape (max_iter,), float64
        ITQ's loss after each alternation.

    See Also
    --------
    skhash.TagITQ : The closed form, without a network.
    skhash.DSTDHHasher : Goes on from such a network.

    References
    ----------
    .. [1] Y. Gong and S. Lazebnik, "Iterative quantization: a Procrustean
       approach to learning binary codes", CVPR 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import TagITQHasher
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> tags = [["warm", "sun"] if row[0] > 0 else ["cold", "snow"] for row in X]
    >>> hasher = TagITQHasher(4, max_epochs=5, random_state=0).fit(X, tags)
    >>> hasher.transform(X[:2]).shape
    (2, 4)
    """

    _defaults: ClassVar[NetworkParameters] = {
        "hidden_layers": (512,),
        "dropout": 0.5,
        "weight_decay": 3.0,
    }

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        "target": TARGET_TYPES,
        "tune": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        target: Any = "ppmi",
        tune: bool = True,
        max_iter: int = 50,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(n_bits, **network)
        self.target = target
        self.tune = tune
        self.max_iter = max_iter

    def learn(self, X: Any, y: Any) -> None:
        """Learn targets, then bits."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: give "
                "the tags of every image, or use ITQ, which needs none."
            )
        data = self.open_inputs(X)
        tags = encode_tags(y, n_samples=len(data))
        if not tags.indicator.nnz:
            raise ValueError("y has no tags at all; use ITQ, which needs none.")
        self.targets_ = SemanticTargets(self.target, random_state=self._seed)
        vectors = self.targets_.fit_transform(tags)
        inputs = self.build(data, n_outputs=vectors.shape[1])
        self.chosen_ = self.learn_targets(
            inputs,
            vectors,
            weight_decay=self.weight_decay,
            max_epochs=self.max_epochs,
            tune=self.tune,
        )
        rows = np.setdiff1d(tagged_rows(vectors), self.skipped_)
        self.quantization_ = self.quantize_outputs(inputs, rows, self.max_iter)
        readable = self.readable_rows(inputs)
        self._learn_tag_codes(vectors[readable], self.training_outputs(inputs))
        self.warn_constant_bits(inputs)
