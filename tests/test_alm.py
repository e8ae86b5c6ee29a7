"""The optimiser of DSTDH against a transcription of its equations with n x n matrices.

The transcription works in float64 and in the paper's orientation, one column per image, and
follows the order of the authors' program: P, A, B, Z, multipliers.
"""

from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from skhash.dstdh import _alm
from skhash.dstdh._alm import (
    _RIDGE,
    DiscreteALM,
    TagRegression,
    _conjugate_gradients,
    signs,
)
from skhash.graphs import anchor_graph, concept_hypergraph

ALPHA, BETA, NU, MU, RHO = 0.02, 0.01, 0.05, 0.3, 1.2


def make_problem(rng, n_samples=30, n_bits=4, n_tags=9):
    """Codes to start from, tags, both graphs and outputs of a network."""
    X = rng.normal(size=(n_samples, 5))
    tags = sp.csr_array((rng.random((n_samples, n_tags)) < 0.3).astype(np.float32))
    return SimpleNamespace(
        codes=signs(rng.normal(size=(n_samples, n_bits))),
        tags=tags,
        visual=anchor_graph(X, 7, random_state=0),
        conceptual=concept_hypergraph(X, tags, 6, random_state=0),
        phi=rng.uniform(-1, 1, size=(n_samples, n_bits)).astype(np.float32),
    )


@pytest.fixture
def problem(rng):
    return make_problem(rng)


def make_solver(problem, **changes):
    arguments = {"alpha": ALPHA, "beta": BETA, "nu": NU, "mu": MU, "rho": RHO, **vars(problem)}
    del arguments["phi"]
    return DiscreteALM(**{**arguments, **changes})


def dense(graph, deflate=False):
    S = graph @ np.eye(graph.shape[0])
    return S - np.outer(graph.trivial, graph.trivial) if deflate else S


def l21(M, grouping):
    """The l2,1 norm of an r x n matrix: its rows are the bits."""
    return np.linalg.norm(M, axis={"bit": 1, "sample": 0}[grouping]).sum()


def loss(A, w=1.0, shrinkage="bit", denoise=True):
    return w * (l21(A, shrinkage) if denoise else np.square(A).sum())


class Transcription:
    """Equations 14 to 24 with S_v and S_h in full; matrices are r x n as in the paper."""

    def __init__(
        self,
        problem,
        *,
        alpha=ALPHA,
        beta=BETA,
        nu=NU,
        mu=MU,
        rho=RHO,
        tag_weight=1.0,
        shrinkage="bit",
        denoise=True,
        discrete=True,
        deflate=False,
        direct=True,
    ):
        self.Z = problem.codes.T.astype(float)
        self.Y = problem.tags.T.toarray().astype(float)
        self.S = alpha * dense(problem.visual, deflate) + beta * dense(problem.conceptual, deflate)
        self.phi = problem.phi.T.astype(float)
        self.A, self.EA, self.EB = (np.zeros_like(self.Z) for _ in range(3))
        self.nu, self.mu, self.rho, self.w = nu, mu, rho, tag_weight
        self.shrinkage, self.denoise, self.discrete = shrinkage, denoise, discrete
        self.direct = direct

    def step(self):
        Y, Z, mu, w = self.Y, self.Z, self.mu, self.w
        if self.direct:
            YY = Y @ Y.T + _RIDGE * np.eye(len(Y))
            self.P = np.linalg.inv(YY) @ Y @ (Z - self.A + self.EA / mu).T  # Eq. 18
            PY = self.P.T @ Y
            T = Z - PY + self.EA / mu
            if self.denoise:  # Eq. 16
                groups = T if self.shrinkage == "bit" else T.T
                groups = np.array(
                    [
                        (np.linalg.norm(t) - w / mu) / np.linalg.norm(t) * t
                        if w / mu < np.linalg.norm(t)
                        else 0 * t
                        for t in groups
                    ]
                )
                self.A = groups if self.shrinkage == "bit" else groups.T
            else:
                self.A = mu * T / (mu + 2 * w)
        B = Z + self.EB / mu + Z @ self.S / mu  # Eq. 20
        argument = mu * B - self.EB + B @ self.S + 2 * self.nu * self.phi  # Eq. 23
        if self.direct:
            argument += mu * self.A + mu * PY - self.EA
        if self.discrete:
            self.Z = np.where(argument >= 0, 1.0, -1.0)
        else:
            self.Z = argument / np.abs(argument).mean()
        if self.direct:
            self.EA += mu * (self.Z - PY - self.A)  # Eq. 24
        self.EB += mu * (self.Z - B)
        self.mu *= self.rho

    def codes(self):
        """Z, or where it is relaxed its signs about the mean of each bit."""
        if self.discrete:
            return self.Z
        return np.where(self.Z - self.Z.mean(axis=1, keepdims=True) >= 0, 1, -1)

    def objective(self):
        """Eq. 12."""
        value = -np.trace(self.Z @ self.S @ self.Z.T) + self.nu * np.square(self.phi - self.Z).sum()
        if self.direct:
            residual = self.Z - self.P.T @ self.Y
            value += loss(residual, self.w, self.shrinkage, self.denoise)
        return value


# ---------------------------------------------------------- the algorithm as it is printed

SWITCHES = {
    "paper": {},
    "sample": {"shrinkage": "sample", "tag_weight": 0.3},
    "not-denoised": {"denoise": False},
    "relaxed": {"discrete": False},
    "relaxed-sample": {"discrete": False, "shrinkage": "sample", "tag_weight": 0.3},
    "balanced": {"deflate": True},
    "not-direct": {"direct": False},
    "not-indirect": {"beta": 0.0},
    "not-visual": {"alpha": 0.0},
    "no-network": {"nu": 0.0},
    "tag-weight": {"tag_weight": 0.3},
    "tag-weight-frobenius": {"tag_weight": 0.3, "denoise": False},
    "large-penalty": {"mu": 3.0},
    "constant-penalty": {"rho": 1.0},
    "all": {"shrinkage": "sample", "deflate": True, "discrete": False, "tag_weight": 0.2},
}


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_takes_the_steps_of_the_equations(switches, seed):
    problem = make_problem(np.random.default_rng(seed))
    reference = Transcription(problem, **switches)
    arguments = dict(switches)
    if not arguments.pop("direct", True):
        arguments["tags"] = None
    solver = make_solver(problem, **arguments)
    for _ in range(6):
        reference.step()
        assert solver.run(1, phi=problem.phi) == 1
        np.testing.assert_array_equal(solver.codes.T, reference.codes())
        assert solver.objective[-1] == pytest.approx(reference.objective(), rel=1e-4)
        if reference.direct:
            np.testing.assert_allclose(solver.transfer, reference.P, atol=1e-4)
    assert len(solver.objective) == 6


def test_the_switches_all_make_a_difference():
    ends = {}
    for name, switches in SWITCHES.items():
        reference = Transcription(make_problem(np.random.default_rng(0)), **switches)
        for _ in range(6):
            reference.step()
        ends[name] = reference.Z.tobytes(), reference.objective()
    assert len(set(ends.values())) == len(ends)


def state(solver):
    """Codes and multipliers, r x n."""
    everything = slice(0, len(solver.codes))
    matrices = solver._Z, solver._EA, solver._B_multiplier(everything)
    return [M.T.astype(float) for M in matrices]


def iterate(solver, problem, phi=None):
    """An iteration: the state before it, then P, A, B and Z, A and B by their multipliers."""
    Z0, EA, EB = state(solver)
    mu = solver.mu
    solver.run(1, phi=phi)
    Z, new_EA, new_EB = state(solver)
    P = solver.transfer.astype(float)
    A = Z - P.T @ problem.tags.T.toarray() - (new_EA - EA) / mu
    return (Z0, EA, EB), (P, A, Z - (new_EB - EB) / mu, Z)


@pytest.mark.parametrize("shrinkage", ["bit", "sample"])
@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("deflate", [True, False])
def test_every_step_solves_its_subproblem(problem, shrinkage, denoise, deflate):
    rng = np.random.default_rng(5)
    w = 0.7
    kind = {"shrinkage": shrinkage, "denoise": denoise}
    solver = make_solver(problem, tag_weight=w, deflate=deflate, **kind)
    solver.run(1, phi=problem.phi)
    _, (_, A0, _, _) = iterate(solver, problem, problem.phi)
    mu = solver.mu
    (Z0, EA, EB), (P, A, B, Z) = iterate(solver, problem, problem.phi)
    Y = problem.tags.T.toarray()
    S = ALPHA * dense(problem.visual, deflate) + BETA * dense(problem.conceptual, deflate)

    def of_P(P):  # Eq. 17, with the ridge
        fit = mu / 2 * np.square(Z0 - P.T @ Y - A0 + EA / mu).sum()
        return fit + mu / 2 * _RIDGE * np.square(P).sum()

    def of_A(A):  # Eq. 14
        return loss(A, w, **kind) + mu / 2 * np.square(Z0 - P.T @ Y - A + EA / mu).sum()

    def of_B(B):  # Eq. 19
        return mu / 2 * np.square(Z0 - B + EB / mu).sum() - np.trace(B @ S @ Z0.T)

    def of_Z(Z):  # Eq. 21
        tags = mu / 2 * np.square(Z - P.T @ Y - A + EA / mu).sum()
        copy = mu / 2 * np.square(Z - B + EB / mu).sum()
        return tags + copy - np.trace(B @ S @ Z.T) + NU * np.square(problem.phi.T - Z).sum()

    for function, minimiser in ((of_P, P), (of_A, A), (of_B, B)):
        least = function(minimiser)
        for scale in (1e-2, 1e-1, 1):  # convex: a minimum nearby is the minimum
            for _ in range(20):
                assert function(minimiser + scale * rng.normal(size=minimiser.shape)) > least
        assert function(0.9 * minimiser) >= least - 1e-6
        assert function(1.1 * minimiser) >= least - 1e-6
    # The objective is separable over the entries of Z, so one flip at a time tells it all.
    least = of_Z(Z)
    for i, j in np.ndindex(Z.shape):
        flipped = Z.copy()
        flipped[i, j] *= -1
        assert of_Z(flipped) > least


def test_the_codes_are_the_best_of_all_sign_patterns():
    problem = make_problem(np.random.default_rng(3), n_samples=6, n_bits=2, n_tags=3)
    solver = make_solver(problem)
    solver.run(1)
    mu = solver.mu
    (_, EA, EB), (P, A, B, _) = iterate(solver, problem)
    S = ALPHA * dense(problem.visual) + BETA * dense(problem.conceptual)
    fixed = P.T @ problem.tags.T.toarray() + A

    def of_Z(Z):
        tags = mu / 2 * np.square(Z - fixed + EA / mu).sum()
        return tags + mu / 2 * np.square(Z - B + EB / mu).sum() - np.trace(B @ S @ Z.T)

    patterns = [np.reshape(p, (2, 6)) for p in product([-1.0, 1.0], repeat=12)]
    best = min(patterns, key=of_Z)
    np.testing.assert_array_equal(solver.codes.T, best)


@pytest.mark.parametrize("axis", [0, 1])
def test_shrinkage_satisfies_the_subgradient_condition(problem, rng, axis):
    w = 2.0
    solver = make_solver(problem, shrinkage=["bit", "sample"][axis], tag_weight=w)
    T = rng.normal(size=(30, 4)) * rng.uniform(0.1, 8, size=(1, 4) if axis == 0 else (30, 1))
    A = solver._shrink(T.astype(np.float32))
    T, A = (T, A) if axis == 0 else (T.T, A.T)
    zero = np.linalg.norm(A, axis=0) == 0
    assert zero.any()
    assert not zero.all()
    for t, a in zip(T.T, A.T, strict=True):
        if not a.any():  # mu (a - t) + w g = 0 with some ||g|| <= 1
            assert solver.mu * np.linalg.norm(t) <= w + 1e-5
        else:
            gradient = solver.mu * (a - t) + w * a / np.linalg.norm(a)
            np.testing.assert_allclose(gradient, 0, atol=1e-4)


# ------------------------------------------------------------------ regression on the tags


def test_transfer_solves_the_normal_equations(problem, rng):
    M = rng.normal(size=(30, 4)).astype(np.float32)
    P = TagRegression(problem.tags).solve(problem.tags.T @ M)
    Y = problem.tags.toarray()
    np.testing.assert_allclose(Y.T @ (M - Y @ P), _RIDGE * P, atol=1e-4)


def test_transfer_is_nearly_that_of_the_pseudoinverse(rng):
    Y = (rng.random((40, 6)) < 0.4).astype(np.float32)
    # A tag that never occurs, and one that always comes with another.
    Y = np.hstack([Y, np.zeros((40, 1)), Y[:, :1]]).astype(np.float32)
    M = rng.normal(size=(40, 3)).astype(np.float32)
    P = TagRegression(sp.csr_array(Y)).solve(Y.T @ M)
    np.testing.assert_allclose(P, np.linalg.pinv(Y) @ M, atol=5e-3)
    np.testing.assert_array_equal(P[6], 0)
    np.testing.assert_allclose(P[7], P[0], atol=1e-3)


def test_many_tags_are_solved_iteratively_to_the_same_transfer(monkeypatch, rng):
    tags = sp.csr_array((rng.random((200, 150)) < rng.uniform(0, 0.2, 150)).astype(np.float32))
    rhs = tags.T @ rng.normal(size=(200, 5)).astype(np.float32)
    direct = TagRegression(tags).solve(rhs)
    monkeypatch.setattr(_alm, "_MAX_DENSE_TAGS", 100)
    monkeypatch.setattr(_alm, "cho_factor", None)
    regression = TagRegression(tags)
    iterated = regression.solve(rhs)
    Y = tags.toarray()
    fit = Y @ direct
    assert np.linalg.norm(Y @ iterated - fit) < 1e-3 * np.linalg.norm(fit)
    # From a good start there is little to do.
    again = regression.solve(rhs, direct)
    assert np.linalg.norm(again - direct) < 1e-2 * np.linalg.norm(direct)


@pytest.mark.parametrize("scale", [1, 1e-6])
@pytest.mark.parametrize("tol", [1e-1, 1e-3])
def test_conjugate_gradients_end_with_the_first_residual_within_the_tolerance(rng, tol, scale):
    """Relative to the right-hand sides, over all columns, preconditioned by the diagonal."""
    factor = rng.normal(size=(60, 40)) * rng.uniform(0.1, 3, size=40)
    gram, rhs = factor.T @ factor, scale * rng.normal(size=(40, 16))
    products = []

    def apply(P):
        products.append(gram @ P)
        return products[-1]

    def solve(**limit):
        return _conjugate_gradients(apply, np.diag(gram), rhs, np.zeros((40, 16)), tol, **limit)

    def size(M):
        return np.sqrt(np.sum(M**2 / np.diag(gram)[:, None]))

    P = solve()
    n_iter = len(products) - 1  # the first product is of the start
    assert size(rhs - gram @ P) <= tol * size(rhs)
    assert size(rhs - gram @ solve(max_iter=n_iter - 1)) > tol * size(rhs)


def test_conjugate_gradients_leave_columns_of_zeros_alone(rng):
    factor = rng.normal(size=(30, 10))
    rhs = rng.normal(size=(10, 3)) * [1, 0, 1]
    gram = factor.T @ factor
    P = _conjugate_gradients(gram.__matmul__, np.diag(gram), rhs, np.zeros((10, 3)), tol=1e-9)
    np.testing.assert_array_equal(P[:, 1], 0)
    np.testing.assert_allclose(P, np.linalg.solve(gram, rhs), atol=1e-8)


def test_tags_that_exclude_each_other_are_solved_in_one_iteration(monkeypatch, rng):
    """Their Gram matrix is the diagonal that the iterations are preconditioned by."""
    topic = np.repeat([0, 1, 2], [1, 10, 29])
    M = rng.normal(size=(40, 5)).astype(np.float32)
    products = []

    def count(gram, *others):
        return _conjugate_gradients(lambda P: products.append(gram(P)) or products[-1], *others)

    monkeypatch.setattr(_alm, "_MAX_DENSE_TAGS", 0)
    monkeypatch.setattr(_alm, "_conjugate_gradients", count)
    Y = np.eye(3, dtype=np.float32)[topic]
    P = TagRegression(sp.csr_array(Y)).solve(Y.T @ M)
    assert len(products) == 2  # of the start, and of the only direction
    expected = [M[topic == j].sum(axis=0) / ((topic == j).sum() + _RIDGE) for j in range(3)]
    np.testing.assert_allclose(P, expected, rtol=1e-4, atol=1e-6)


def test_iterated_regression_leads_to_the_same_codes(monkeypatch, problem):
    solver = make_solver(problem)
    solver.run(6)
    monkeypatch.setattr(_alm, "_MAX_DENSE_TAGS", 3)
    iterated = make_solver(problem)
    iterated.run(6)
    np.testing.assert_array_equal(iterated.codes, solver.codes)
    np.testing.assert_allclose(iterated.objective, solver.objective, rtol=1e-3)


# ------------------------------------------------------------------------------ iterations


def test_two_runs_are_one_longer_run(problem):
    together, apart = make_solver(problem), make_solver(problem)
    assert together.run(5, tol=-1, phi=problem.phi) == 5
    assert apart.run(3, tol=-1, phi=problem.phi) == 3
    assert apart.run(2, tol=-1, phi=problem.phi) == 2
    np.testing.assert_array_equal(apart.codes, together.codes)
    assert apart.objective == together.objective
    assert apart.mu == together.mu == pytest.approx(MU * RHO**5)


def test_no_iterations_leave_the_start(problem):
    solver = make_solver(problem)
    assert solver.run(0) == 0
    np.testing.assert_array_equal(solver.codes, problem.codes)
    assert solver.objective == []
    assert solver.transfer is None


def test_the_start_is_not_changed(problem):
    before = problem.codes.copy()
    make_solver(problem).run(3)
    np.testing.assert_array_equal(problem.codes, before)


def test_it_stops_once_few_bits_change_but_not_before_the_fourth_iteration(problem):
    lines = []
    solver = make_solver(problem)
    n_iter = solver.run(50, tol=0.01, report=lambda *line: lines.append(line))
    assert 3 < n_iter < 50
    assert [line[0] for line in lines] == list(range(1, n_iter + 1))
    assert [line[1] for line in lines] == solver.objective
    changed = [line[2] for line in lines]
    assert changed[-1] <= 0.01
    assert all(share > 0.01 for share in changed[3:-1])
    assert make_solver(problem).run(50, tol=1.0) == 4


def test_without_a_tolerance_it_stops_once_no_bit_changes(problem):
    solver = make_solver(problem, mu=0.03)
    n_iter = solver.run(50, tol=0)
    assert 4 < n_iter < 50
    changed = [row["changed"] for row in solver.history]
    assert changed[-1] == 0
    assert all(share > 0 for share in changed[3:-1])


def test_reported_changes_are_those_of_the_codes(problem):
    solver, changes = make_solver(problem), []
    codes = [solver.codes]
    for _ in range(4):
        solver.run(1, report=lambda *line: changes.append(line[2]))
        codes.append(solver.codes)
    expected = [np.mean(a != b) for a, b in pairwise(codes)]
    assert changes == pytest.approx(expected)


def test_terms_left_out_are_terms_of_weight_zero(problem):
    for without, weightless in (
        ({"visual": None}, {"alpha": 0.0}),
        ({"conceptual": None}, {"beta": 0.0}),
    ):
        solver, other = make_solver(problem, **without), make_solver(problem, **weightless)
        solver.run(4)
        other.run(4)
        np.testing.assert_array_equal(solver.codes, other.codes)
    no_columns = make_solver(problem, tags=problem.tags[:, :0])
    no_columns.run(4)
    assert no_columns.transfer is None


def test_a_strong_network_decides_the_codes(problem):
    solver = make_solver(problem, nu=100.0)
    solver.run(3, phi=problem.phi)
    np.testing.assert_array_equal(solver.codes, signs(problem.phi))


# ------------------------------------------------------------- what comes of it in the end


def make_planted(seed=1, gross_noise=0.0):
    """Clusters with a code each; features and tags tell the cluster with noise.

    The codes to start from have three bits in ten wrong. A share of the images may have tags drawn
    at random, and many of them.
    """
    rng = np.random.default_rng(seed)
    n_clusters, n_samples, n_bits, n_tags = 6, 400, 12, 40
    prototypes = signs(rng.normal(size=(n_clusters, n_bits)))
    cluster = rng.integers(n_clusters, size=n_samples)
    X = rng.normal(size=(n_clusters, 8))[cluster] + 0.7 * rng.normal(size=(n_samples, 8))
    own = (rng.random((n_clusters, n_tags)) < 0.2)[cluster]
    tags = np.where(rng.random(own.shape) < 0.5, own, rng.random(own.shape) < 0.05)
    wrong = rng.random(n_samples) < gross_noise
    tags[wrong] = rng.random((wrong.sum(), n_tags)) < 0.5
    tags = sp.csr_array(tags.astype(np.float32))
    truth = prototypes[cluster]
    return truth, {
        "codes": np.where(rng.random(truth.shape) < 0.3, -truth, truth),
        "tags": tags,
        "visual": anchor_graph(X, 30, random_state=0),
        "conceptual": concept_hypergraph(X, tags, 30, random_state=0),
        # The weight 1 of the paper at the size of its training set, in proportion.
        "tag_weight": np.sqrt(n_samples / 5325),
        "deflate": True,
    }


@pytest.fixture(scope="module")
def planted():
    return make_planted()


def recovered(planted, n_iter=10, **changes):
    """Share of the planted bits that the codes have after some iterations."""
    truth, arguments = planted
    solver = DiscreteALM(**{**arguments, **changes})
    solver.run(n_iter)
    return (solver.codes == truth).mean()


@pytest.mark.parametrize(
    ("changes", "at_least"),
    [
        ({"tags": None, "beta": 0}, 0.77),
        ({"tags": None, "beta": 0, "deflate": False}, 0.77),
        ({"tags": None, "alpha": 0, "beta": 0.3}, 0.8),
        ({"alpha": 0, "beta": 0}, 0.8),
        ({}, 0.92),
        ({"deflate": False}, 0.92),
        ({"shrinkage": "sample", "tag_weight": 0.03}, 0.85),
    ],
    ids=["anchors", "anchors-unbalanced", "hypergraph", "tags", "all", "unbalanced", "sample"],
)
def test_planted_codes_are_recovered_from_a_corrupted_start(planted, changes, at_least):
    truth, arguments = planted
    assert (arguments["codes"] == truth).mean() == pytest.approx(0.7, abs=0.01)
    assert recovered(planted, **changes) > at_least


def test_each_term_adds_to_what_is_recovered(planted):
    everything = recovered(planted)
    assert recovered(planted, tags=None) < everything - 0.1
    assert recovered(planted, alpha=0) < everything - 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_denoising_withstands_images_with_random_tags_better_than_least_squares(seed):
    def lead(gross_noise):
        planted = make_planted(seed, gross_noise)
        # Least squares has another scale: it may have the best of many weights.
        weights = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 1)
        rivals = [recovered(planted, denoise=False, tag_weight=weight) for weight in weights]
        return recovered(planted) - max(rivals)

    assert lead(gross_noise=0.0) == pytest.approx(0, abs=0.015)
    assert lead(gross_noise=0.5) > 0.02


@pytest.mark.parametrize("shrinkage", ["bit", "sample"])
@pytest.mark.parametrize("deflate", [True, False])
def test_the_objective_falls(planted, shrinkage, deflate):
    solver = DiscreteALM(**{**planted[1], "shrinkage": shrinkage, "deflate": deflate})
    solver.run(10, tol=-1)
    assert solver.objective[-1] < solver.objective[0]


def test_balance_keeps_bits_from_becoming_constant_where_the_graphs_outweigh_the_rest(planted):
    def constant(deflate):
        solver = DiscreteALM(**{**planted[1], "alpha": 0.3, "beta": 0.1, "deflate": deflate})
        solver.run(20)
        return (solver.codes == solver.codes[0]).all(axis=0)

    assert constant(deflate=False).all()
    assert not constant(deflate=True).any()
