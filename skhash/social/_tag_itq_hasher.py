"""TagITQ with a network."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Unpack

from .._sklearn import Interval
from ..networks import DeepHasher, NetworkParameters
from ..semantic._tag_hasher import TagCodesMixin
from ..semantic._targets import TARGET_TYPES, SemanticTargets
from ..tags import encode_tags
from ._semantic_head import learn_targets, quantize_outputs

__all__ = ["TagITQHasher"]


class TagITQHasher(TagCodesMixin, DeepHasher):
    """Iterative quantisation of the semantic targets that a network predicts.

    The network form of :class:`TagITQ`. The head of the network learns to
    predict vectors of the training images' tags, by squared error. The
    principal components of its outputs, rotated by ITQ [1]_, give the bits. No
    labels are needed: weight decay and number of epochs are chosen by the error
    on held-out targets, so that they suit noisy tags as well as clean ones. A
    linear head on features needs no training: it is the ridge regression of
    :class:`TagITQ` without a kernel.

    Parameters
    ----------
    n_bits : int, default=64
        Length of the codes.
    target : str, path, mapping, callable or SemanticSpace, default="ppmi"
        How the tags of an image become a vector; see
        :class:`~skhash.SemanticTargets`.
    tune : bool, default=True
        Whether to search for better settings, starting from ``weight_decay``
        and ``max_epochs``. The search multiplies the decay by 3 or 1/3 while
        that helps, then tries 3 times the epochs. It compares errors on a fifth
        of the images. Each step trains a head. There is no search if the
        backbone is trained.
    max_iter : int, default=50
        Number of alternations of ITQ.
    hidden_layers : tuple of int, default=(512,)
        Units of the head's hidden layers.
    dropout : float, default=0.5
        As in DeepHasher.
    weight_decay : float, default=3.0
        As in DeepHasher; the search starts from it.
    max_epochs : int, default=30
        Number of epochs; the search starts from it. If the images are fewer
        than 16 batches, an epoch is several passes, with at least 16 batches.
    **network
        Parameters of DeepHasher.

    Attributes
    ----------
    targets_ : SemanticTargets
        The vectors of tags.
    chosen_ : dict
        ``weight_decay`` and ``max_epochs`` in use, and ``errors``, the list of
        all (weight_decay, max_epochs, error on held-out targets) tried. For a
        linear head on features only ``ridge``, the strength of the regression.
    quantization_ : ndarray of shape (max_iter,), float64
        ITQ's loss after each alternation.

    See Also
    --------
    skhash.TagITQ : The closed form, without a network.
    skhash.DSTDHHasher : Starts from such a network.

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
        """Learn the targets, then the bits."""
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
        self.chosen_ = learn_targets(
            self,
            inputs,
            vectors,
            weight_decay=self.weight_decay,
            max_epochs=self.max_epochs,
            tune=self.tune,
        )
        self.quantization_ = quantize_outputs(self, inputs, vectors, max_iter=self.max_iter)
        readable = self.readable_rows(inputs)
        self._learn_tag_codes(vectors[readable], self.training_outputs(inputs))
        self.warn_constant_bits(inputs)
