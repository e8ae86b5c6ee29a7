"""Constructors: parameters handed on from bases, their defaults, and slips."""

import inspect
from typing import ClassVar

import pytest
from _estimators import ARGUMENTS
from sklearn.base import BaseEstimator, clone

import skhash
from skhash._parameters import ParametersMixin
from skhash.dstdh._transfer import SemanticTransfer, TransferParameters
from skhash.networks import DeepHasher, NetworkParameters
from skhash.unsupervised._sadh_linear import SmoothCodes, SmoothingParameters

ESTIMATORS = [
    *ARGUMENTS,
    "HammingNeighbors",
    "ImageFeatures",
    "ImageSearch",
    "SemanticSpace",
    "SemanticTargets",
]


class Base(ParametersMixin, BaseEstimator):
    def __init__(self, size=4, *, rate=0.1, decay=1.0):
        self.size, self.rate, self.decay = size, rate, decay


class Mixin(ParametersMixin):
    def __init__(self, *, weight=2.0, **others):
        super().__init__(**others)
        self.weight = weight


class Child(Mixin, Base):
    _defaults: ClassVar = {"decay": 3.0, "weight": 5.0}

    def __init__(self, size=8, *, margin=1.0, **others):
        super().__init__(size=size, **others)
        self.margin = margin


class Grandchild(Child):
    def __init__(self, size=8, *, depth=1, **others):
        super().__init__(size, **others)
        self.depth = depth


def test_defaults_of_a_class_replace_those_of_its_bases():
    assert Child().get_params() == {
        "size": 8, "margin": 1.0, "rate": 0.1, "decay": 3.0, "weight": 5.0
    }  # fmt: skip
    assert Child(decay=0.5).decay == 0.5
    assert Base().decay == 1.0
    defaults = {name: p.default for name, p in inspect.signature(Child).parameters.items()}
    assert defaults == Child().get_params()


def test_defaults_reach_grandchildren():
    assert Grandchild().get_params() == {**Child().get_params(), "depth": 1}
    assert inspect.signature(Grandchild).parameters["decay"].default == 3.0
    assert clone(Grandchild(4, decay=2.0)).get_params() == Grandchild(4, decay=2.0).get_params()
    assert repr(Grandchild(decay=3.0)) == "Grandchild()"


@pytest.mark.parametrize("estimator", [Base, Child, Grandchild])
def test_a_slip_names_the_nearest_parameter(estimator):
    with pytest.raises(TypeError, match=rf"{estimator.__name__} .*'decya'; did you mean 'decay'"):
        estimator(decya=1)
    with pytest.raises(TypeError, match=r"'qqq'; it has size, .*rate"):
        estimator(qqq=1)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_names_the_parameter_that_was_meant(name):
    estimator = getattr(skhash, name)
    for parameter in inspect.signature(estimator).parameters:
        slip = parameter[0] + parameter[2:]
        with pytest.raises(TypeError, match=f"{name} has no parameter '{slip}'; did you mean"):
            estimator(**{slip: None})


@pytest.mark.parametrize(
    ("parameters", "estimator"),
    [
        (NetworkParameters, DeepHasher),
        (TransferParameters, SemanticTransfer),
        (SmoothingParameters, SmoothCodes),
    ],
)
def test_type_checkers_and_constructors_know_the_same_parameters(parameters, estimator):
    signature = inspect.signature(estimator).parameters.values()
    declared = {p.name: p.annotation for p in signature if p.kind is p.KEYWORD_ONLY}
    assert {name: t.__forward_arg__ for name, t in parameters.__annotations__.items()} == declared
