"""DSTDH with a network as the hash function."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self, Unpack

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from skorch.callbacks import LRScheduler
from torch import nn

from .._ridge import RidgePath
from .._rows import Features
from .._sklearn import Interval, StrOptions
from ..networks import DeepHasher, NetworkParameters
from ..networks._distributed import processes
from ..networks._extract import run_head
from ..networks._images import Images
from ..social._semantic_head import learn_targets, quantize_outputs
from ._alm import DiscreteALM, signs
from ._transfer import SemanticTransfer, TransferParameters

# Epochs of the network that gives the starting codes, in units of the epochs of a round.
_START_EPOCHS = 3
# Learning rate of the rounds after a semantic start, in units of the start's learning rate.
_NEAR = 0.1

__all__ = ["DSTDHHasher"]


class DSTDHParameters(TransferParameters, NetworkParameters, total=False):
    """Parameters that DSTDHHasher hands on, for type checkers."""


class DSTDHHasher(SemanticTransfer, DeepHasher):
    """Dual-level semantic transfer deep hashing (DSTDH) [1]_.

    The method learns discrete codes and a network in rounds. A round first
    solves the codes of the training images in {-1, +1}, as
    :class:`DSTDHLinear` does, from their features, their tags and, from the
    second round on, the outputs of the network (Algorithm 1). Then it trains
    the network on the codes by squared error (Eq. 11). If the backbone is
    trained too, each round computes features and their graphs again.

    The defaults differ from the paper in the points that
    :class:`DSTDHLinear` lists, and in the following. :meth:`preset` gives the
    settings of the paper or of the authors' program.

    - The network first learns the meaning of tags, as
      :class:`~skhash.TagITQHasher` does. The codes start from its outputs
      (paper: random codes; program: ITQ).
    - Each round solves the codes until they converge, then trains the network
      on them (paper: one iteration of each in turn, from an untrained network;
      program: codes once, network once).
    - The outputs of the network have a larger weight ``nu`` (paper: 0.001).
    - After a semantic start, the rounds use a tenth of ``lr`` and no dropout.
    - The head has a hidden layer and a strong weight decay (paper: a linear
      layer on fc7, with almost no decay). Where tags are noisy, this matters
      more than the other points.

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    nu : float, default=0.1
        Weight of the agreement of codes and outputs of the network. It is used
        from the second round on: in the first round, the network has learned
        nothing and would make the codes random.
    n_rounds : int, default=3
        Number of rounds. A round solves the codes and trains the network.
    max_epochs : int, default=10
        Epochs of the network in each round. The semantic start has three times
        as many. With few images, each of its epochs is several passes over the
        data, as in TagITQHasher.
    hidden_layers : tuple of int, default=(512,)
        Units of the head's hidden layers. () is a linear head; on features,
        its semantic start has a closed form.
    dropout : float, default=0.5
        As in DeepHasher. With ``init="semantic"`` it is used in the start only.
    weight_decay : float, default=3.0
        As in DeepHasher.
    threshold : {"zero", "mean", "bit-mean"}, default="zero"
        A bit is 1 where the network's output is at least this value: 0, as in
        the paper; the mean of all outputs for the training images, as in the
        authors' program; or the mean of the outputs for this bit.
    tune : bool, default=False
        Whether the semantic start also tries other weight decays and more
        epochs, as TagITQHasher does. This takes several times as long.
    **others
        Parameters of the semantic transfer, as in DSTDHLinear, and of the
        network, as in DeepHasher.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}; MISSING for
        unreadable images.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective (Eq. 12) after each iteration of the optimiser, of all
        rounds.
    history_ : list of dict
        For each iteration: the round, the objective, its terms and the share
        of bits that changed.
    epochs_ : list of dict
        For each epoch: the round and the values that skorch recorded.
    n_iter_ : int
        Number of iterations of the optimiser in all rounds.
    chosen_ : dict
        Settings with which the semantic start was trained, as in TagITQHasher.
        Only with ``init="semantic"``.
    threshold_ : ndarray of shape (n_bits,), float32
        The value with which each trained output is compared. The last bias of
        ``head_`` is lowered accordingly, so that the decision function is
        compared with 0.

    See Also
    --------
    DSTDHLinear : The same codes with a linear hash function; no network.
    skhash.WeaklySupervisedHasher : Networks that learn from tags by
        similarities.

    Notes
    -----
    A ``checkpoint`` holds the network after every epoch of every round. It
    does not hold the codes. A resumed ``fit`` solves the codes of completed
    rounds again, with exactly the same result, but does not train the network
    on them again.

    References
    ----------
    .. [1] L. Zhu, H. Cui, Z. Cheng, J. Li and Z. Zhang, "Dual-level semantic
       transfer deep hashing for efficient social image retrieval", IEEE
       Transactions on Circuits and Systems for Video Technology, 2020.

    Examples
    --------
    From features:

    >>> import numpy as np
    >>> from skhash import DSTDHHasher
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> tags = [["warm", "sun"] if row[0] > 0 else ["cold"] for row in X]
    >>> hasher = DSTDHHasher(n_bits=4, backbone=None, n_concepts=20, random_state=0)
    >>> hasher.fit(X, tags).transform(X[:2]).shape
    (2, 4)
    """

    tanh_outputs = True
    requires_y = False

    _datasets: ClassVar[dict[str, dict[str, Any]]] = {
        "mirflickr": {**SemanticTransfer._datasets["mirflickr"], "nu": 1e-3},
        "nus-wide": {**SemanticTransfer._datasets["nus-wide"], "nu": 10.0},
    }
    _training: ClassVar[dict[str, Any]] = {
        "output": "fc7", "hidden_layers": (), "optimizer": "sgd", "lr": 0.01, "momentum": 0.9,
        "weight_decay": 5e-4, "batch_size": 15, "dropout": 0.0,
    }  # fmt: skip
    _sources: ClassVar[dict[str, dict[str, Any]]] = {
        # One iteration of each step in turn.
        "paper": {
            **SemanticTransfer._sources["paper"], **_training,
            "max_iter": 1, "n_rounds": 10, "max_epochs": 1, "trainable": "all",
        },
        # The codes are solved once; all but the last layer of the network stays as it is.
        "release": {
            **SemanticTransfer._sources["release"], **_training,
            "n_rounds": 1, "max_epochs": 18, "threshold": "mean",
        },
    }  # fmt: skip

    _defaults: ClassVar[NetworkParameters] = {
        "max_epochs": 10,
        "hidden_layers": (512,),
        "dropout": 0.5,
        "weight_decay": 3.0,
    }

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        **SemanticTransfer._parameter_constraints,
        "nu": [Interval(Real, 0, None, closed="left")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "threshold": [StrOptions({"zero", "mean", "bit-mean"})],
        "tune": ["boolean"],
    }

    def __init__(
        self,
        n_bits: int = 64,
        *,
        nu: float = 0.1,
        n_rounds: int = 3,
        threshold: str = "zero",
        tune: bool = False,
        **others: Unpack[DSTDHParameters],
    ) -> None:
        super().__init__(
            n_bits=n_bits,
            **others,
        )
        self.nu = nu
        self.n_rounds = n_rounds
        self.threshold = threshold
        self.tune = tune

    @classmethod
    def preset(cls, dataset: str = "mirflickr", *, source: str = "paper", **params: Any) -> Self:
        """Make a hasher with the settings of the paper or of its authors' program.

        Parameters
        ----------
        dataset : {"mirflickr", "nus-wide"}, default="mirflickr"
            The dataset for which the paper chose alpha, beta, nu, mu, rho and
            the numbers of anchors and concepts (section IV-C).
        source : {"paper", "release"}, default="paper"
            "paper": Algorithm 1 as printed, from random codes, one iteration of
            each step in turn. "release": 4 iterations from the codes of ITQ,
            once; then 18 epochs of training of the last layer, with a learning
            rate that is divided by 10 after 6 and 12 epochs.
        **params
            Further parameters, such as ``n_bits``; they override the preset.

        Returns
        -------
        DSTDHHasher
            An unfitted hasher.

        Raises
        ------
        ValueError
            If there is no such dataset or source.
        """
        if source == "release":
            params.setdefault("callbacks", [LRScheduler("StepLR", step_size=6, gamma=0.1)])
        return super().preset(dataset, source=source, **params)

    def learn(self, X: Any, y: Any) -> None:
        """Learn codes and network in turn, from images and their tags."""
        data = self.open_inputs(X)
        given = self._given_codes(len(data))
        indicator = self._encode(y, len(data))
        vectors = processes().first(self._describe(indicator, self._seed))
        semantic = isinstance(self.init, str) and self.init == "semantic" and vectors is not None
        if semantic:
            inputs = self.build(data, n_outputs=vectors.shape[1], tanh=False)
            self._learn_start(inputs, vectors)
        else:
            inputs = self.build(data)
        rows = self.readable_rows(inputs)
        indicator = indicator[rows]
        seeds = check_random_state(self._seed).randint(np.iinfo(np.int32).max, size=3)
        solver: DiscreteALM | None = None
        history: list[dict[str, Any]] = []

        def begin(features: Features) -> DiscreteALM:
            graphs = self._graphs(features, indicator, seeds)
            if semantic:
                codes = signs(run_head(self.head_, features, device=self.device))
            else:
                start = None if given is None else given[rows]
                codes, _ = self._starting_codes(RidgePath(features), vectors, start, seeds[2])
            return self._solver(codes, indicator, *graphs, nu=self.nu)

        def solve(round_: int) -> NDArray[np.float32]:
            features = self.training_features(inputs)

            def run() -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
                nonlocal solver
                outputs = None
                if solver is None:
                    solver = begin(features)
                else:
                    if isinstance(inputs, Images):  # the last round has trained the backbone
                        solver.relink(*self._graphs(features, indicator, seeds))
                    outputs = run_head(self.head_, features, device=self.device)
                n_before = len(solver.history)
                report = partial(self._report, when=f"round {round_}/{self.n_rounds}, ")
                solver.run(
                    self.max_iter,
                    tol=self.tol,
                    phi=outputs,
                    report=report if self.verbose else None,
                )
                return solver.codes.astype(np.float32), solver.history[n_before:]

            codes, course = processes().first_only(run)
            history.extend({"round": round_, **row} for row in course)
            return codes

        lr = self.lr
        if semantic:
            # With clean tags, large steps or dropout in the rounds would make the codes worse than
            # the start. Under dropout the head cannot fit its own codes.
            lr *= _NEAR
            self.head_.drop_nothing()
        self.epochs_ = self.train_in_rounds(inputs, solve, self.n_rounds, nn.MSELoss(), lr=lr)
        self.transfer_ = processes().first(solver and solver.transfer)
        self.history_ = history
        self.objective_ = np.array([row["objective"] for row in history])
        self.n_iter_ = len(history)
        self._set_threshold(inputs)
        if vectors is not None:
            self._learn_tag_codes(vectors[rows], self.training_outputs(inputs))
        self.warn_constant_bits(inputs)

    def _learn_start(self, inputs: Features | Images, vectors: Any) -> None:
        """Train the network to predict the meaning of tags, and make bits of its outputs."""
        self.chosen_ = learn_targets(
            self,
            inputs,
            vectors,
            weight_decay=self.weight_decay,
            max_epochs=_START_EPOCHS * self.max_epochs,
            tune=self.tune,
        )
        quantize_outputs(self, inputs, vectors)

    def _set_threshold(self, inputs: Features | Images) -> None:
        """Fix the thresholds on training samples, as part of the head."""
        self.threshold_ = np.zeros(self.n_bits, np.float32)
        if self.threshold == "zero":
            return  # saves the outputs of a trained backbone, which would have to be computed
        outputs = run_head(self.head_, self.sample_features(inputs), device=self.device)
        if self.threshold == "mean":
            self.threshold_ += outputs.mean()
        else:
            self.threshold_ += outputs.mean(axis=0)
        # tanh(h) reaches t where h - artanh(t) reaches 0.
        self.head_.lower(np.arctanh(self.threshold_))
