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

# Of the network that is the start, in units of those of a round.
_START_EPOCHS = 3
# Learning rate of the rounds after a semantic start, in units of that of the start.
_NEAR = 0.1

__all__ = ["DSTDHHasher"]


class DSTDHParameters(TransferParameters, NetworkParameters, total=False):
    """Parameters that DSTDHHasher hands on, for type checkers."""


class DSTDHHasher(SemanticTransfer, DeepHasher):
    """Dual-level semantic transfer deep hashing (DSTDH) [1]_.

    A network, graphs over images, tags and discrete codes learn from each
    other. A round solves the codes of the training images in {-1, +1}, as
    :class:`DSTDHLinear` does, from their features, their tags and, from the
    second round on, the outputs of the network (Algorithm 1); then it trains
    the network on the codes by squared error (Eq. 11). Where the backbone is
    trained too, each round begins with new features and graphs of them.

    Besides what :class:`DSTDHLinear` names, the defaults leave the paper in
    these points; :meth:`preset` gives the paper's and the authors' program's:

    - the network first learns what tags mean, as
      :class:`~skhash.TagITQHasher` does, and the codes start from its outputs
      (the paper: random codes; the program: ITQ);
    - the codes are solved to an end before the network is trained on them, and
      again in each round (the paper: one iteration of each in turn, from an
      untrained network on; the program: codes once, network once);
    - the outputs of the network weigh more (``nu``; 0.001);
    - after that start the rounds take a tenth of ``lr``, without dropout;
    - the head has a hidden layer and decays strongly, which matters more than
      the rest where tags are noisy (a linear layer on fc7, hardly decaying).

    Parameters
    ----------
    n_bits : int, default=64
        Length of a code.
    nu : float, default=0.1
        Weight of the agreement of codes and outputs of the network. It acts
        from the second round on: a network that has learned nothing would draw
        the codes to random ones.
    n_rounds : int, default=3
        Rounds of codes and network.
    max_epochs : int, default=10
        Epochs of the network in each round. The network that is the start has
        three times as many; of few images they are several passes each, as in
        TagITQHasher.
    hidden_layers : tuple of int, default=(512,)
        Units of the head's hidden layers; () is a linear head, whose start on
        features is a closed form.
    dropout : float, default=0.5
        As in DeepHasher; with ``init="semantic"`` of the start alone.
    weight_decay : float, default=3.0
        As in DeepHasher.
    threshold : {"zero", "mean", "bit-mean"}, default="zero"
        What an output has to reach for a 1: 0, as in the paper, the mean of
        all outputs of the training images, as in the authors' program, or the
        mean of the bit's own.
    tune : bool, default=False
        Whether the network that is the start, which learns what tags mean,
        tries other weight decays and more epochs, as TagITQHasher does. That
        takes several times as long.
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
        For each iteration its round, the objective, its terms and the share of
        bits that changed.
    epochs_ : list of dict
        What skorch recorded in each epoch, with the round.
    n_iter_ : int
        Number of iterations of the optimiser in all rounds.
    chosen_ : dict
        How the start was trained, as in TagITQHasher; not with another ``init``.
    threshold_ : ndarray of shape (n_bits,), float32
        What the trained outputs are compared with. The last bias of ``head_``
        is lowered accordingly: the decision function is compared with 0.

    See Also
    --------
    DSTDHLinear : The same codes with a linear hash function; no network.
    skhash.WeaklySupervisedHasher : Networks that learn from tags by
        similarities.

    Notes
    -----
    A ``checkpoint`` holds the network after every epoch of every round. The
    codes are not in it: a resumed ``fit`` solves those of completed rounds
    again, which repeats exactly, and does not train them.

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
            Whose weights alpha, beta, nu, mu, rho and numbers of anchors and
            concepts (section IV-C of the paper).
        source : {"paper", "release"}, default="paper"
            "paper": Algorithm 1 as printed, from random codes, one iteration of
            each step in turn. "release": codes solved once, in 4 iterations
            from ITQ's, then 18 epochs of the last layer, at a rate divided by
            10 after 6 and 12.
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
        """Learn codes and network from images and their tags, in turn."""
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
                    if isinstance(inputs, Images):  # whose backbone has been trained since
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
            # Codes of clean tags end below their start if the rounds leave it by large steps, or
            # with dropout, under which the head cannot follow its own codes.
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
        """Let the network learn what tags mean, and make bits of its outputs."""
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
            return  # samples of a trained backbone would have to be computed
        outputs = run_head(self.head_, self.sample_features(inputs), device=self.device)
        if self.threshold == "mean":
            self.threshold_ += outputs.mean()
        else:
            self.threshold_ += outputs.mean(axis=0)
        # tanh(h) reaches t where h - artanh(t) reaches 0.
        self.head_.lower(np.arctanh(self.threshold_))
