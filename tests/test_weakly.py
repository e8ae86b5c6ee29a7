"""Joint learning of sem-vectors and codes, and the estimator around it."""

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from itertools import pairwise

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from _threads import global_generators_left_alone, in_threads
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from skhash import ITQ, DRSCHHasher, DSHHasher, KSHHasher, SemanticSpace, WeaklySupervisedHasher
from skhash._ridge import RidgePath
from skhash.networks import DeepHasher
from skhash.networks._head import HashHead
from skhash.networks._trainer import HashNet, TrainingSet
from skhash.tags import encode_tags
from skhash.weakly import _hasher as weakly_module
from skhash.weakly import _joint
from skhash.weakly._hasher import _SPACES
from skhash.weakly._joint import JointLoss, JointNet, RetainedLoss

N_CONCEPTS, N_WORDS, N_FEATURES = 4, 3, 16


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


# --------------------------------------------------------------- planted photos and words

WORDS = [f"word{concept}-{k}" for concept in range(N_CONCEPTS) for k in range(N_WORDS)]
NOISE = [f"noise{k}" for k in range(4)]


def word_vectors():
    """Synonyms point the same way, noise anywhere."""
    rng = np.random.default_rng(5)
    concepts = np.repeat(np.eye(8)[:N_CONCEPTS], N_WORDS, axis=0)
    vectors = 0.1 * rng.normal(size=(len(WORDS), 8)) + concepts
    noise = np.eye(8)[N_CONCEPTS:] + 0.1 * rng.normal(size=(4, 8))
    return dict(zip(WORDS + NOISE, np.vstack([vectors, noise]).astype(np.float32), strict=True))


def plant(n_samples=240, seed=0, noise=0.3, untagged=0.1):
    """Features in which concepts are weaker than what has nothing to do with them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(N_CONCEPTS, size=n_samples)
    X = rng.normal(size=(n_samples, N_FEATURES))
    X[:, :6] *= 3
    X[np.arange(n_samples), 6 + labels] += 3
    tags = []
    for label in labels:
        words = [] if rng.random() < untagged else [f"word{label}-{rng.integers(N_WORDS)}"]
        if words and rng.random() < noise:
            words[0] = str(rng.choice(WORDS))
        tags.append(words + [str(rng.choice(NOISE))] * (rng.random() < noise))
    return X.astype(np.float32), tags, labels


@pytest.fixture(scope="module")
def photos():
    return plant()


def some_of(labels, n):
    """Labels of the first n images, in lists; none of the others."""
    return [[str(label)] if i < n else [] for i, label in enumerate(labels)]


def space(**params):
    return SemanticSpace(8, embedding=word_vectors(), density=0.2, **params)


def weakly(estimator=None, **params):
    """Settings for a handful of small batches."""
    if estimator is None:
        estimator = DSHHasher(8, max_epochs=10, batch_size=32)
    settings = {"max_epochs": 10, "lr": 0.02, "weight_decay": 3.0, "batch_size": 32}
    settings |= {"semantic_space": space(), "random_state": 0}
    return WeaklySupervisedHasher(estimator, **{**settings, **params})


def precision(hasher, seed=99):
    """Mean average precision on photos that the hasher has not seen."""
    X, _, labels = plant(300, seed)
    return hasher.score(X, labels=labels)


# -------------------------------------------------------------------------- the objective


@pytest.fixture
def problem(rng):
    """Sparse sem-vectors of 30 images, the last 4 untagged; a Laplacian; outputs of 6 bits."""
    observed = np.abs(rng.normal(size=(30, 5))) * (rng.random((30, 5)) < 0.6) + 0.01
    observed[-4:] = 0
    correlation = rng.random((5, 5))
    correlation = np.triu(correlation, 1) + np.triu(correlation, 1).T
    laplacian = np.diag(correlation.sum(axis=1)) - correlation
    outputs = torch.from_numpy(rng.normal(size=(30, 6)).astype(np.float32))
    return sp.csr_array(observed.astype(np.float32)), laplacian, outputs


def joint_loss(problem, **params):
    observed, laplacian, _ = problem
    return JointLoss(observed, laplacian, **{"beta": 0.3, "delta": 0.7, **params})


def total_objective(zh, outputs, observed, laplacian, beta, delta):
    """Eq. 7 for a batch, term by term, with pairs weighted by (n - 1); float64."""
    n, n_bits = outputs.shape
    lengths = np.linalg.norm(observed.toarray(), axis=1, keepdims=True)
    z = observed.toarray() / np.where(lengths > 0, lengths, 1)
    centre = torch.from_numpy(z.mean(axis=0))
    z, laplacian = torch.from_numpy(z), torch.from_numpy(laplacian)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(n):
        total = total + (zh[i] - z[i]).square().sum() / 2
        total = total + beta / 2 * (zh[i] @ laplacian @ zh[i])
        for j in range(n):
            if i != j:
                similarity = (zh[i] - centre) @ (zh[j] - centre)
                agreement = outputs[i] @ outputs[j] / n_bits
                total = total + delta / 2 * (similarity - agreement) ** 2 / (n - 1)
    return total


def doubles(loss, outputs):
    """Sem-vectors (moved a little, so that no term is 0) and outputs, float64, with gradients."""
    generator = torch.Generator().manual_seed(0)
    loss.zh += 0.1 * torch.randn(loss.zh.shape, generator=generator)
    return loss.zh.double().requires_grad_(), outputs.double().requires_grad_()


ALL = torch.arange(30)


def test_objective_is_eq_7(problem):
    observed, laplacian, outputs = problem
    loss = joint_loss(problem)
    expected = total_objective(*doubles(loss, outputs), observed.astype(float), laplacian, 0.3, 0.7)
    assert loss(outputs, ALL).item() == pytest.approx(expected.item() / 30, rel=1e-5)


def test_gradient_of_step_1_is_that_of_eq_7(problem):
    observed, laplacian, outputs = problem
    loss = joint_loss(problem)
    zh, h = doubles(loss, outputs)
    total = total_objective(zh, h, observed.astype(float), laplacian, 0.3, 0.7)
    (expected,) = torch.autograd.grad(total, zh)
    torch.testing.assert_close(loss.gradient(outputs, ALL).double(), expected, rtol=1e-4, atol=1e-5)


def test_gradient_of_step_2_is_that_of_eq_7(problem):
    observed, laplacian, outputs = problem
    loss = joint_loss(problem)
    zh, h = doubles(loss, outputs)
    total = total_objective(zh, h, observed.astype(float), laplacian, 0.3, 0.7)
    (expected,) = torch.autograd.grad(total / 30, h)
    outputs = outputs.clone().requires_grad_()
    loss(outputs, ALL).backward()
    torch.testing.assert_close(outputs.grad.double(), expected, rtol=1e-4, atol=1e-6)


def test_gradients_of_a_batch_match_finite_differences(problem):
    rows = torch.tensor([3, 28, 7, 11])
    loss = joint_loss(problem).double()
    outputs = problem[2][rows].double()
    gradient = loss.gradient(outputs, rows)
    for i, k in ((0, 0), (1, 2), (3, 4)):
        values = []
        for sign in (1, -1):
            loss.zh[rows[i], k] += sign * 1e-5
            values.append(4 * loss(outputs, rows))
            loss.zh[rows[i], k] -= sign * 1e-5
        assert gradient[i, k].item() == pytest.approx(
            (values[0] - values[1]).item() / 2e-5, rel=1e-4, abs=1e-7
        )


def test_pairs_of_an_image_with_itself_are_left_out(problem):
    """Were they in, the lengths of outputs would matter beside their products."""
    _, _, outputs = problem
    loss = joint_loss(problem, beta=0.0)
    rows = torch.tensor([0, 1])
    orthogonal = torch.zeros(2, 6)
    orthogonal[0, 0], orthogonal[1, 1] = 1.0, 1.0
    assert loss(orthogonal, rows) == loss(100 * orthogonal, rows)
    assert loss(outputs[:1], rows[:1]) == 0  # zh is z, and no pair is left
    assert (loss.gradient(outputs[:1], rows[:1]) == 0).all()


def test_similarities_are_on_one_scale(problem):
    """Codes that double in length without another bit agree as before."""
    _, _, outputs = problem
    loss = joint_loss(problem)
    torch.testing.assert_close(loss(outputs, ALL), loss(torch.cat([outputs, outputs], 1), ALL))


def test_sem_vectors_start_at_unit_length_and_untagged_ones_at_zero(problem):
    observed = problem[0]
    loss = joint_loss(problem)
    lengths = torch.linalg.vector_norm(loss.zh, dim=1).numpy()
    np.testing.assert_allclose(lengths[:26], 1, rtol=1e-6)
    assert (loss.zh[26:] == 0).all()
    np.testing.assert_allclose(
        loss.zh[:26].numpy() * np.linalg.norm(observed.toarray()[:26], axis=1, keepdims=True),
        observed.toarray()[:26],
        rtol=1e-5,
    )
    np.testing.assert_allclose(loss.centre, loss.zh.mean(0), rtol=1e-5)


@pytest.mark.parametrize("step", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("delta", [0.1, 1.0, 30.0])
def test_step_1_lowers_the_objective_of_its_batch(problem, step, delta):
    outputs = problem[2].clamp(-1, 1)
    loss = joint_loss(problem, step=step, delta=delta)
    rows = torch.arange(0, 30, 2)
    others = loss.zh[1::2].clone()
    values = [loss.update(outputs[rows], rows).item() for _ in range(4)]
    assert (np.diff(values) < 0).all()
    assert loss(outputs[rows], rows) < values[-1]
    assert torch.equal(loss.zh[1::2], others)


def test_step_0_keeps_the_observed_sem_vectors(problem):
    loss = joint_loss(problem, step=0.0)
    before = loss.zh.clone()
    loss.update(problem[2], ALL)
    assert torch.equal(loss.zh, before)


def test_sem_vectors_in_a_file_are_those_in_memory(problem, tmp_path):
    file = tmp_path / "zh.f32"
    in_memory, in_file = joint_loss(problem), joint_loss(problem, file=file)
    for loss in (in_memory, in_file):
        for _ in range(3):
            loss.update(problem[2], ALL)
    assert torch.equal(in_memory.zh, in_file.zh)
    written = np.fromfile(file, np.float32).reshape(30, 5)
    np.testing.assert_array_equal(written, in_memory.zh)


# ---------------------------------------------------------------------------- Algorithm 1


class Recorder(JointLoss):
    """Remembers, batch by batch, which step it was of and what that changed."""

    def watch(self, head):
        self.head, self.calls = head, []

    def forward(self, outputs, rows):
        if outputs.requires_grad:
            self.calls.append(("network", self.zh.clone(), self.weights()))
        return super().forward(outputs, rows)

    def update(self, outputs, rows):
        assert not outputs.requires_grad
        self.calls.append(("sem-vectors", self.zh.clone(), self.weights()))
        return super().update(outputs, rows)

    def weights(self):
        return torch.cat([p.detach().ravel().clone() for p in self.head.parameters()])


def run_joint_net(problem, *, n_images=30, batch_size=3, max_epochs=5):
    """The steps of a training: a list of (step, sem-vectors before, weights before)."""
    observed, laplacian, _ = problem
    X = np.random.default_rng(0).normal(size=(n_images, 7)).astype(np.float32)
    head = HashHead(X, 6)
    loss = Recorder(observed[:n_images], laplacian, beta=0.1, delta=1.0)
    loss.watch(head)
    net = JointNet(
        head,
        loss,
        optimizer=torch.optim.AdamW,
        batch_size=batch_size,
        max_epochs=max_epochs,
        lr=0.01,
    )
    net.fit(TrainingSet(X, np.arange(n_images), np.arange(n_images)))
    return [*loss.calls, ("end", loss.zh.clone(), loss.weights())]


def test_the_share_of_network_steps_goes_from_1_in_11_to_10_in_11(problem):
    calls = run_joint_net(problem, n_images=22, batch_size=2, max_epochs=5)
    steps = np.array([call[0] == "network" for call in calls[:-1]]).reshape(5, 11)
    # p:m is 10:1, 10^(1/2):1, 1:1, 1:10^(1/2), 1:10.
    shares = 1 / (1 + 10.0 ** np.array([1, 0.5, 0, -0.5, -1]))
    assert steps[0].sum() == 1
    np.testing.assert_allclose(steps.sum(axis=1), 11 * shares, atol=1)
    np.testing.assert_allclose(steps.sum(axis=1).cumsum(), (11 * shares).cumsum(), atol=1)
    assert steps[-1].sum() == 10


@pytest.mark.parametrize(("max_epochs", "n_network"), [(1, 5), (2, 10), (20, 100)])
def test_half_of_all_steps_are_the_networks(problem, max_epochs, n_network):
    calls = run_joint_net(problem, max_epochs=max_epochs)
    assert len(calls) == 10 * max_epochs + 1
    assert abs(sum(call[0] == "network" for call in calls) - n_network) <= 1


def test_steps_are_spread_evenly_over_an_epoch(problem):
    calls = run_joint_net(problem, max_epochs=1)
    assert [call[0] for call in calls[:-1]] == ["network", "sem-vectors"] * 5


def test_the_network_is_trained_even_if_an_epoch_is_one_batch(problem):
    calls = run_joint_net(problem, batch_size=64, max_epochs=10)
    assert len(calls) == 11
    assert 5 <= sum(call[0] == "network" for call in calls) <= 6


def test_step_1_moves_sem_vectors_only_and_step_2_the_network_only(problem):
    calls = run_joint_net(problem)
    for (step, zh, weights), (_, next_zh, next_weights) in pairwise(calls):
        assert torch.equal(zh, next_zh) == (step == "network")
        assert torch.equal(weights, next_weights) == (step == "sem-vectors")


# ------------------------------------------------------------------ between the two stages


def test_retained_loss_adds_the_squared_distance_from_the_start():
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    start = [p.detach().clone() for p in module.parameters()]
    inner = nn.MSELoss()
    loss = RetainedLoss(inner, module, 0.5)
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    assert loss(module(x), y) == inner(module(x), y)
    with torch.no_grad():
        for p in module.parameters():
            p += torch.randn(p.shape)
    moved = [p.detach() - s for p, s in zip(module.parameters(), start, strict=True)]
    distance = sum((difference**2).sum() for difference in moved)
    torch.testing.assert_close(loss(module(x), y), inner(module(x), y) + 0.5 * distance)
    gradients = torch.autograd.grad(loss(module(x), y), list(module.parameters()))
    plain = torch.autograd.grad(inner(module(x), y), list(module.parameters()))
    for gradient, of_loss, difference in zip(gradients, plain, moved, strict=True):
        torch.testing.assert_close(gradient, of_loss + 2 * 0.5 * difference)
    assert not list(loss.parameters())  # the held weights are the network's


# --------------------------------------------------------------------------- the estimator


@pytest.mark.parametrize("init", ["semantic", "random"])
@pytest.mark.parametrize("kind", [DSHHasher, KSHHasher])
def test_stage_one_leaves_outputs_of_mean_size_1(init, kind):
    X, tags, _ = plant(200, 0)
    estimator = kind(8, batch_size=32, hidden_layers=(5,))
    fitted = weakly(estimator, init=init, max_epochs=3).fit(X, tags)
    values = fitted.decision_function(X.astype(np.float64))
    size = np.abs(np.arctanh(values) if kind.tanh_outputs else values).mean()
    assert size == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("kind", [DSHHasher, KSHHasher])
def test_the_start_is_a_rotation_of_what_ridge_regression_predicts(kind):
    X, tags, _ = plant(200, 0)
    fitted = weakly(kind(8), max_epochs=0).fit(X, tags)
    observed = fitted.semantic_space_.transform(tags).toarray()
    observed /= np.maximum(np.linalg.norm(observed, axis=1, keepdims=True), 1e-12)
    tagged = observed.any(axis=1)
    coef, intercept, _ = RidgePath(X[tagged]).fit(observed[tagged])
    predicted = X @ coef.T + intercept
    predicted -= predicted[tagged].mean(axis=0)
    _, _, directions = np.linalg.svd(predicted[tagged], full_matrices=False)
    components = predicted @ directions[:8].T
    values = fitted.decision_function(X)
    values = np.arctanh(values) if kind.tanh_outputs else values
    left, _, right = np.linalg.svd(values.T @ components, full_matrices=False)
    scale = np.linalg.norm(values) / np.linalg.norm(components)
    np.testing.assert_allclose(components @ (left @ right).T * scale, values, atol=2e-3)
    assert fitted.history_ == []


def test_stage_one_begins_near_what_it_aims_at():
    X, tags, _ = plant(400, 0)
    first = {
        init: weakly(init=init, max_epochs=1, lr=1e-4).fit(X, tags).objective_[0]
        for init in ("semantic", "random")
    }
    assert first["semantic"] < 0.9 * first["random"]


@pytest.mark.parametrize("hidden_layers", [(), (8,)])
def test_checkpoints_of_stage_one_serve_other_hashers(tmp_path, hidden_layers):
    X, tags, labels = plant(200, 0)
    few = some_of(labels, 40)
    settings = {"hidden_layers": hidden_layers, "max_epochs": 2, "random_state": 0}
    first = DSHHasher(8, checkpoint=str(tmp_path / "first"), **settings)
    weakly(first).fit(X, tags, labels=few)
    (tmp_path / "first" / "fine-tuning.pt").unlink()
    second = KSHHasher(8, batch_size=32, **settings)
    expected = weakly(second).fit(X, tags, labels=few).decision_function(X)
    before = (tmp_path / "first" / "pre-training.pt").stat()
    second.set_params(checkpoint=str(tmp_path / "first"))
    resumed = weakly(second).fit(X, tags, labels=few)
    np.testing.assert_array_equal(resumed.decision_function(X), expected)
    assert (tmp_path / "first" / "pre-training.pt").stat().st_mtime_ns == before.st_mtime_ns


def test_retention_is_shared_by_the_labelled_images(monkeypatch):
    strengths = []

    class Spy(RetainedLoss):
        def __init__(self, loss, module, strength):
            strengths.append(strength)
            super().__init__(loss, module, strength)

    monkeypatch.setattr(weakly_module, "RetainedLoss", Spy)
    X, tags, labels = plant(200, 0)
    for n_labelled in (20, 80):
        estimator = DSHHasher(8, max_epochs=1)
        weakly(estimator, max_epochs=0, retention=4.0).fit(
            X, tags, labels=some_of(labels, n_labelled)
        )
    assert strengths == [4 / 20, 4 / 80]


def test_tags_alone_beat_itq():
    for seed in range(2):
        X, tags, _ = plant(400, seed)
        itq = precision(ITQ(8, random_state=0).fit(X))
        assert precision(weakly(random_state=seed).fit(X, tags)) > itq + 0.1


def test_few_labels_on_top_of_tags_beat_few_labels():
    estimator = DSHHasher(8, max_epochs=40, batch_size=32)
    scores = []
    for seed in range(3):
        X, tags, labels = plant(400, seed)
        few = some_of(labels, 16)
        alone = clone(estimator).set_params(random_state=seed).fit(X, few)
        both = weakly(estimator, random_state=seed).fit(X, tags, labels=few)
        scores.append((precision(alone), precision(both)))
    alone, both = np.mean(scores, axis=0)
    assert both > alone + 0.05


def test_labels_add_to_what_tags_say():
    X, tags, labels = plant(400, noise=0.6)
    estimator = DSHHasher(8, max_epochs=30, batch_size=32)
    without, with_labels = (
        precision(weakly(estimator, retention=1e-3).fit(X, tags, labels=given))
        for given in (None, labels)
    )
    assert with_labels > without + 0.05


def test_the_objective_falls(photos):
    X, tags, _ = photos
    hasher = weakly(init="random", max_epochs=20).fit(X, tags)
    assert hasher.objective_.shape == (20,) == (len(hasher.history_),)
    assert hasher.objective_[-1] < 0.7 * hasher.objective_[0]
    assert hasher.objective_[10:].max() < hasher.objective_[:5].mean()
    np.testing.assert_array_equal(hasher.objective_, [row["train_loss"] for row in hasher.history_])


def test_beta_delta_and_the_sem_vector_steps_matter(photos):
    X, tags, _ = photos
    changes = [{}, {"beta": 0.5}, {"delta": 5.0}, {"semantic_step": 0.0}]
    values = [weakly(**change).fit(X, tags).decision_function(X) for change in changes]
    for value in values[1:]:
        assert (value != values[0]).any()


def test_sem_vectors_kept_in_a_file_make_no_difference(photos):
    X, tags, _ = photos
    hasher = weakly().fit(X, tags)
    # Room for half of what they take in single precision, which is all in half precision.
    room = 2 * len(X) * hasher.semantic_space_.n_components_ / 2**20
    in_memory, in_file = (weakly(memory_limit=limit).fit(X, tags) for limit in (room, 0))
    np.testing.assert_array_equal(in_memory.objective_, in_file.objective_)
    np.testing.assert_array_equal(in_memory.decision_function(X), in_file.decision_function(X))
    # Half precision is of the size of rounding: a step moves sem-vectors by far more.
    assert (in_memory.objective_ != hasher.objective_).any()
    np.testing.assert_allclose(in_memory.objective_, hasher.objective_, rtol=0.01)
    assert np.mean(in_memory.transform(X) == hasher.transform(X)) > 0.98


@pytest.mark.parametrize("sparse_output", [True, False])
def test_sem_vectors_may_be_dense(photos, sparse_output):
    X, tags, _ = photos
    hasher = weakly().set_params(semantic_space__sparse_output=sparse_output).fit(X, tags)
    np.testing.assert_array_equal(hasher.transform(X), weakly().fit(X, tags).transform(X))


def test_fit_without_labels_is_fit_with_none_at_all(photos):
    X, tags, _ = photos
    without = weakly().fit(X, tags)
    for nothing in ([[]] * len(X), np.zeros((len(X), 3))):
        again = weakly().fit(X, tags, labels=nothing)
        np.testing.assert_array_equal(without.decision_function(X), again.decision_function(X))
    assert np.abs(without.decision_function(X)).mean() == pytest.approx(1, rel=1e-4)


def test_much_retention_keeps_the_codes_of_the_tags():
    X, tags, labels = plant(noise=0.6)
    estimator = DSHHasher(8, max_epochs=30, batch_size=32)
    before = weakly(estimator).fit(X, tags).transform(X)
    changed = []
    for strength in (1e4, 0.1, 0.0):
        hasher = weakly(estimator, retention=strength).fit(X, tags, labels=labels)
        changed.append((hasher.transform(X) != before).mean())
    assert changed[0] < 0.01 < 0.05 < changed[1] < changed[2]


def test_without_retention_stage_two_is_plain_training(photos):
    X, tags, labels = photos
    hasher = weakly(retention=0.0).fit(X, tags, labels=labels)
    plain = weakly().fit(X, tags).estimator_
    plain.train_network(X, plain.make_targets(labels, len(X))[0], plain.make_loss())
    np.testing.assert_array_equal(hasher.decision_function(X), plain.decision_function(X))


def test_each_stage_has_its_own_history(photos):
    X, tags, labels = photos
    hasher = weakly(DSHHasher(8, max_epochs=3), max_epochs=5).fit(X, tags, labels=labels)
    assert len(hasher.history_) == 5
    assert hasher.estimator_.n_iter_ == 3
    assert type(hasher.estimator_.loss_).__name__ == "DSHLoss"
    assert weakly().fit(X, tags).estimator_.loss_ is None  # it has a sem-vector for every image


@pytest.mark.parametrize("hasher", [KSHHasher, DRSCHHasher])
@pytest.mark.parametrize("hidden_layers", [(), (12,)])
def test_every_deep_hasher_can_be_wrapped(photos, hasher, hidden_layers):
    X, tags, labels = photos
    estimator = hasher(8, max_epochs=5, batch_size=32, hidden_layers=hidden_layers)
    codes = [
        weakly(estimator).fit(X, tags, labels=given).transform(X)
        for given in (None, some_of(labels, 60))
    ]
    assert codes[0].shape == codes[1].shape == (240, 8)
    assert (codes[0] != codes[1]).any()


class ClassifierLoss(nn.Module):
    """Labels from outputs by a linear map, learned along."""

    def __init__(self, n_bits, n_labels, sharpness):
        super().__init__()
        self.linear = nn.Linear(n_bits, n_labels)
        self.sharpness = sharpness

    def forward(self, outputs, labels):
        logits = self.linear(torch.tanh(self.sharpness * outputs))
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)


class ClassifierHasher(DeepHasher):
    """What a third party writes: parameters of its own, and a loss."""

    def __init__(self, n_bits=8, *, sharpness=1.0, **network):
        super().__init__(n_bits, **network)
        self.sharpness = sharpness

    def make_loss(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ClassifierLoss(self.n_bits, N_CONCEPTS, self.sharpness)


def test_a_hasher_of_a_third_party_plugs_in():
    X, tags, labels = plant(400, noise=0.6)
    estimator = ClassifierHasher(sharpness=2.0, max_epochs=30, batch_size=32, lr=0.01)
    first = weakly(estimator).fit(X, tags)
    second = weakly(estimator, retention=1e-4).fit(X, tags, labels=labels)
    assert isinstance(second.estimator_, ClassifierHasher)
    assert isinstance(second.estimator_.loss_, ClassifierLoss)
    assert second.estimator_.loss_.sharpness == 2.0
    assert second.estimator_.objective_[-1] < second.estimator_.objective_[0]
    assert precision(second) > precision(first) > precision(ITQ(8, random_state=0).fit(X))


class Blocks(nn.Module):
    """The mean colour of each quarter of an image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 4, 4)

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(self.conv(x), 1).flatten(1)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_images_enter_both_stages(rng, trainable):
    labels = np.arange(40) % 2
    images = rng.integers(0, 120, (40, 8, 8, 3))
    images[np.arange(40), :, :, labels] += 100
    tags = [[f"word{label}-0"] for label in labels]
    torch.manual_seed(0)
    estimator = DSHHasher(
        4, backbone=Blocks(), image_size=8, trainable=trainable, max_epochs=5, batch_size=10
    )
    before = [p.detach().clone() for p in estimator.backbone.parameters()]
    hasher = weakly(estimator, batch_size=10).set_params(semantic_space__n_components=2)
    hasher.fit(images.astype(np.uint8), tags, labels=some_of(labels, 10))
    assert hasher.score(images.astype(np.uint8), labels=labels) > 0.95
    after = list(hasher.estimator_.backbone_.net.parameters())
    moved = any((a != b).any() for a, b in zip(after, before, strict=True))
    assert moved == (trainable == "all")


# --------------------------------------------------------------- scikit-learn's conventions


@pytest.mark.parametrize(
    "grid",
    [
        {"beta": [1e-3, 0.1], "delta": [0.5, 1.0]},
        {"estimator__n_bits": [2, 8], "estimator__lr": [1e-3, 1e-2]},
    ],
    ids=["own", "estimator"],
)
def test_grid_search_routes_labels(photos, metadata_routing, grid):
    X, tags, labels = photos
    few = some_of(labels, 240)
    hasher = weakly(DSHHasher(8, max_epochs=3), max_epochs=3)
    hasher.set_fit_request(labels=True).set_score_request(labels=True)
    search = GridSearchCV(hasher, grid, cv=2, error_score="raise").fit(X, tags, labels=few)
    for i, params in enumerate(search.cv_results_["params"]):
        train, test = np.arange(120, 240), np.arange(120)
        expected = clone(hasher).set_params(**params)
        expected.fit(X[train], [tags[j] for j in train], labels=[few[j] for j in train])
        assert search.cv_results_["split0_test_score"][i] == pytest.approx(
            expected.score(X[test], labels=labels[test])
        )
    assert search.best_estimator_.estimator_.history_  # refitted, with both stages
    assert type(search.best_estimator_.estimator_.loss_).__name__ == "DSHLoss"


def test_number_of_bits_and_names_are_the_estimators(photos):
    X, tags, _ = photos
    hasher = weakly().set_params(estimator__n_bits=3).fit(X, tags)
    assert hasher.n_bits == hasher.transform(X).shape[1] == 3
    assert hasher.get_feature_names_out().tolist() == [
        f"weaklysupervisedhasher{bit}" for bit in range(3)
    ]
    assert hasher.n_features_in_ == N_FEATURES


def test_the_given_estimator_and_space_stay_as_they_are(photos):
    X, tags, labels = photos
    hasher = weakly().fit(X, tags, labels=labels)
    for part, copy in (
        (hasher.estimator, hasher.estimator_),
        (hasher.semantic_space, hasher.semantic_space_),
    ):
        assert part is not copy
        assert part.random_state is None
        assert not [name for name in vars(part) if name.endswith("_")]


def test_what_stage_one_learns_does_not_depend_on_the_hasher(photos):
    """No tanh bends the outputs whose similarities are compared with those of sem-vectors."""
    X, tags, _ = photos
    dsh, ksh = (weakly(hasher(8, max_epochs=3)).fit(X, tags) for hasher in (DSHHasher, KSHHasher))
    np.testing.assert_array_equal(dsh.objective_, ksh.objective_)
    np.testing.assert_allclose(
        np.tanh(dsh.decision_function(X)), ksh.decision_function(X), atol=1e-6
    )


def test_a_frozen_space_is_used_as_it_is(photos):
    X, tags, _ = photos
    frozen = FrozenEstimator(space(random_state=0).fit(tags))
    hasher = weakly(semantic_space=frozen).fit(X, tags)
    assert hasher.semantic_space_ is frozen.estimator
    np.testing.assert_array_equal(hasher.transform(X), weakly().fit(X, tags).transform(X))
    half = weakly(semantic_space=frozen).fit(X[:120], tags[:120])
    assert half.semantic_space_ is frozen.estimator


def test_a_frozen_space_must_be_one_and_know_the_tags(photos):
    X, tags, _ = photos
    with pytest.raises(TypeError, match="FrozenEstimator, but not of a SemanticSpace"):
        weakly(semantic_space=FrozenEstimator(ITQ(4))).fit(X, tags)
    with pytest.raises(NotFittedError, match="SemanticSpace"):
        weakly(semantic_space=FrozenEstimator(space())).fit(X, tags)
    frozen = FrozenEstimator(space(random_state=0).fit(tags))
    with (
        pytest.warns(UserWarning, match="None of the tags"),
        pytest.raises(ValueError, match="y has no tag that the semantic space knows"),
    ):
        weakly(semantic_space=frozen).fit(X, [["other"], ["words"]] * 120)


def test_clones_and_pickles_and_repeats_give_the_same_codes(photos):
    X, tags, labels = photos
    hasher = weakly().fit(X, tags, labels=some_of(labels, 60))
    values = hasher.decision_function(X)
    again = clone(hasher).fit(X, tags, labels=some_of(labels, 60))
    np.testing.assert_array_equal(again.decision_function(X), values)
    np.testing.assert_array_equal(again.objective_, hasher.objective_)
    np.testing.assert_array_equal(hasher.fit(X, tags).transform(X), weakly().fit_transform(X, tags))
    pickled = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(pickled.decision_function(X), values)


def test_the_random_state_decides_unless_the_estimator_has_its_own(photos):
    X, tags, _ = photos
    fixed = DSHHasher(8, random_state=3)
    values = {seed: weakly(random_state=seed).fit(X, tags).decision_function(X) for seed in (0, 1)}
    assert (values[0] != values[1]).any()
    np.testing.assert_array_equal(
        *(
            weakly(fixed, random_state=seed)
            .set_params(semantic_space__random_state=0)
            .fit(X, tags)
            .decision_function(X)
            for seed in (0, 1)
        )
    )


class Interrupt(Callback):
    """Raises KeyboardInterrupt in the given epoch of a training of so many."""

    def __init__(self, epoch, max_epochs):
        self.epoch = epoch
        self.max_epochs = max_epochs

    def on_batch_end(self, net, **kwargs):
        if net.max_epochs == self.max_epochs and len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("epoch", "max_epochs"), [(4, 7), (3, 5)], ids=["tags", "labels"])
@pytest.mark.parametrize("memory_limit", [0, 1024])
def test_an_interrupted_fit_goes_on_to_the_same_codes(
    photos, tmp_path, epoch, max_epochs, memory_limit
):
    X, tags, labels = photos
    settings = {"max_epochs": 7, "memory_limit": memory_limit}
    few = some_of(labels, 80)
    folder = tmp_path / "state"
    unbroken = weakly(DSHHasher(8, max_epochs=5, batch_size=32), **settings)
    unbroken.fit(X, tags, labels=few)
    estimator = DSHHasher(8, max_epochs=5, batch_size=32, checkpoint=folder)
    interrupted = clone(estimator).set_params(callbacks=[Interrupt(epoch, max_epochs)])
    with pytest.raises(KeyboardInterrupt):
        weakly(interrupted, **settings).fit(X, tags, labels=few)
    stages = ["pre-training.pt"] if max_epochs == 7 else ["fine-tuning.pt", "pre-training.pt"]
    assert sorted(path.name for path in folder.iterdir()) == stages
    resumed = weakly(estimator, **settings).fit(X, tags, labels=few)
    np.testing.assert_array_equal(resumed.decision_function(X), unbroken.decision_function(X))
    np.testing.assert_array_equal(resumed.objective_, unbroken.objective_)
    with pytest.raises(ValueError, match="is of another training"):
        weakly(estimator, **settings, delta=2.0).fit(X, tags, labels=few)


@pytest.mark.parametrize("epoch", [3, 6, 7])
def test_large_sem_vectors_are_not_written_in_every_epoch(photos, tmp_path, epoch, monkeypatch):
    X, tags, _ = photos
    written = []
    save = HashNet.save_state

    def count(net):
        written.append(len(net.history))
        save(net)

    monkeypatch.setattr(HashNet, "save_state", count)
    settings = {"max_epochs": 8}
    unbroken = weakly(DSHHasher(8), **settings).fit(X, tags)
    assert written == list(range(1, 9))  # without a checkpoint nothing is written
    n_bytes = 4 * len(X) * unbroken.semantic_space_.n_components_
    monkeypatch.setattr(_joint, "_MOST_WRITTEN", n_bytes / 3)
    estimator = DSHHasher(8, checkpoint=tmp_path)
    written.clear()
    with pytest.raises(KeyboardInterrupt):
        interrupted = clone(estimator).set_params(callbacks=[Interrupt(epoch, 8)])
        weakly(interrupted, **settings).fit(X, tags)
    assert written == [3, 6][: (epoch - 1) // 3]
    resumed = weakly(estimator, **settings).fit(X, tags)
    assert written[-2:] == [6, 8]
    np.testing.assert_array_equal(resumed.decision_function(X), unbroken.decision_function(X))
    np.testing.assert_array_equal(resumed.objective_, unbroken.objective_)


def test_early_stopping_holds_out_images_of_both_stages(photos):
    X, tags, labels = photos
    estimator = DSHHasher(8, max_epochs=4, early_stopping=True, validation_fraction=0.2)
    hasher = weakly(estimator).fit(X, tags, labels=labels)
    for history in (hasher.history_, hasher.estimator_.history_):
        assert all(np.isfinite(row["valid_loss"]) for row in history)


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "refitted"])
@pytest.mark.parametrize("stage", ["tags", "labels"])
@pytest.mark.parametrize("how", ["interrupted", "diverged"])
def test_a_fit_that_does_not_end_leaves_nothing_fitted(photos, again, stage, how):
    X, tags, labels = photos
    hasher = weakly(DSHHasher(8, max_epochs=5, batch_size=32), max_epochs=7)
    if again:
        hasher.fit(X, tags, labels=labels).transform(X)
    if how == "interrupted":
        interrupt = Interrupt(2, 7 if stage == "tags" else 5)
        hasher.set_params(estimator__callbacks=[interrupt])
    else:
        hasher.set_params(**{"lr" if stage == "tags" else "estimator__lr": 1e30})
        hasher.set_params(estimator__optimizer="sgd")
    with pytest.raises((KeyboardInterrupt, FloatingPointError)) as caught:
        hasher.fit(X, tags, labels=labels)
    assert caught.type is (KeyboardInterrupt if how == "interrupted" else FloatingPointError)
    with pytest.raises(NotFittedError):
        hasher.transform(X)
    assert not [name for name in vars(hasher) if name.endswith("_")]


def test_more_epochs_of_stage_one_are_refused_and_of_stage_two_go_on(photos, tmp_path):
    X, tags, labels = photos

    def fit(max_epochs, n_fine, **params):
        estimator = DSHHasher(8, max_epochs=n_fine, batch_size=32, **params)
        return weakly(estimator, max_epochs=max_epochs).fit(X, tags, labels=labels)

    fit(3, 2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"pre-training\.pt.* another training .*max_epochs"):
        fit(5, 2, checkpoint=tmp_path)
    longer, at_once = fit(3, 4, checkpoint=tmp_path), fit(3, 4)
    np.testing.assert_array_equal(longer.decision_function(X), at_once.decision_function(X))


def test_fits_in_threads_give_what_each_gives_alone(photos):
    X, tags, labels = photos

    def of(seed):
        # The default coder, which draws dictionaries, and a space of vectors learned in fit.
        own = SemanticSpace(8, vector_size=8, epochs=5)
        hidden = DSHHasher(8, hidden_layers=(16,), max_epochs=3, batch_size=32)
        hasher = weakly(hidden, semantic_space=own, random_state=seed, max_epochs=3)

        def fit():
            _SPACES.clear()
            fitted = clone(hasher).fit(X, tags, labels=some_of(labels, 120))
            return fitted.decision_function(X)

        return fit

    fits = [of(seed) for seed in (0, 1, 2)]
    alone = [fit() for fit in fits]
    for values, expected in zip(in_threads(*fits), alone, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_a_grid_search_in_threads_gives_the_same_scores(photos, metadata_routing):
    X, tags, labels = photos
    few = some_of(labels, 240)
    hasher = weakly(DSHHasher(4, hidden_layers=(16,), max_epochs=3), max_epochs=3)
    hasher.set_fit_request(labels=True).set_score_request(labels=True)
    grid = {"beta": [1e-3, 0.1]}
    scores = []
    for n_jobs in (1, 2):
        _SPACES.clear()
        with joblib.parallel_backend("threading"):
            search = GridSearchCV(
                hasher, grid, cv=2, n_jobs=n_jobs, error_score="raise", refit=False
            )
            scores.append(search.fit(X, tags, labels=few).cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*scores)
    assert len(set(scores[0])) > 1


def test_no_fit_draws_from_or_seeds_a_global_generator(photos):
    X, tags, labels = photos
    # A space that is fitted: scikit-learn's Lasso draws a seed that it makes no use of.
    frozen = FrozenEstimator(space(random_state=0).fit(encode_tags(tags)))
    hasher = weakly(DSHHasher(8, max_epochs=3, early_stopping=True), semantic_space=frozen)
    with global_generators_left_alone():
        hasher.fit(X, tags, labels=labels)


@pytest.fixture
def space_fits(monkeypatch):
    """The number of tags of every space that has been fitted."""
    sizes = []

    def fit(self, y, *args, **kwargs):
        sizes.append(len(y.vocabulary))
        return fit_space(self, y, *args, **kwargs)

    fit_space = SemanticSpace.fit
    monkeypatch.setattr(SemanticSpace, "fit", fit)
    _SPACES.clear()
    return sizes


def test_equal_spaces_of_equal_tags_are_fitted_once(photos, space_fits):
    X, tags, _ = photos
    hasher = weakly(DSHHasher(4, max_epochs=1), max_epochs=1)
    folds = [(np.arange(120), np.arange(120, 240)), (np.arange(60, 240), np.arange(60))]
    grid = {"beta": [1e-3, 1e-2, 0.1], "estimator__n_bits": [4, 8]}
    search = GridSearchCV(
        hasher, grid, cv=folds, refit=False, error_score="raise",
        scoring=lambda fitted, X, y: fitted.decision_function(X).std(),
    ).fit(X, tags)  # fmt: skip
    assert len(search.cv_results_["params"]) == 6
    assert len(space_fits) == 2


def test_other_spaces_and_other_tags_are_fitted_anew(photos, space_fits):
    X, tags, _ = photos
    hasher = weakly(DSHHasher(4, max_epochs=1), max_epochs=1)
    hasher.fit(X, tags)
    clone(hasher).set_params(delta=0.5, verbose=1).fit(X, tags)
    assert len(space_fits) == 1
    other = tags[:-1] + [["word0-0", "word1-1"]]
    assert tags[-1] != other[-1]
    for n, (changed, params) in enumerate([
        (other, {}),
        (tags, {"random_state": 1}),
        (tags, {"semantic_space__density": 0.3}),
        (tags, {"semantic_space__embedding": {k: -v for k, v in word_vectors().items()}}),
    ], 2):  # fmt: skip
        clone(hasher).set_params(**params).fit(X, changed)
        assert len(space_fits) == n
    for _ in range(2):  # nothing says that they are to be equal
        clone(hasher).set_params(random_state=None).fit(X, tags)
    assert len(space_fits) == n + 2


def test_a_space_that_is_fitted_again_is_not_handed_out_to_others(photos, space_fits):
    X, tags, _ = photos
    hasher = weakly(DSHHasher(4, max_epochs=1), max_epochs=1).fit(X, tags)
    values = hasher.decision_function(X)
    hasher.semantic_space_.set_params(density=0.5).fit(encode_tags(tags[:60]))
    again = clone(hasher).fit(X, tags)
    assert again.semantic_space_.density == 0.2
    np.testing.assert_array_equal(again.decision_function(X), values)


def test_the_stages_are_told_on_request(photos, capsys):
    X, tags, labels = photos
    hasher = weakly(DSHHasher(4, max_epochs=2), max_epochs=3).fit(X, tags, labels=labels)
    assert capsys.readouterr().out == ""
    hasher.set_params(verbose=1).fit(X, tags, labels=some_of(labels, 50))
    out = capsys.readouterr().out
    told = [
        f"[WeaklySupervisedHasher] semantic space of {len(WORDS + NOISE)} tags",
        "[WeaklySupervisedHasher] start of stage one: the head learns to predict sem-vectors",
        "[WeaklySupervisedHasher] stage one: 240 images and their tags",
        "[WeaklySupervisedHasher] stage two: 50 images and their labels",
    ]
    assert [line for line in out.splitlines() if line.startswith("[")] == told
    first, second = out.split(told[3])
    epochs = [re.findall(r"^ +(\d+) +\S*\d\.\d+", part, re.M) for part in (first, second)]
    assert epochs == [["1", "2", "3"], ["1", "2"]]
    hasher.fit(X, tags)
    assert "stage two" not in capsys.readouterr().out


FULL = """
    import resource, sys, tempfile
    sys.path.insert(0, {tests!r})
    from test_weakly import plant, weakly

    X, tags, _ = plant(8000)
    tempfile.tempdir = {folder!r}
    hasher = weakly(memory_limit=0, max_epochs=1)
    {limit}
    try:
        hasher.fit(X, tags)
    except OSError as error:
        print("OSError:", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["limit", "disk"])
def test_a_disk_without_room_for_the_sem_vectors_is_an_error(tmp_path, how):
    """8,000 of 8 numbers of 2 bytes; a memory map without that room would end in SIGBUS."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))" if how == "limit" else ""
    script = FULL.format(tests=os.path.dirname(__file__), folder=str(tmp_path), limit=limit)
    command = [sys.executable, "-c", textwrap.dedent(script)]
    if how == "disk":
        mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        if (
            not shutil.which("unshare")
            or subprocess.run([*namespace, mount], check=False).returncode
        ):
            pytest.skip("needs to mount a small disk")
        command = [*namespace, f"{mount} && exec {shlex.join(command)}"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert re.match(r"OSError: .*no room for a file of .* MiB .*free some space", run.stdout)
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------- errors

BAD_FITS = {
    "no-y": ({"y": None}, ValueError, "requires y to be passed"),
    "no-tags": ({"y": [[]] * 240}, ValueError, "y has no tags at all"),
    "one-tag": ({"y": [["word0-0"]] * 240}, ValueError, "y cannot be learned from: .*two tags"),
    "unknown": ({"y": [["a"], ["b"]] * 120}, ValueError, "y cannot be .* knows none of the 2 tags"),
    "short-y": ({"y": [["word0-0"]] * 239}, ValueError, "y has 239 rows, expected 240"),
    "a-str": ({"y": "sea"}, TypeError, "y must be"),
    "short-labels": ({"labels": [0] * 239}, ValueError, "labels has 239 rows, expected 240"),
    "bad-labels": ({"labels": np.full((240, 2), 0.5)}, ValueError, "labels .*only 0 and 1"),
    "one-label": (
        {"labels": [["a"]] + [[]] * 239},
        ValueError,
        "labels has labels for 1 sample",
    ),
    "same-label": (
        {"labels": ["a"] * 240},
        ValueError,
        "labels has a label that all labelled samples",
    ),
    "nan": ({"X": np.full((240, 3), np.nan)}, ValueError, "X contains NaN"),
    "no-X": ({"X": None}, ValueError, "X must be"),
    "constant-X": ({"X": np.ones((240, 3))}, ValueError, "X has features that do not vary"),
}


@pytest.mark.parametrize(("change", "error", "match"), BAD_FITS.values(), ids=BAD_FITS)
def test_bad_input_is_refused_by_name(photos, change, error, match):
    X, tags, _ = photos
    with pytest.raises(error, match=f"(?s){match}"):
        weakly().fit(**{"X": X, "y": tags, **change})


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"estimator": ITQ(8)}, "'estimator' parameter .* instance of .*DeepHasher"),
        ({"estimator": DSHHasher}, "'estimator' parameter"),
        ({"semantic_space": ITQ(8)}, "'semantic_space' parameter"),
        ({"beta": -1}, "'beta' parameter"),
        ({"delta": 0}, "'delta' parameter"),
        ({"semantic_step": 1.5}, "'semantic_step' parameter"),
        ({"retention": -0.1}, "'retention' parameter"),
        ({"memory_limit": -1}, "'memory_limit' parameter"),
        ({"batch_size": 1}, "'batch_size' parameter"),
        ({"estimator__n_bits": 0}, "'n_bits' parameter of DSHHasher"),
        ({"semantic_space__density": 2.0}, "'density' parameter of SemanticSpace"),
        ({"estimator__checkpoint": "x", "random_state": None}, "checkpoint needs an integer"),
    ],
)
def test_bad_parameters_are_refused_by_name(photos, params, match):
    X, tags, _ = photos
    with pytest.raises(ValueError, match=match):
        weakly().set_params(**params).fit(X, tags)


def test_labels_are_checked_before_anything_is_trained(photos):
    X, tags, labels = photos
    hasher = weakly()
    with pytest.raises(ValueError, match="labels"):
        hasher.fit(X, tags, labels=labels[:-1])
    assert not hasattr(hasher, "objective_")


def test_an_unfitted_hasher_says_so(photos):
    with pytest.raises(NotFittedError):
        weakly().transform(photos[0])
    assert not hasattr(weakly(), "n_features_in_")
