"""DeepHasher, the base of every hasher that is a network trained by gradients."""

from __future__ import annotations

import os
from collections import OrderedDict
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._inherit import inherit_parameters
from .._labels import labelled_rows
from .._sklearn import Interval, StrOptions, fit_context
from ..base import (
    HasherMixin,
    check_features,
    check_n_samples,
    narrow_features,
    warn_constant_bits,
)
from ..codes import sign_bits
from ._backbones import Backbone, make_backbone
from ._extract import (
    extract_features,
    find_unreadable,
    place,
    resolve_device,
    run_head,
    warn_unreadable,
)
from ._head import HashHead
from ._images import Images
from ._trainer import HashNet, Targets, TrainingSet

__all__ = ["DeepHasher"]

_OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
_SAMPLE_ROWS = 1024


class DeepHasher(HasherMixin, BaseEstimator):
    """Base of hashers that are networks trained by gradient descent.

    A backbone turns images into features and a head turns features into bits.
    Subclasses differ in the loss; a complete one is::

        class MyHasher(DeepHasher):
            def __init__(self, n_bits=64, *, strength=1.0, **network):
                super().__init__(n_bits, **network)
                self.strength = strength

            def _make_loss(self):
                return MyLoss(self.strength)

    ``_make_loss`` returns an ``nn.Module`` that is called with the outputs of
    the head for a batch, shape (n, n_bits), float32, and the targets of the
    same rows, and returns a scalar; parameters of its own are trained too. The
    targets are the dense label indicator, shape (n, n_labels), float32, unless
    the subclass overrides ``_make_targets``. With ``_tanh = True`` the head's
    outputs pass through tanh; ``_activation`` is the type of what follows its
    hidden layers. The parameters in ``**network`` become part of
    the subclass's signature, so ``get_params``, ``clone`` and the representation
    know them; a parameter that the subclass lists itself gets its default there.
    That is all that joint learning with tags needs as well.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    backbone : str, nn.Module or None, default=None
        None if X is features. Else X is images, and this is the name of a
        torchvision classification model ("vgg16", "resnet18", ...) or a network
        of your own, which is copied; it takes normalised images (n, 3, H, W)
        and gives features (n, d) or maps (n, d, h, w).
    weights : "DEFAULT", path or None, default="DEFAULT"
        Weights of the backbone: "DEFAULT" downloads ImageNet weights for a
        torchvision model and leaves a network of your own as it is; a path
        names a state dict (.pth or .safetensors), which may lack what
        ``output`` does not use; None is random.
    output : {"pool", "fc6", "fc7"}, default="pool"
        Features of a torchvision model: what enters its classifier, averaged
        over positions, or the first or second fully connected layer (AlexNet,
        VGG).
    image_size : int, default=None
        Side in pixels to which images are scaled and cut; None is what the
        backbone was trained with, or 224.
    trainable : {"head", "all"} or list of str, default="head"
        What is trained besides the head: nothing, the whole backbone, or its
        modules of these names, such as ``["layer4"]``. A backbone that is not
        trained sees every image once per fit.
    hidden_layers : tuple of int, default=()
        Units of the head's hidden layers; () is a linear head.
    optimizer : {"adamw", "sgd"}, default="adamw"
        Optimisation method.
    lr : float, default=1e-3
        Learning rate of the head.
    backbone_lr : float, default=None
        Learning rate of the trained part of the backbone; None is ``lr / 10``.
    momentum : float, default=0.9
        Momentum of "sgd".
    weight_decay : float, default=1.0
        Strength of the pull of the head's weights to zero: a step shrinks them
        by ``lr * weight_decay`` of themselves. A trained backbone is left out.
    batch_size : int, default=128
        Samples a training step.
    max_epochs : int, default=30
        Passes over the training data.
    early_stopping : bool, default=False
        Whether to hold out a part of the training data, stop when the loss on
        it has not improved for ``n_iter_no_change`` epochs, and keep the best
        weights.
    validation_fraction : float, default=0.1
        Part held out for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    callbacks : list, default=None
        skorch callbacks for the training, such as learning rate schedules.
    checkpoint : path, default=None
        Folder for the state of the training, written after every epoch. A
        ``fit`` that finds the state of the same training continues it; one with
        larger ``max_epochs`` trains on. Needs an integer ``random_state``.
    cache : path, default=None
        Folder that keeps the features of a backbone that is not trained, by the
        content of the images, for later calls and other hashers.
    on_error : {"raise", "skip"}, default="raise"
        What an unreadable image does: raise an error with its path, or, with a
        warning that lists it, take no part in training, while its row of
        features or of the decision function is zero.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", ...; "auto" is CUDA where there is one.
    amp : bool, default=False
        Mixed precision: bfloat16 where that is safe, and the channels-last
        layout; two to three times as fast for convolutions where the hardware
        supports it.
    num_workers : int, default=0
        Processes that read images; 0 reads in this one.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, batches, dropout and validation part.
    verbose : int, default=0
        1 shows the speed of feature extraction and a line per epoch, 2 a
        progress bar per epoch too.

    Attributes
    ----------
    backbone_ : Backbone or None
        The backbone with its preprocessing, on the CPU between calls.
    head_ : nn.Module
        The head, on the CPU between calls.
    loss_ : nn.Module
        The loss with its trained parameters, if it has any.
    objective_ : ndarray of shape (n_iter_,)
        Training loss of each epoch, averaged over batches.
    history_ : list of dict
        What skorch recorded in each epoch.
    n_iter_ : int
        Number of epochs.
    skipped_ : ndarray of shape (n_skipped,), int
        Rows of the training images that could not be read.
    n_features_in_ : int
        Number of features, if X is features.

    See Also
    --------
    skhash.supervised.DSHHasher : The simplest subclass.
    """

    _tanh = False
    _activation: type[nn.Module] = nn.ReLU
    _requires_y = True
    # How hard fine-tuning holds on to pre-trained weights, on the scale of the loss.
    _retention = 0.03

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "backbone": [str, nn.Module, None],
        "weights": [str, os.PathLike, None],
        "output": [StrOptions({"pool", "fc6", "fc7"})],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "trainable": [StrOptions({"head", "all"}), list, tuple],
        "hidden_layers": [list, tuple],
        "optimizer": [StrOptions({"adamw", "sgd"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "backbone_lr": [Interval(Real, 0, None, closed="neither"), None],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "callbacks": [list, None],
        "checkpoint": [str, os.PathLike, None],
        "cache": [str, os.PathLike, None],
        "on_error": [StrOptions({"raise", "skip"})],
        "device": [str],
        "amp": ["boolean"],
        "num_workers": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        backbone: str | nn.Module | None = None,
        weights: str | os.PathLike[str] | None = "DEFAULT",
        output: str = "pool",
        image_size: int | None = None,
        trainable: str | list[str] = "head",
        hidden_layers: tuple[int, ...] = (),
        optimizer: str = "adamw",
        lr: float = 1e-3,
        backbone_lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float = 1.0,
        batch_size: int = 128,
        max_epochs: int = 30,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        callbacks: list[Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_error: str = "raise",
        device: str = "auto",
        amp: bool = False,
        num_workers: int = 0,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.backbone = backbone
        self.weights = weights
        self.output = output
        self.image_size = image_size
        self.trainable = trainable
        self.hidden_layers = hidden_layers
        self.optimizer = optimizer
        self.lr = lr
        self.backbone_lr = backbone_lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.cache = cache
        self.on_error = on_error
        self.device = device
        self.amp = amp
        self.num_workers = num_workers
        self.random_state = random_state
        self.verbose = verbose

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Write out ``**network`` in the signature and docstring of a subclass."""
        super().__init_subclass__(**kwargs)
        inherit_parameters(cls)

    # What a subclass provides.

    def _make_loss(self) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} must define _make_loss().")

    def _make_targets(self, y: Any, n_samples: int) -> tuple[Targets, NDArray[np.intp]]:
        """Row-aligned targets of the loss, and the rows that have any."""
        return labelled_rows(y, n_samples, self)

    # What a fit consists of.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> DeepHasher:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            Features if ``backbone`` is None. Else images: a sequence of files,
            PIL images or uint8 arrays, or a uint8 array (n_samples, H, W, 3).
        y : labels or tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. Two samples
            are similar if they share one. A sample without any takes no part.

        Returns
        -------
        DeepHasher
            The fitted hasher.

        Raises
        ------
        ValueError
            For input that does not fit, or a checkpoint of another training.
        ImageReadError
            For an unreadable image, unless ``on_error="skip"``.
        FloatingPointError
            If the training diverges.
        """
        data = self._open(X)
        targets, rows = self._make_targets(y, len(data))
        inputs = self._embed(data)
        self._train(inputs, targets, self._make_loss(), rows=rows)
        self._warn_constant_bits(inputs)
        return self

    def _start(self, X: Any) -> NDArray[np.float32] | Images:
        """Build the network for X; return what it is trained on.

        That is the features of X, or the images where the backbone is trained.
        Sets ``backbone_``, ``head_`` and ``skipped_``.
        """
        return self._embed(self._open(X))

    def _open(self, X: Any) -> NDArray[np.float32] | Images:
        """Begin :meth:`_start`: build the backbone, check X, but compute nothing yet."""
        if self.checkpoint is not None and not isinstance(self.random_state, Integral):
            raise ValueError("checkpoint needs an integer random_state: a resumed fit repeats it.")
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.backbone_: Backbone | None = None
        if self.backbone is not None:
            self.backbone_ = make_backbone(
                self.backbone,
                self.weights,
                output=self.output,
                image_size=self.image_size,
                random_state=self._seed,
            )
            self.backbone_.set_trainable(self.trainable)
        data = self._as_data(X, reset=True)
        check_n_samples(data)
        return data

    def _embed(self, data: NDArray[np.float32] | Images) -> NDArray[np.float32] | Images:
        """End :meth:`_start`: compute features and build the head."""
        self.skipped_ = np.empty(0, np.intp)
        inputs = data
        if self.backbone_ is None or self.backbone_.frozen:
            inputs, self.skipped_ = self._features(data)
        elif self.on_error == "skip":
            assert isinstance(data, Images)
            self.skipped_ = find_unreadable(data, num_workers=self.num_workers)
            warn_unreadable(data, self.skipped_)
        self.head_ = HashHead(
            self._sample(inputs),
            self.n_bits,
            hidden_layers=self.hidden_layers,
            activation=self._activation,
            tanh=self._tanh,
            random_state=self._seed,
        )
        return inputs

    def _train(
        self,
        inputs: NDArray[np.float32] | Images,
        targets: Targets,
        loss: nn.Module,
        *,
        rows: NDArray[np.intp] | None = None,
        stage: str = "training",
        net: type[HashNet] = HashNet,
        **settings: Any,
    ) -> None:
        """Train the network, from the weights it has.

        Can be called again and again, with other targets or losses. Sets
        ``loss_``, ``objective_``, ``history_`` and ``n_iter_``.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, n_features) or Images
            As :meth:`_start` returned them.
        targets : ndarray or csr_array with n_samples rows
            Second argument of the loss, batch by batch.
        loss : nn.Module
            Maps outputs and targets of a batch to a scalar.
        rows : ndarray of int, default=None
            Rows to train on; all if None. Unreadable images are left out.
        stage : str, default="training"
            Name of the checkpoint file, for hashers that train several times.
        net : subclass of HashNet, default=HashNet
            The trainer.
        **settings : dict
            Replace settings of the trainer, such as ``max_epochs``.
        """
        rows = np.setdiff1d(np.arange(len(inputs)) if rows is None else rows, self.skipped_)
        if len(rows) < 2:
            raise ValueError(f"{len(rows)} samples are left to train on; at least 2 are needed.")
        device = resolve_device(self.device)
        data, valid = TrainingSet(inputs, targets, rows), None
        if self.early_stopping:
            n_valid = max(2, round(self.validation_fraction * len(rows)))
            if n_valid > len(rows) - 2:
                raise ValueError(
                    f"early_stopping needs at least 2 samples to train on besides the {n_valid} "
                    f"held out, got {len(rows)} in all; set early_stopping=False."
                )
            rows = np.random.default_rng(self._seed).permutation(rows)
            data = TrainingSet(inputs, targets, np.sort(rows[n_valid:]))
            valid = TrainingSet(inputs, targets, np.sort(rows[:n_valid]))
        module: nn.Module = self.head_
        # Weight decay is for the head: neither for what a backbone has learned, nor for the loss.
        groups = [(name, {"weight_decay": 0.0}) for name, _ in loss.named_parameters()]
        if isinstance(inputs, Images):
            assert self.backbone_ is not None
            module = nn.Sequential(OrderedDict(backbone=self.backbone_, head=self.head_))
            backbone_lr = self.lr / 10 if self.backbone_lr is None else self.backbone_lr
            groups.append(("backbone.*", {"lr": backbone_lr, "weight_decay": 0.0}))
        if self.optimizer == "sgd":
            settings.setdefault("optimizer__momentum", self.momentum)
        settings = {
            "optimizer": _OPTIMIZERS[self.optimizer],
            "optimizer__weight_decay": self.weight_decay,
            "optimizer__param_groups": groups,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "max_epochs": self.max_epochs,
            "patience": self.n_iter_no_change if self.early_stopping else None,
            "checkpoint": self.checkpoint and os.path.join(self.checkpoint, f"{stage}.pt"),
            "num_workers": self.num_workers if isinstance(inputs, Images) else 0,
            "callbacks": self.callbacks,
            "seed": self._seed,
            "verbose": self.verbose,
            "device": str(device),
            "amp": self.amp,
            **settings,
        }
        try:
            history = net(module, loss, valid=valid, **settings).fit(data).history
        finally:  # on the CPU, where they pickle
            place(module.eval(), "cpu")
            self.loss_ = loss.to("cpu").eval()
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in history]
        self.objective_ = np.array([row["train_loss"] for row in self.history_])
        self.n_iter_ = len(self.history_)

    # From X to features and bits.

    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Outputs of the head, whose signs are the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), float32 or float64
            float64 only for features of that dtype. The row of an unreadable image is zero.
        """
        check_is_fitted(self)
        features, unreadable = self._features(self._as_data(X, reset=False))
        values = run_head(self.head_, features, device=self.device)
        values[unreadable] = 0
        return values

    def _as_data(self, X: Any, *, reset: bool) -> NDArray[Any] | Images:
        """X as checked features (float32 for training) or as images to be read."""
        if self.backbone_ is not None:
            try:
                return Images(X, self.backbone_.image_size, skip_unreadable=self.on_error == "skip")
            except TypeError as error:
                raise TypeError(f"{error} If X is features, set backbone=None.") from error
        features = check_features(self, X, reset=reset)
        return narrow_features(features) if reset else features

    def _features(self, data: NDArray[Any] | Images) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Features, and the rows of images that cannot be read."""
        if not isinstance(data, Images):
            return data, np.empty(0, np.intp)
        assert self.backbone_ is not None
        cache = self.cache if self.backbone_.frozen else None
        features, unreadable = self._extract(data, cache=cache, verbose=self.verbose)
        warn_unreadable(data, unreadable)
        return features, unreadable

    def _sample(self, inputs: NDArray[np.float32] | Images) -> NDArray[np.float32]:
        """Features of readable training samples: some of them where they must be computed."""
        if not isinstance(inputs, Images):
            return np.delete(inputs, self.skipped_, 0) if len(self.skipped_) else inputs
        readable = np.setdiff1d(np.arange(len(inputs)), self.skipped_)
        some = np.linspace(0, len(readable) - 1, min(len(readable), _SAMPLE_ROWS)).astype(int)
        return self._extract(inputs.take(readable[some]))[0]

    def _all_features(self, inputs: NDArray[np.float32] | Images) -> NDArray[np.float32]:
        """Features of all training samples, by the backbone as it is now; see ``skipped_``."""
        return self._extract(inputs)[0] if isinstance(inputs, Images) else inputs

    def _warn_constant_bits(self, inputs: NDArray[np.float32] | Images) -> None:
        values = run_head(self.head_, self._sample(inputs), device=self.device)
        warn_constant_bits(
            sign_bits(values),
            "the labels, tags or features do not tell enough apart, or the training went "
            "astray; lower n_bits or lr, or raise weight_decay.",
        )

    def _extract(
        self, images: Images, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        assert self.backbone_ is not None
        return extract_features(
            self.backbone_,
            images,
            device=self.device,
            amp=self.amp,
            num_workers=self.num_workers,
            **options,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._requires_y
        return tags
