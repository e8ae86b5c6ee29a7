import numpy as np
import pytest
import scipy.optimize
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhash.metrics import leave_one_out_map
from skhash.supervised import KSH, DRSCHHasher, DSHHasher, KSHHasher

DEEP = [DSHHasher, KSHHasher, DRSCHHasher]
ALL = [*DEEP, KSH]
every_hasher = pytest.mark.parametrize("hasher_class", ALL)


@parametrize_with_checks(
    [*(hasher_class(2, max_epochs=2, random_state=0) for hasher_class in DEEP), KSH(2)]
)
def test_scikit_learn_compatibility(estimator, check):
    check(estimator)


def make_photos(n, rng):
    """Features of scenes that hold one to three of five things, in much noise; their labels."""
    labels = (rng.random((n, 5)) < 0.25).astype(int)
    labels[np.arange(n), rng.integers(0, 5, n)] = 1
    things = np.random.default_rng(1).normal(size=(5, 40))
    noise = rng.normal(size=(n, 40)) * np.linspace(6, 0.3, 40)
    return (labels @ things * 1.5 + noise).astype(np.float32), labels


@pytest.fixture
def train(rng):
    return make_photos(400, rng)


@pytest.fixture
def test(rng):
    return make_photos(200, rng)


def new(hasher_class, n_bits=16, **params):
    return hasher_class(n_bits, random_state=0, **params)


@every_hasher
def test_labels_teach_what_features_alone_do_not_tell(hasher_class, train, test):
    X, labels = test
    chance = (labels @ labels.T > 0).mean()
    random = np.random.default_rng(0).normal(size=(40, 16))
    unsupervised = leave_one_out_map(((X - X.mean(0)) @ random >= 0).astype(np.uint8), labels)
    learned = new(hasher_class).fit(*train).score(X, labels)
    assert learned - chance > 2 * (unsupervised - chance)


@every_hasher
def test_every_form_of_labels_gives_the_same_codes(hasher_class, train):
    X, labels = train
    names = np.array(["cat", "dog", "boat", "tree", "sky"])
    words = [names[row > 0].tolist() for row in labels]
    expected = new(hasher_class, max_epochs=2) if hasher_class in DEEP else new(hasher_class)
    codes = expected.fit(X, labels).transform(X)
    order = np.argsort(names)
    np.testing.assert_array_equal(clone(expected).fit(X, labels[:, order]).transform(X), codes)
    np.testing.assert_array_equal(clone(expected).fit(X, words).transform(X), codes)


@every_hasher
def test_no_bit_is_constant_where_similar_pairs_are_rare(hasher_class, rng):
    classes = np.arange(300) % 60
    X = rng.normal(size=(60, 30))[classes] * 3 + rng.normal(size=(300, 30)) + 5
    codes = new(hasher_class).fit(X, classes).transform(X)
    assert codes.mean(0).min() > 0.1
    assert codes.mean(0).max() < 0.9


@every_hasher
def test_a_rare_class_gets_codes_of_its_own(hasher_class, rng):
    classes = (rng.random(300) < 0.05).astype(int)
    X = np.eye(6)[classes] * 4 + rng.normal(size=(300, 6))
    codes = new(hasher_class).fit(X, classes).transform(X)
    difference = codes[classes == 1].mean(0) - codes[classes == 0].mean(0)
    assert np.abs(difference).max() > 0.5


@every_hasher
def test_the_objective_falls(hasher_class, train):
    hasher = new(hasher_class).fit(*train)
    assert hasher.objective_[-1] < hasher.objective_[0]
    assert np.isfinite(hasher.objective_).all()


def test_drsch_tells_the_weight_of_every_bit(train):
    hasher = new(DRSCHHasher).fit(*train)
    weights = hasher.bit_weights_
    assert weights.shape == (16,)
    assert (weights >= 0).all()
    assert weights.std() > 0
    np.testing.assert_array_equal(weights, np.abs(hasher.loss_.bit_weights.detach().numpy()))


@pytest.mark.parametrize(
    ("hasher_class", "params"),
    [
        (DSHHasher, {"margin": 0}),
        (DSHHasher, {"quantization": -1}),
        (DSHHasher, {"balance_pairs": 3}),
        (KSHHasher, {"balance_pairs": None}),
        (DRSCHHasher, {"margin": -1}),
        (DRSCHHasher, {"smoothing": -0.1}),
        (DRSCHHasher, {"batch_size": 1}),
        (KSH, {"n_anchors": 0}),
        (KSH, {"n_pair_samples": 1}),
        (KSH, {"max_iter": -1}),
    ],
)
def test_bad_parameters_are_named(hasher_class, params, train):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        new(hasher_class, **params).fit(*train)


@every_hasher
def test_labels_are_needed(hasher_class, train):
    X, labels = train
    with pytest.raises(ValueError, match=f"{hasher_class.__name__} requires y"):
        new(hasher_class).fit(X, None)
    with pytest.raises(ValueError, match="y has labels for 0 sample"):
        new(hasher_class).fit(X, np.zeros_like(labels))
    with pytest.raises(ValueError, match="y has 399 rows, expected 400"):
        new(hasher_class).fit(X, labels[1:])


def test_ksh_is_its_formula(train):
    X, labels = (part[:100] for part in train)
    hasher = new(KSH, 6, n_anchors=20).fit(X, labels)
    squares = ((X[:, None].astype(float) - hasher.anchors_) ** 2).sum(2)
    assert {tuple(anchor) for anchor in hasher.anchors_} <= {tuple(x) for x in X}
    assert len(np.unique(hasher.anchors_, axis=0)) == 20
    assert hasher.gamma_ == pytest.approx(1 / (2 * squares.mean()), rel=1e-5)
    kernel = np.exp(-squares / (2 * squares.mean()))
    np.testing.assert_allclose(hasher.kernel_mean_, kernel.mean(0), rtol=1e-4)
    values = (kernel - kernel.mean(0)) @ hasher.coef_.T
    np.testing.assert_allclose(hasher.decision_function(X), values, atol=1e-3)

    H = np.where(values >= 0, 1, -1)
    S = np.where(labels @ labels.T > 0, 1, -1)
    assert hasher.objective_[-1] == pytest.approx(np.mean((H @ H.T / 6 - S) ** 2), rel=1e-4)
    assert (np.diff(hasher.objective_[:3]) < 0).all()


def test_ksh_bits_gain_from_their_refinement(train):
    spectral = new(KSH, max_iter=0).fit(*train)
    refined = new(KSH).fit(*train)
    assert spectral.n_iter_ == 0 < refined.n_iter_
    assert refined.objective_[0] <= spectral.objective_[0]
    assert refined.objective_[-1] < spectral.objective_[-1]


def test_the_first_ksh_bit_is_the_top_eigenvector(train):
    """Of K'SK relative to K'K and a millionth of its mean diagonal, K the centred kernel."""
    X, labels = (part[:100] for part in train)
    hasher = new(KSH, 1, n_anchors=10, max_iter=0).fit(X.astype(float), labels)
    squares = ((X[:, None].astype(float) - hasher.anchors_) ** 2).sum(2)
    K = np.exp(-hasher.gamma_ * squares) - hasher.kernel_mean_
    S = np.where(labels @ labels.T > 0, 1, -1)
    gram = K.T @ K
    gram += 1e-6 * np.diag(gram).mean() * np.eye(10)
    values, vectors = np.linalg.eig(np.linalg.solve(gram, K.T @ S @ K))
    top = vectors[:, values.real.argmax()].real
    ours = hasher.coef_[0] / np.linalg.norm(hasher.coef_[0])
    np.testing.assert_allclose(ours * np.sign(ours @ top), top / np.linalg.norm(top), atol=1e-8)


def test_spectral_ksh_values_have_mean_square_1(train):
    """The scale at which the tanh of the refinement is neither flat nor a straight line."""
    X, labels = (part[:100] for part in train)
    hasher = new(KSH, 4, n_anchors=10, max_iter=0).fit(X.astype(float), labels)
    values = hasher.decision_function(X.astype(float))
    np.testing.assert_allclose(np.square(values).mean(axis=0), 1)


def test_ksh_refines_a_relaxed_agreement_by_its_gradient(rng, monkeypatch):
    kernel = rng.normal(size=(30, 4))
    R = rng.normal(size=(30, 30)).astype(np.float32)
    R += R.T
    losses = []
    minimize = scipy.optimize.minimize

    def keep(function, start, **kwargs):
        losses.append(function)
        return minimize(function, start, **kwargs)

    def agreement(w):
        phi = np.tanh(kernel @ w / 2)
        return phi @ R.astype(float) @ phi / np.abs(R).sum()

    monkeypatch.setattr(scipy.optimize, "minimize", keep)
    hasher, start = new(KSH), rng.normal(size=4)
    hasher.n_iter_ = 0
    refined = hasher._refine(kernel, R, start)
    assert agreement(refined) > agreement(start)
    for w in (start, refined, 3 * start):
        value, gradient = losses[0](w)
        assert value == pytest.approx(-agreement(w), rel=1e-4, abs=1e-6)
        numeric = -scipy.optimize.approx_fprime(w, agreement)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-6)


def test_ksh_learns_more_from_more_pairs(train):
    X, labels = train
    few = new(KSH, n_pair_samples=50).fit(X, labels).score(X, labels)
    assert few < new(KSH).fit(X, labels).score(X, labels)


def test_samples_without_labels_are_no_more_than_anchors_to_ksh(train):
    X, labels = train
    labels = labels.copy()
    labels[100:] = 0
    shuffled = np.concatenate([X[:100], X[:99:-1]])
    values = [
        new(KSH, 4, n_anchors=400, max_iter=0).fit(samples, labels).decision_function(X[:100])
        for samples in (X, shuffled)
    ]
    np.testing.assert_allclose(values[0], values[1], atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("hasher_class", ALL)
def test_labels_of_real_photos_beat_itq(hasher_class, real_data):
    folder = real_data / "mirflickr25k"
    X = np.load(folder / "vgg16_pool5_gap512_f16.npy").astype(np.float32)
    labels = np.loadtxt(folder / "labels24.txt", dtype=int)
    split = np.load(folder / "split_dstdh.npz")
    hasher = new(hasher_class).fit(X[split["train"]], labels[split["train"]])
    codes = hasher.transform(X)
    assert codes.mean(0).min() > 0.02
    assert codes.mean(0).max() < 0.98
    validation = split["validation"]
    assert leave_one_out_map(codes[validation], labels[validation]) > 0.72  # ITQ .66, chance .56
