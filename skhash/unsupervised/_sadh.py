"""Similarity-adaptive discrete hashing with a network."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from torch import nn

from .._sklearn import Interval, fit_context
from ..networks import DeepHasher
from ..networks._extract import run_head
from ._itq import itq_codes
from ._sadh_linear import SmoothCodes

__all__ = ["SADHHasher"]


class SADHHasher(SmoothCodes, DeepHasher):
    r"""Similarity-adaptive discrete hashing: codes, network and graph in turn [1]_.

    A round solves for codes B of the n training samples that change little
    between neighbours on an anchor graph S, and whose bits are balanced and
    uncorrelated,

    .. math::

        \min_{B \in \{-1, 1\}^{n \times r}} \operatorname{tr}(B^\top (I - S) B)
        + \frac{\rho_3}{n} \|B^\top 1\|^2 + \frac{\rho_4}{n} \|B^\top B - n I\|_F^2,

    by ADMM, with {-1, 1} as what a box and a sphere share, and trains the
    network on them by the squared error of its tanh outputs. The graph of the
    first round is that of the features, and B starts from their ITQ codes; the
    graphs of later rounds are those of the network's outputs, so that the
    similarities adapt to what it has learned.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes; at most the number of samples and of features.
    n_rounds : int, default=2
        Rounds of codes and network.
    weight_decay : float, default=30.0
        As in DeepHasher. The default is for a linear head, which with less of
        it learns whatever the codes of the training samples happen to be; one
        with hidden layers wants less.
    **others
        Parameters of the code solver, as in SADHLinear, and of the network, as
        in DeepHasher.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples, n_bits), uint8
        Learned codes of the training samples, in {0, 1}; 0 for unreadable
        images.
    objective_ : ndarray of shape (n_iter_,), float64
        The objective of the relaxed codes after each iteration of ADMM, of all
        rounds.
    history_ : list of dict
        What skorch recorded in each epoch, with the round.
    n_iter_ : int
        Number of iterations of ADMM in all rounds.

    See Also
    --------
    SADHLinear : The codes of one round, learned by ridge regression.
    skhash.DSTDHHasher : Codes from tags besides.

    Notes
    -----
    The paper begins by training the network on the first codes and takes its
    graph from the last hidden layer, which the network here has only with
    ``hidden_layers`` or a trained backbone; the outputs stand in for it. On the
    weights of the penalties see SADHLinear.

    A ``checkpoint`` holds the network after every epoch of every round. The
    codes are not in it: a resumed ``fit`` solves those of completed rounds
    again, which repeats exactly, and does not train them.

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

    _tanh = True
    _requires_y = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DeepHasher._parameter_constraints,
        **SmoothCodes._parameter_constraints,
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, n_bits: int = 64, *, n_rounds: int = 2, weight_decay: float = 30.0, **others: Any
    ) -> None:
        super().__init__(n_bits=n_bits, weight_decay=weight_decay, **others)
        self.n_rounds = n_rounds

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn codes and network in turn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            Features if ``backbone`` is None. Else images: a sequence of files,
            PIL images or uint8 arrays, or a uint8 array (n_samples, H, W, 3).
        y : None
            Ignored.

        Returns
        -------
        SADHHasher
            The fitted hasher.

        Raises
        ------
        ValueError
            If there are fewer samples or features than bits; for a checkpoint
            of another training.
        ImageReadError
            For an unreadable image, unless ``on_error="skip"``.
        FloatingPointError
            If the training diverges.
        """
        inputs = self._start(X)
        rows = np.setdiff1d(np.arange(len(inputs)), self.skipped_)
        random_state = check_random_state(self._seed)
        targets = np.zeros((len(inputs), self.n_bits), np.float32)
        objective: list[float] = []
        history: list[dict[str, Any]] = []
        for round_ in range(1, self.n_rounds + 1):
            neighbours = self._all_features(inputs)[rows]
            if round_ == 1:
                codes = itq_codes(neighbours, self.n_bits, random_state=random_state)
            else:
                neighbours = run_head(self.head_, neighbours, device=self.device)
            graph = self._graph(neighbours, random_state)
            label = f"SADHHasher, round {round_}/{self.n_rounds}"
            codes, course = self._smooth(codes, graph, label)
            targets[rows] = codes
            self._train(inputs, targets, nn.MSELoss(), rows=rows, stage=f"round-{round_}")
            objective += course.tolist()
            history += [{"round": round_, **row} for row in self.history_]
        self.codes_ = (targets > 0).astype(np.uint8)
        self.objective_, self.n_iter_ = np.asarray(objective), len(objective)
        self.history_ = history
        self._warn_constant_bits(inputs)
        return self
