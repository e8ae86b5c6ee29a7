"""SADH: the code solver against brute force and planted clusters, then its two hashers."""

from itertools import pairwise

import numpy as np
import pytest
from _photos import rendered_photos
from scipy.optimize import approx_fprime
from sklearn.base import clone

from skhash import ITQ, SADHHasher, SADHLinear
from skhash._ridge import RidgePath
from skhash.codes import missing_rows
from skhash.graphs import anchor_graph
from skhash.metrics import leave_one_out_map
from skhash.unsupervised import _admm, _sadh
from skhash.unsupervised._admm import smooth_codes, smoothness, to_sphere


class Affinity:
    """A dense affinity as an operator, so that tests may choose any."""

    def __init__(self, S):
        self.S = S

    def __matmul__(self, M):
        return self.S @ M


def random_codes(rng, *shape):
    return rng.choice([-1.0, 1.0], shape)


def doubly_stochastic(rng, n):
    """A symmetric affinity with rows that sum to 1."""
    return sum(np.eye(n)[p] + np.eye(n)[p].T for p in [rng.permutation(n) for _ in range(5)]) / 10


def parts(B, graph):
    """Smoothness, imbalance and correlation of codes, each 0 at best."""
    n, r = B.shape
    return (
        np.vdot(B, B - graph @ B) / (n * r),
        np.square(B.mean(axis=0)).mean(),
        np.square(B.T @ B / n - np.eye(r)).sum() / r,
    )


@pytest.fixture(scope="module")
def photos():
    return rendered_photos(400)


# -------------------------------------------------------------------------- the solver


def test_the_objective_is_its_definition(rng):
    n, r = 12, 4
    B, S = rng.normal(size=(n, r)), doubly_stochastic(rng, n)
    pairs = sum(
        S[i, j] * np.square(B[i] - B[j]).sum() for i in range(n) for j in range(n)
    )  # tr(B'(I - S)B) = 1/2 sum_ij S_ij ||b_i - b_j||^2 where rows of S sum to 1
    expected = pairs / 2 + 3 / n * np.square(B.sum(axis=0)).sum()
    expected += 7 / n * np.square(B.T @ B - n * np.eye(r)).sum()
    assert smoothness(B, Affinity(S), 3, 7)[0] == pytest.approx(expected)


@pytest.mark.parametrize("weights", [(0, 0), (2, 0), (0, 2), (5, 5)])
def test_the_gradient_is_that_of_finite_differences(rng, weights):
    B, graph = rng.normal(size=(9, 3)), Affinity(doubly_stochastic(rng, 9))
    _, gradient = smoothness(B, graph, *weights)
    numeric = approx_fprime(B.ravel(), lambda b: smoothness(b.reshape(9, 3), graph, *weights)[0])
    np.testing.assert_allclose(gradient.ravel(), numeric, rtol=1e-4, atol=1e-4)


def test_weights_mean_the_same_for_any_number_of_samples(rng):
    B, S = rng.normal(size=(10, 3)), doubly_stochastic(rng, 10)
    once, _ = smoothness(B, Affinity(S), 2, 3)
    # Three copies of everything, each tied to its own.
    thrice, _ = smoothness(np.tile(B, (3, 1)), Affinity(np.kron(np.eye(3), S)), 2, 3)
    assert thrice == pytest.approx(3 * once)


def test_the_sphere_is_the_one_through_the_corners_of_the_box(rng):
    M = rng.normal(size=(6, 4))
    on_sphere = to_sphere(M)
    assert np.linalg.norm(on_sphere) == pytest.approx(np.linalg.norm(random_codes(rng, 6, 4)))
    for _ in range(100):  # no other point of it is nearer
        other = to_sphere(on_sphere + 0.3 * rng.normal(size=M.shape))
        assert np.linalg.norm(M - other) >= np.linalg.norm(M - on_sphere) - 1e-12
    assert not to_sphere(np.zeros((2, 2))).any()


def test_its_steps_are_those_of_the_augmented_lagrangian(rng, monkeypatch):
    """Each against the function written out, until both multipliers and targets differ."""
    n, r, rho, step, n_steps = 15, 3, 0.4, 0.3, 4
    start, graph = random_codes(rng, n, r), Affinity(doubly_stochastic(rng, n))
    calls = []
    minimize = _admm.minimize

    def keep(function, x0, **kwargs):
        calls.append((function, x0.reshape(n, r), minimize(function, x0, **kwargs)))
        return calls[-1][-1]

    monkeypatch.setattr(_admm, "minimize", keep)
    settings = {"admm_penalty": rho, "dual_step": step, "bit_balance": 2, "decorrelation": 0.5}
    codes, objective = smooth_codes(start, graph, max_iter=n_steps, tol=0, **settings)
    assert len(calls) == len(objective) == n_steps
    B, Y1, Y2 = start, np.zeros((n, r)), np.zeros((n, r))
    for k, (function, x0, solved) in enumerate(calls):
        np.testing.assert_array_equal(x0, B)
        Z1, Z2 = np.clip(B + Y1 / rho, -1, 1), to_sphere(B + Y2 / rho)
        terms = ((Y1, Z1), (Y2, Z2))

        def lagrangian(B, terms=terms):
            value, _ = smoothness(B, graph, 2, 0.5)
            for Y, Z in terms:
                value += np.vdot(Y, B - Z) + rho / 2 * np.square(B - Z).sum()
            return value

        points = [rng.normal(size=(n, r)) for _ in range(4)]
        constant = lagrangian(points[0]) - function(points[0].ravel())[0]
        for point in points:  # equal but for a constant
            assert function(point.ravel())[0] + constant == pytest.approx(lagrangian(point))
        gradient = function(points[0].ravel())[1]
        numeric = approx_fprime(points[0].ravel(), lambda b: lagrangian(b.reshape(n, r)))
        np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)
        B = solved.x.reshape(n, r)
        assert lagrangian(B) < lagrangian(x0)
        assert objective[k] == pytest.approx(smoothness(B, graph, 2, 0.5)[0])
        Y1, Y2 = Y1 + step * (B - Z1), Y2 + step * (B - Z2)
    assert np.abs(Y1 - Y2).max() > 0.01  # else the targets could stand for each other
    np.testing.assert_array_equal(codes, np.where(B >= 0, 1, -1))


def test_codes_become_smoother_more_balanced_and_less_correlated(rng):
    X = rng.normal(size=(300, 6)) * [3, 2, 1, 1, 1, 1]
    graph = anchor_graph(X, 40, random_state=0)
    start = np.where(rng.normal(size=(300, 5)) + 0.7 + rng.normal(size=(300, 1)) >= 0, 1.0, -1.0)
    solved, objective = smooth_codes(start, graph)
    assert set(np.unique(solved)) == {-1, 1}
    for after, before in zip(parts(solved, graph), parts(start, graph), strict=True):
        assert after < 0.5 * before
    assert objective[-1] < smoothness(start, graph, 5, 5)[0]
    assert smoothness(solved, graph, 5, 5)[0] < smoothness(start, graph, 5, 5)[0]


@pytest.mark.parametrize(("name", "part"), [("bit_balance", 1), ("decorrelation", 2)])
def test_a_weight_brings_down_what_it_weighs(rng, name, part):
    X = rng.normal(size=(300, 6)) + 2 * (np.arange(300) % 10 == 0)[:, None]
    graph = anchor_graph(X, 40, random_state=0)
    start = random_codes(rng, 300, 5)
    weak, strong = (
        smooth_codes(start, graph, **{"bit_balance": 1, "decorrelation": 1, name: weight})[0]
        for weight in (0.02, 10)
    )
    assert parts(strong, graph)[part] < parts(weak, graph)[part]


def test_planted_clusters_get_one_code_each(rng):
    clusters = np.arange(240) % 4
    X = 6 * np.eye(4)[clusters] + 0.3 * rng.normal(size=(240, 4))
    graph = anchor_graph(X, 4, n_neighbors=1, max_iter=20, random_state=1)
    assert len(np.unique(graph.similarities.toarray(), axis=0)) == 4
    # A balanced, uncorrelated code of the clusters, of which a fifth of the bits is wrong.
    truth = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]])[clusters]
    start = np.where(rng.random(truth.shape) < 0.2, -truth, truth)
    solved, _ = smooth_codes(start, graph)
    np.testing.assert_array_equal(solved, truth)


def test_a_relaxed_code_of_0_is_bit_1(rng):
    codes, _ = smooth_codes(np.zeros((4, 2)), Affinity(np.eye(4)), max_iter=0)
    assert (codes == 1).all()


def test_it_stops_at_the_tolerance_or_at_once(rng):
    start, graph = random_codes(rng, 30, 3), Affinity(doubly_stochastic(rng, 30))
    assert len(smooth_codes(start, graph, tol=1e9)[1]) == 1
    assert len(smooth_codes(start, graph, tol=0, max_iter=7)[1]) == 7
    kept, objective = smooth_codes(start, graph, max_iter=0)
    np.testing.assert_array_equal(kept, start)
    assert objective.shape == (0,)


@pytest.mark.parametrize("tol", [0.1, 0.01])
def test_it_stops_at_the_first_relative_change_within_the_tolerance(rng, monkeypatch, tol):
    start, graph = random_codes(rng, 30, 3), Affinity(doubly_stochastic(rng, 30))
    iterates = [start.ravel()]
    minimize = _admm.minimize

    def keep(*args, **kwargs):
        solved = minimize(*args, **kwargs)
        iterates.append(solved.x)
        return solved

    monkeypatch.setattr(_admm, "minimize", keep)
    smooth_codes(start, graph, tol=tol, max_iter=200)
    changes = [
        np.linalg.norm(after - before) / np.linalg.norm(before)
        for before, after in pairwise(iterates)
    ]
    assert 1 < len(changes) < 200
    assert changes[-1] <= tol
    assert all(change > tol for change in changes[:-1])


# ------------------------------------------------------------------- linear functions


def test_the_linear_form_is_itq_smoothing_and_ridge(photos):
    X = photos.X
    hasher = SADHLinear(8, n_anchors=50, ridge=0.3, random_state=0).fit(X)
    rng = np.random.RandomState(0)
    start = 2.0 * ITQ(8, random_state=rng).fit_transform(X) - 1
    codes, objective = smooth_codes(start, anchor_graph(X, 50, random_state=rng))
    np.testing.assert_array_equal(hasher.codes_, codes > 0)
    np.testing.assert_allclose(hasher.objective_, objective)
    coef, intercept, _ = RidgePath(X).fit(codes, 0.3)
    np.testing.assert_allclose(hasher.coef_, coef)
    np.testing.assert_allclose(hasher.intercept_, intercept)
    assert hasher.n_iter_ == len(objective)
    assert hasher.ridge_ == 0.3


def test_without_iterations_it_regresses_the_codes_of_itq(photos):
    hasher = SADHLinear(8, max_iter=0, random_state=0).fit(photos.X)
    np.testing.assert_array_equal(hasher.codes_, ITQ(8, random_state=0).fit_transform(photos.X))
    assert hasher.n_iter_ == 0


def test_it_reports_its_iterations(photos, capsys):
    SADHLinear(4, max_iter=3, tol=0, verbose=1, random_state=0).fit(photos.X)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"[SADHLinear] iteration {i}" for i in (1, 2, 3)
    ]


@pytest.mark.parametrize("hasher_class", [SADHLinear, SADHHasher])
def test_photos_of_a_kind_get_similar_codes(photos, hasher_class):
    X, labels = photos.X, photos.labels
    hasher = hasher_class(16, n_anchors=50, random_state=0).fit(X[:300])
    random = np.random.default_rng(0).integers(0, 2, (100, 16), dtype=np.uint8)
    chance = leave_one_out_map(random, labels[300:])
    assert hasher.score(X[300:], labels=labels[300:]) > chance + 0.05


@pytest.mark.parametrize("hasher_class", [SADHLinear, SADHHasher])
@pytest.mark.parametrize(
    "params",
    [
        {"n_anchors": 0},
        {"bit_balance": -1},
        {"decorrelation": -1},
        {"admm_penalty": 0},
        {"max_iter": -1},
    ],
)
def test_bad_parameters_are_named(photos, hasher_class, params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        hasher_class(4, **params).fit(photos.X)


# ------------------------------------------------------------------------- the network


def test_the_first_round_learns_the_codes_of_the_linear_form(photos):
    settings = {"n_anchors": 50, "max_iter": 20, "tol": 0}
    hasher = SADHHasher(
        8, n_rounds=1, max_epochs=199, lr=0.02, weight_decay=0, random_state=0, **settings
    )
    hasher.fit(photos.X)
    linear = SADHLinear(8, random_state=np.random.RandomState(hasher._seed), **settings)
    np.testing.assert_array_equal(hasher.codes_, linear.fit(photos.X).codes_)
    assert (hasher.transform(photos.X) == hasher.codes_).mean() > 0.9
    assert hasher.history_[-1]["train_loss"] < hasher.history_[0]["train_loss"]


def test_later_graphs_are_of_the_outputs_of_the_network(photos, monkeypatch):
    seen, outputs = [], []
    graph = _sadh.SADHHasher._graph
    training_outputs = SADHHasher.training_outputs

    def keep_features(self, X, random_state):
        seen.append(X)
        return graph(self, X, random_state)

    def keep_outputs(*args, **kwargs):
        outputs.append(training_outputs(*args, **kwargs))
        return outputs[-1]

    monkeypatch.setattr(_sadh.SADHHasher, "_graph", keep_features)
    monkeypatch.setattr(SADHHasher, "training_outputs", keep_outputs)
    hasher = SADHHasher(4, n_rounds=3, n_anchors=30, max_epochs=2, max_iter=5, random_state=0)
    hasher.fit(photos.X)
    np.testing.assert_array_equal(seen[0], photos.X.astype(np.float32))
    for used, output in zip(seen[1:], outputs, strict=True):
        assert used is output
        assert np.abs(output).max() <= 1  # through tanh
    assert [row["round"] for row in hasher.history_] == [1, 1, 2, 2, 3, 3]
    assert hasher.objective_.shape == (hasher.n_iter_,)


def test_a_stopped_training_is_resumed(photos, tmp_path):
    settings = {"n_anchors": 30, "max_epochs": 3, "max_iter": 5, "random_state": 0}
    whole = SADHHasher(4, **settings).fit(photos.X)
    hasher = SADHHasher(4, checkpoint=tmp_path, **settings)

    train = SADHHasher.train_network

    def fail_in_round_two(self, *args, stage, **kwargs):
        if stage == "round-2":
            raise KeyboardInterrupt
        train(self, *args, stage=stage, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SADHHasher, "train_network", fail_in_round_two)
        with pytest.raises(KeyboardInterrupt):
            clone(hasher).fit(photos.X)
    assert [file.name for file in tmp_path.iterdir()] == ["round-1.pt"]
    hasher.fit(photos.X)
    np.testing.assert_array_equal(
        hasher.decision_function(photos.X), whole.decision_function(photos.X)
    )
    assert {file.name for file in tmp_path.iterdir()} == {"round-1.pt", "round-2.pt"}


def test_an_unreadable_image_takes_no_part(rng, tmp_path):
    from PIL import Image
    from torch import nn

    images = rng.integers(0, 256, (13, 16, 16, 3), dtype=np.uint8)
    files = []
    for i, image in enumerate(images):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    files[5].write_bytes(b"nothing")
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for trainable in ("head", "all"):
        hasher = SADHHasher(
            2, backbone=network, image_size=16, trainable=trainable, on_error="skip",
            n_anchors=4, max_epochs=2, random_state=0,
        )  # fmt: skip
        with pytest.warns(UserWarning, match=r"5\.png"):
            hasher.fit(files)
        assert hasher.skipped_.tolist() == [5]
        assert hasher.codes_.shape == (13, 2)
        assert np.flatnonzero(missing_rows(hasher.codes_)).tolist() == [5]
