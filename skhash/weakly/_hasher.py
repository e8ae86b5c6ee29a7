"""WeaklySupervisedHasher: pre-training on tags for any gradient-trained hasher."""

from __future__ import annotations

import copy
import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

from .._sklearn import Interval, StrOptions, fit_context
from ..base import HasherMixin, forgotten_on_failure
from ..networks import DeepHasher
from ..networks._distributed import is_first, processes
from ..networks._extract import ComputesOnce, run_head
from ..networks._fingerprint import object_digest
from ..networks._images import Images
from ..semantic import SemanticSpace, SemanticTargets
from ..semantic._tag_hasher import MAX_IMAGES, TagCodesMixin, tagged_rows
from ..social._semantic_head import learn_targets, quantize_outputs
from ..tags import TagMatrix, encode_tags
from ._joint import JointLoss, JointNet, RetainedLoss, UnitRows

__all__ = ["WeaklySupervisedHasher"]

_SCALE_ROWS = 4096
# How a head with hidden layers learns to predict sem-vectors.
_START_EPOCHS = 30
_START_LR = 1e-3
_START_BATCH = 128
# Identity of stage-one checkpoints: stage one depends on nothing of the estimator but its network.
_STAGE_ONE = "stage one"
# Factor of the retention with hidden layers, where small steps of weights change outputs much.
_DEEPER = 30


class WeaklySupervisedHasher(
    TagCodesMixin, ComputesOnce, MetaEstimatorMixin, HasherMixin, BaseEstimator
):
    """Weakly-supervised pre-training of a hasher on tags, then fine-tuning on labels [1]_.

    Stage one learns from all images and their tags. Each image has a
    sem-vector, which starts as the vector of its tags in a
    :class:`~skhash.SemanticSpace`. Network and sem-vectors are then trained
    together, so that they give the same similarities of images (Eq. 7,
    Algorithm 1). Stage two is used if labels are given. It trains the network
    on the labelled images with the hasher's loss and keeps the weights near
    those of stage one. Without labels the method is WP-X- of the paper, where X
    is the hasher.

    The paper starts stage one from random weights. Here the head first learns
    to predict sem-vectors, by ridge regression if it is linear. The principal
    components of its predictions, rotated by ITQ, are its first outputs, as in
    :class:`~skhash.TagITQHasher`, and a small learning rate keeps stage one
    near them. ``init="random", lr=1e-3`` gives the paper's form, which is less
    accurate.

    Parameters
    ----------
    estimator : DeepHasher
        The hasher. Its network is trained in both stages, in stage two with the
        hasher's settings. Any subclass of :class:`~skhash.DeepHasher` can be
        used. It has to define only ``make_loss()``, the loss of outputs and
        labels that stage two minimises.
    semantic_space : SemanticSpace or FrozenEstimator of one, default=None
        Turns tags into sem-vectors; fitted on the tags given to ``fit``. None
        is ``SemanticSpace()``. A fitted space in a
        :class:`~sklearn.frozen.FrozenEstimator` is not fitted again, which
        saves time in searches over other parameters.
    beta : float, default=0.001
        Weight of the smoothing over correlated sem-words.
    delta : float, default=1.0
        Weight of the agreement of similarities.
    init : {"semantic", "random"}, default="semantic"
        Start of stage one: a head that predicts sem-vectors, or random
        weights.
    max_epochs : int, default=20
        Number of epochs of stage one; 0 keeps the network of the start.
    lr : float, default=1e-4
        Learning rate of the network in stage one.
    weight_decay : float, default=10.0
        Weight decay of the head in stage one. Tags are noisy, and with a small
        weight decay the network memorises the noise. The default is for a
        linear head. With hidden layers less is better, about 3.
    semantic_step : float, default=1.0
        Step size of the sem-vectors, relative to the inverse of the largest
        curvature of the objective. 0 keeps them as observed.
    batch_size : int, default=64
        Number of images in a batch of stage one.
    retention : float, default=None
        How strongly stage two keeps the weights of the head near those of stage
        one. It is the weight of their squared distance, which replaces the
        estimator's weight decay. It is divided by the number of labelled
        images, so that more labels allow larger changes. 0 adds no such term.
        None is a value chosen on validation data for the scale of the
        estimator's loss: 150 for DSHHasher, 500 for DRSCHHasher, else 5, and 30
        times that for a head with hidden layers.
    memory_limit : float, default=1024
        Memory for the learned sem-vectors in MiB. If they need more, they are
        kept in half precision; if that also needs more, in a temporary file.
    random_state : int, RandomState instance or None, default=None
        Passed to the semantic space and the estimator if theirs is None.
    verbose : int, default=0
        1 reports the start of each stage and prints a line per epoch; 2 also
        shows a progress bar per epoch. The larger of this value and the
        estimator's ``verbose`` is used for training.

    Attributes
    ----------
    estimator_ : DeepHasher
        The fitted hasher.
    semantic_space_ : SemanticSpace
        The fitted space.
    targets_ : SemanticTargets
        The same space as vectors of words, for ``transform_tags``.
    objective_ : ndarray of shape (max_epochs,)
        Mean of the joint objective over the batches of each epoch of stage one.
    history_ : list of dict
        Values that skorch recorded in each epoch of stage one. Those of stage
        two are in ``estimator_``.
    n_features_in_ : int
        Number of features, if X is features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X is a data frame of features.

    See Also
    --------
    skhash.SemanticSpace : The space of sem-vectors.
    skhash.DSHHasher : One of the hashers to wrap.

    References
    ----------
    .. [1] Z. Guan, F. Xie, W. Zhao, X. Wang, L. Chen, W. Zhao and J. Peng,
       "Tag-based weakly-supervised hashing for image retrieval", IJCAI 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import DSHHasher, SemanticSpace, WeaklySupervisedHasher
    >>> X = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    >>> tags = [["cat", "pet"]] * 25 + [["dog", "pet"]] * 25 + [["boat"], ["sea", "boat"]] * 25
    >>> space = SemanticSpace(n_components=4, vector_size=8)
    >>> hasher = WeaklySupervisedHasher(DSHHasher(n_bits=8), space, random_state=0)
    >>> hasher.fit(X, tags).transform(X).shape
    (100, 8)

    With the labels of a few images:

    >>> labels = [[] for _ in X]
    >>> labels[0], labels[30], labels[60], labels[90] = ["animal"], ["animal"], ["ship"], ["ship"]
    >>> hasher.fit(X, tags, labels=labels).transform(X).shape
    (100, 8)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [DeepHasher],
        "semantic_space": [SemanticSpace, FrozenEstimator, None],
        "beta": [Interval(Real, 0, None, closed="left")],
        "delta": [Interval(Real, 0, None, closed="neither")],
        "init": [StrOptions({"semantic", "random"})],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "semantic_step": [Interval(Real, 0, 1, closed="both")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "retention": [Interval(Real, 0, None, closed="left"), None],
        "memory_limit": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: DeepHasher,
        semantic_space: SemanticSpace | FrozenEstimator | None = None,
        *,
        beta: float = 1e-3,
        delta: float = 1.0,
        init: str = "semantic",
        max_epochs: int = 20,
        lr: float = 1e-4,
        weight_decay: float = 10.0,
        semantic_step: float = 1.0,
        batch_size: int = 64,
        retention: float | None = None,
        memory_limit: float = 1024,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.semantic_space = semantic_space
        self.beta = beta
        self.delta = delta
        self.init = init
        self.max_epochs = max_epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.semantic_step = semantic_step
        self.batch_size = batch_size
        self.retention = retention
        self.memory_limit = memory_limit
        self.random_state = random_state
        self.verbose = verbose

    @property
    def n_bits(self) -> int:  # type: ignore[override]
        """Length of the codes."""
        return self.estimator.n_bits

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, labels: Any = None) -> Self:
        """Pre-train on tags, then fine-tune on labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in the ``fit`` of the estimator.
        y : tags of n_samples images
            In any form that :func:`skhash.tags.encode_tags` takes. An image
            without tags is used in stage one too, with its content.
        labels : labels of n_samples images, default=None
            In the same forms; an empty row is an unlabelled image. With None or
            no label at all, stage two is skipped. This is a routed argument:
            ``set_fit_request(labels=True)``.

        Returns
        -------
        WeaklySupervisedHasher
            The fitted hasher.

        Raises
        ------
        ValueError
            If ``y`` is None or does not distinguish the images, lengths differ,
            or the estimator cannot learn from the labels. The estimator raises
            further errors for X.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None: give the images' tags."
            )
        hasher = self._seeded(self.estimator)
        with forgotten_on_failure(self), hasher.session():
            processes().check_same_fit(self, X, y=y, labels=labels)
            data = hasher.open_inputs(X)
            tags = encode_tags(y, n_samples=len(data))
            if not tags.indicator.nnz:
                raise ValueError("y has no tags at all; there is nothing to pre-train on.")
            targets = None
            if labels is not None:
                labels = encode_tags(labels, n_samples=len(data), name="labels")
                if labels.indicator.nnz:
                    targets = hasher.make_targets(labels, len(data), name="labels")
            self.semantic_space_ = processes().first_only(lambda: self._fit_space(tags))
            # A frozen space has its own vocabulary.
            known = y if isinstance(self.semantic_space, FrozenEstimator) else tags
            observed = UnitRows(self.semantic_space_._transform_rows(known))
            if not len(tagged_rows(observed)):
                raise ValueError("y has no tag that the semantic space knows.")

            inputs = self._build(hasher, data, observed)
            self._pretrain(hasher, inputs, observed)
            if targets is not None:
                self._finetune(hasher, inputs, *targets)
            hasher.warn_constant_bits(inputs)
            self.estimator_ = hasher
            self._learn_words(inputs, tags)
        return self

    def _learn_words(self, inputs: Any, tags: TagMatrix) -> None:
        """Learn the map from sem-vectors of words to the outputs for images."""
        rows = self.estimator_.readable_rows(inputs)
        some = np.linspace(0, len(rows) - 1, min(len(rows), MAX_IMAGES)).astype(int)
        outputs = self.estimator_.training_outputs(inputs)[some]
        self.targets_ = SemanticTargets(FrozenEstimator(self.semantic_space_), random_state=0)
        chosen = TagMatrix(tags.indicator[rows[some]], tags.vocabulary)
        self._learn_tag_codes(self.targets_.fit_transform(chosen), outputs)

    def _say(self, what: str) -> None:
        if self.verbose and is_first():
            print(f"[{type(self).__name__}] {what}")

    def _seeded(self, estimator: Any) -> Any:
        estimator = clone(estimator)
        if estimator.random_state is None:
            estimator.set_params(random_state=self.random_state)
        return estimator

    def _fit_space(self, tags: TagMatrix) -> SemanticSpace:
        space = SemanticSpace() if self.semantic_space is None else self.semantic_space
        if isinstance(space, FrozenEstimator):
            if not isinstance(space.estimator, SemanticSpace):
                raise TypeError(
                    "semantic_space is a FrozenEstimator, but not of a SemanticSpace; freeze one."
                )
            check_is_fitted(space.estimator)
            return space.estimator
        self._say(f"semantic space of {len(tags.vocabulary)} tags")
        with _naming("y"):
            return _fitted_space(self._seeded(space), tags)

    def _build(self, hasher: DeepHasher, data: Any, observed: UnitRows) -> Any:
        """Make the network with which stage one starts."""
        if self.init == "random":
            return hasher.build(data)
        self._say("start of stage one: the head learns to predict sem-vectors")
        inputs = hasher.build(data, n_outputs=observed.shape[1], tanh=False)
        # A trainable backbone is not changed until the head has learned something.
        features = inputs
        if isinstance(inputs, Images):
            known = hasher.training_features(inputs)[:]
            features = np.zeros((len(inputs), known.shape[1]), known.dtype)
            features[hasher.readable_rows(inputs)] = known
        learn_targets(
            hasher,
            features,
            observed,
            weight_decay=self.weight_decay,
            max_epochs=_START_EPOCHS,
            lr=_START_LR,
            batch_size=_START_BATCH,
            identity=_STAGE_ONE,
            verbose=max(self.verbose, hasher.verbose),
        )
        with _naming("y"):
            quantize_outputs(hasher, features, observed, unit=False)
        # Inner products of outputs are compared with those of sem-vectors after division by n_bits.
        hasher.head_.stretch(np.sqrt(hasher.n_bits))
        return inputs

    def _pretrain(self, hasher: DeepHasher, inputs: Any, observed: UnitRows) -> None:
        self._say(f"stage one: {len(inputs)} images and their tags")
        # Similarities of sem-vectors are compared with those of outputs without tanh.
        head = hasher.head_
        hasher.head_ = head.before_tanh()
        if self.max_epochs:
            self._learn_jointly(hasher, inputs, observed)
        self.history_, self.objective_ = hasher.history_, hasher.objective_
        # After stage one outputs are small, as most similarities are. Losses that pull outputs to
        # -1 and 1 would first have to undo that.
        sample = hasher.sample_features(inputs)[:_SCALE_ROWS]
        size = np.abs(run_head(hasher.head_, sample, device=hasher.device)).mean()
        hasher.head_.stretch(1 / max(float(size), 1e-12))
        hasher.head_ = head

    def _learn_jointly(self, hasher: DeepHasher, inputs: Any, observed: UnitRows) -> None:
        with TemporaryDirectory(prefix="skhash-") as folder:
            n_values, limit = math.prod(observed.shape), self.memory_limit * 2**20
            half = 4 * n_values > limit
            loss = JointLoss(
                observed,
                self.semantic_space_.laplacian_,
                beta=self.beta,
                delta=self.delta,
                step=self.semantic_step,
                half=half,
                file=os.path.join(folder, "sem-vectors") if half and 2 * n_values > limit else None,
            )
            # Batches of pairs are noisy; a learning rate that falls to 0 averages the noise.
            schedule = LRScheduler(CosineAnnealingLR, T_max=self.max_epochs)
            hasher.train_network(
                inputs,
                np.arange(len(inputs)),
                loss,
                stage="pre-training",
                net=JointNet,
                lr=self.lr,
                batch_size=self.batch_size,
                max_epochs=self.max_epochs,
                callbacks=[*(hasher.callbacks or []), schedule],
                optimizer__weight_decay=self.weight_decay,
                identity=_STAGE_ONE,
                verbose=max(self.verbose, hasher.verbose),
            )
        # The loss holds a sem-vector for every image and is not needed any more.
        hasher.loss_ = None  # type: ignore[assignment]

    def _finetune(self, hasher: DeepHasher, inputs: Any, targets: Any, rows: Any) -> None:
        self._say(f"stage two: {len(rows)} images and their labels")
        loss = hasher.make_loss()
        retention = self.retention
        if retention is None:
            retention = hasher.retention * (_DEEPER if hasher.hidden_layers else 1)
        held = RetainedLoss(loss, hasher.head_, retention / len(rows))
        # Weights that are kept near those of stage one do not need weight decay too.
        settings: dict[str, Any] = {"optimizer__weight_decay": 0.0} if retention else {}
        settings["verbose"] = max(self.verbose, hasher.verbose)
        hasher.train_network(inputs, targets, held, rows=rows, stage="fine-tuning", **settings)
        hasher.loss_ = loss

    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Outputs of the hasher's network, whose signs are the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), float32 or float64
            As from the estimator.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @property
    def n_features_in_(self) -> int:
        """Number of features, if X is features."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the features, if X is a data frame of features."""
        return self.estimator_.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


# Spaces of the last fits, because searches over other parameters use the same tags again.
_SPACES: OrderedDict[tuple[type, str], SemanticSpace] = OrderedDict()
_SPACES_LOCK = Lock()
_N_SPACES = 8


def _fitted_space(space: SemanticSpace, tags: TagMatrix) -> SemanticSpace:
    """Fit a space to tags, or take an equal space that was fitted to the same tags before."""
    if not isinstance(space.random_state, Integral):
        return space.fit(tags)
    indicator = tags.indicator
    parts = [indicator.indices, indicator.indptr, indicator.shape, tags.vocabulary.tolist()]
    settings = {k: v for k, v in space.get_params().items() if k != "verbose"}
    try:
        key = type(space), object_digest([settings, parts])
    except TypeError:  # vectors from a source that cannot be identified by its content
        return space.fit(tags)
    with _SPACES_LOCK:
        found = _SPACES.pop(key, None)
    if found is None:
        found = space.fit(tags)
    with _SPACES_LOCK:
        _SPACES[key] = found
        while len(_SPACES) > _N_SPACES:
            _SPACES.popitem(last=False)
    # A copy, so that a later fit or changed settings do not affect other users of the space.
    return copy.copy(found).set_params(verbose=space.verbose)


@contextmanager
def _naming(argument: str) -> Iterator[None]:
    """Add the name of the argument to an error of another estimator."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{argument} cannot be learned from: {error}") from error
