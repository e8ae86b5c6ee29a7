"""Similarity-adaptive discrete hashing with a network."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn

from .._sklearn import Interval
from ..networks import DeepHasher, NetworkParameters
from ..networks._distributed import processes
from ._itq import itq_codes
from ._sadh_linear import SmoothCodes, SmoothingParameters

__all__ = ["SADHHasher"]


class SADHParameters(SmoothingParameters, NetworkParameters, total=False):
    """Parameters that SADHHasher passes on, for type checkers."""


class SADHHasher(SmoothCodes, DeepHasher):
    r"""Similarity-adaptive discrete hashing: codes, network and graph in turn [1]_.

    Each round solves for codes B of the n training samples that change little
    between neighbours on an anchor graph S, and whose bits are balanced and
    uncorrelated,

    .. math::

        \min_{B \in \{-1, 1\}^{n \times r}} \operatorname{tr}(B^\top (I - S) B)
        + \frac{\rho_3}{n} \|B^\top 1\|^2 + \frac{\rho_4}{n} \|B^\top B - n I\|_F^2,

    by ADMM, with {-1, 1} as the intersection of a box and a sphere. Then it
    trains the network on these codes by the squared error of its tanh outputs.
    The graph of the first round is that of the features, and B starts from
    their ITQ codes. The graphs of later rounds are those of the network's
    outputs, so the similarities adapt to what the network has learned.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes; at most the number of samples and of features.
    n_rounds : int, default=2
        Number of rounds of codes and network.
    weight_decay : float, default=30.0
        As in DeepHasher. The default is for a linear head, which overfits the
        codes of the training samples with less weight decay. A head with
        hidden layers needs less.
    **others
        Parameters of the code solver, as in SADHLinear, and of the network, as
        in DeepHasher.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}; MISSING for
        unreadable images.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective of the relaxed codes after each iteration of ADMM, of all
        rounds.
    history_ : list of dict
        Records of skorch for each epoch, with the round.
    n_iter_ : int
        Number of iterations of ADMM in all rounds.

    See Also
    --------
    SADHLinear : The codes of one round, learned by ridge regression.
    skhash.DSTDHHasher : Codes that are also learned from tags.

    Notes
    -----
    The paper first trains the network on the initial codes, and its graph is
    that of the last hidden layer. Here the network has such a layer only with
    ``hidden_layers`` or a trained backbone, so its outputs are used instead.
    For the weights of the penalties see SADHLinear.

    A ``checkpoint`` contains the network after every epoch of every round, but
    not the codes. A resumed ``fit`` solves for the codes of completed rounds
    again, with the same result, and does not train the network on them again.

    References
    ----------
    .. [1] F. Shen, Y. Xu, L. Liu, Y. Yang, Z. Huang and H. T. Shen,
       "Unsupervised deep hashing with similarity-adaptive and discrete
       optimization", IEEE TPAMI 40(12), 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash import SADHHasher
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> SADHHasher(n_bits=4, n_anchors=20, random_state=0).fit_transform(X).shape
    (100, 4)
    """

    tanh_outputs = True
    requires_y = False

    _defaults: ClassVar[NetworkParameters] = {"weight_decay": 30.0}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        **SmoothCodes._parameter_constraints,
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, n_bits: int = 64, *, n_rounds: int = 2, **others: Unpack[SADHParameters]
    ) -> None:
        super().__init__(n_bits=n_bits, **others)
        self.n_rounds = n_rounds

    def learn(self, X: Any, y: Any) -> None:
        """Learn codes and network in turn."""
        inputs = self.build(self.open_inputs(X))
        random_state = check_random_state(self._seed)
        objective: list[float] = []
        codes: NDArray[np.float64] | None = None

        def solve(round_: int) -> NDArray[np.float64]:
            nonlocal codes
            first = codes is None
            neighbours = (
                self.training_features(inputs)[:] if first else self.training_outputs(inputs)
            )

            def smooth() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
                start = codes
                if start is None:
                    start = itq_codes(neighbours, self.n_bits, random_state=random_state)
                graph = self._graph(neighbours, random_state)
                return self._smooth(start, graph, f"SADHHasher, round {round_}/{self.n_rounds}")

            codes, course = processes().first_only(smooth)
            objective.extend(course.tolist())
            return codes

        history = self.train_in_rounds(inputs, solve, self.n_rounds, nn.MSELoss())
        self.objective_, self.n_iter_ = np.asarray(objective), len(objective)
        self.history_ = history
        self.warn_constant_bits(inputs)
