"""DSTDHLinear: what its parameters do, and what comes of it on planted and rendered photos."""

import inspect
import warnings
from functools import partial

import numpy as np
import pytest
from _photos import colour_grid
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import ITQ, DSTDHLinear, TagITQ
from skhash.datasets import make_social_images
from skhash.dstdh import _transfer
from skhash.dstdh._alm import DiscreteALM, signs
from skhash.metrics import leave_one_out_map
from skhash.social import _tag_itq
from skhash.tags import encode_tags
from skhash.unsupervised import _itq

N_SAMPLES, N_BITS = 80, 6
# What DSTDHLinear starts from: linear functions of the features, and tags as they are.
linear_tag_itq = partial(TagITQ, kernel=None)


def make_hasher(**changes):
    arguments = {"n_bits": N_BITS, "n_anchors": 10, "n_concepts": 12, "random_state": 0}
    return DSTDHLinear(**{**arguments, **changes})


@pytest.fixture(scope="module")
def samples():
    """Features with four clusters, tags that name the cluster now and then, and its labels."""
    rng = np.random.default_rng(1)
    labels = np.arange(N_SAMPLES) % 4
    X = rng.normal(size=(N_SAMPLES, 8))
    X[np.arange(N_SAMPLES), labels] += 3
    words, noise = ["sea", "tree", "face", "cat"], np.array(["nikon", "2007", "wow"])
    tags = [
        [words[label]] * (rng.random() < 0.7) + noise[rng.random(3) < 0.3].tolist()
        for label in labels
    ]
    return X, tags, labels


@pytest.fixture
def solvers(monkeypatch):
    """The optimisers that fits make, with the arguments they were made with."""
    made = []
    signature = inspect.signature(DiscreteALM)

    class Recorded(DiscreteALM):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.arguments = signature.bind(*args, **kwargs).arguments
            made.append(self)

    monkeypatch.setattr(_transfer, "DiscreteALM", Recorded)
    return made


def plain(argument):
    """An argument of the optimiser as something that compares."""
    if argument is None or isinstance(argument, int | float | str):
        return argument
    if hasattr(argument, "toarray"):
        return argument.toarray().tolist()
    if hasattr(argument, "trivial"):
        return (argument @ np.eye(argument.shape[0])).tolist()
    return np.asarray(argument).tolist()


# ---------------------------------------------------------------- parts and their switches


def test_a_fit_solves_the_problem_of_its_parameters(samples, solvers):
    X, tags, _ = samples
    hasher = make_hasher(alpha=0.02, beta=0.005, mu=0.3, rho=1.3, tag_weight=0.4, tol=0.0)
    hasher.set_params(shrinkage="sample", deflate=False, max_iter=7).fit(X, tags)
    (solver,) = solvers
    arguments = solver.arguments
    assert {name: arguments[name] for name in ("alpha", "beta", "mu", "rho", "tag_weight")} == {
        "alpha": 0.02, "beta": 0.005, "mu": 0.3, "rho": 1.3, "tag_weight": 0.4,
    }  # fmt: skip
    assert arguments["shrinkage"] == "sample"
    assert arguments["deflate"] is False
    encoded = encode_tags(tags)
    assert plain(arguments["tags"]) == plain(encoded.indicator)
    assert arguments["visual"].similarities.shape == (N_SAMPLES, 10)
    assert arguments["conceptual"].incidence.shape == (N_SAMPLES, 12)
    np.testing.assert_array_equal(hasher.codes_, solver.codes > 0)
    assert hasher.codes_.dtype == np.uint8
    assert hasher.objective_.tolist() == solver.objective
    assert hasher.history_ == solver.history
    assert len(hasher.objective_) == hasher.n_iter_
    np.testing.assert_array_equal(hasher.transfer_, solver.transfer)
    np.testing.assert_array_equal(hasher.vocabulary_, encoded.vocabulary)


@pytest.mark.parametrize(
    ("switch", "changed"),
    [
        ({"direct": False}, {"tags"}),
        ({"indirect": False}, {"conceptual"}),
        ({"denoise": False}, {"denoise"}),
        ({"discrete": False}, {"discrete"}),
        ({"deflate": False}, {"deflate"}),
        ({"shrinkage": "sample"}, {"shrinkage"}),
        ({"alpha": 0.02}, {"alpha"}),
        ({"alpha": 0}, {"alpha", "visual"}),
        ({"beta": 0}, {"beta", "conceptual"}),
        ({"init": "itq"}, {"codes"}),
        ({"n_anchors": 5}, {"visual"}),
        ({"n_nearest_anchors": 3}, {"visual"}),
        ({"n_concepts": 5}, {"conceptual"}),
        ({"concept_bandwidth": 40.0}, {"conceptual"}),
        ({"tag_scale": 0.1}, {"conceptual"}),
        ({"tol": 0.5}, set()),
        ({"ridge": 7.0}, set()),
    ],
    ids=lambda value: next(iter(value), "nothing") if isinstance(value, dict) else "",
)
def test_a_switch_changes_its_part_of_the_problem_and_nothing_else(
    samples, solvers, switch, changed
):
    X, tags, _ = samples
    make_hasher().fit(X, tags)
    make_hasher(**switch).fit(X, tags)
    before, after = (
        {name: plain(value) for name, value in solver.arguments.items()} for solver in solvers
    )
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("switch", "absent"),
    [
        ({"direct": False}, ["tags"]),
        ({"indirect": False}, ["conceptual"]),
        ({"alpha": 0}, ["visual"]),
        ({"beta": 0}, ["conceptual"]),
        ({"use_tags": False}, ["tags"]),
    ],
)
def test_what_is_switched_off_is_not_made(samples, solvers, switch, absent):
    X, tags, _ = samples
    make_hasher(**switch).fit(X, tags)
    arguments = solvers[0].arguments
    for name in ("tags", "visual", "conceptual"):
        argument = arguments[name]
        missing = argument is None or not argument.shape[1]
        assert missing == (name in absent)


def test_tags_switched_off_are_tags_not_given(samples):
    X, tags, _ = samples
    switched, without = make_hasher(use_tags=False).fit(X, tags), make_hasher().fit(X)
    np.testing.assert_array_equal(switched.coef_, without.coef_)
    np.testing.assert_array_equal(switched.codes_, without.codes_)
    np.testing.assert_array_equal(switched.objective_, without.objective_)
    assert switched.transfer_ is without.transfer_ is None
    assert len(switched.vocabulary_) == len(without.vocabulary_) == 0
    assert (make_hasher().fit(X, tags).codes_ != without.codes_).any()


def test_the_weight_of_the_tags_follows_the_root_of_the_number_of_samples(samples, solvers):
    X, tags, _ = samples
    make_hasher().fit(X, tags)
    make_hasher().fit(X[:20], tags[:20])
    weights = [solver.arguments["tag_weight"] for solver in solvers]
    assert weights[0] == pytest.approx(np.sqrt(N_SAMPLES / 5325) / 2)
    assert weights[0] == pytest.approx(2 * weights[1])


def test_transfer_tells_which_bits_a_tag_goes_with(samples):
    X, tags, _ = samples
    hasher = make_hasher().fit(X, tags)
    assert hasher.transfer_.shape == (len(hasher.vocabulary_), N_BITS)
    indicator = encode_tags(tags).indicator.toarray()
    sea = indicator[:, hasher.vocabulary_ == "sea"].ravel() > 0
    means = (2.0 * hasher.codes_ - 1)[sea].mean(axis=0)
    row = hasher.transfer_[hasher.vocabulary_ == "sea"].ravel()
    assert np.corrcoef(means, row)[0, 1] > 0.9
    assert make_hasher(direct=False).fit(X, tags).transfer_ is None


# -------------------------------------------------------------------------------- starts


def test_the_start_is_the_codes_of_tag_itq_or_itq(samples, solvers, monkeypatch):
    X, tags, _ = samples
    # The same first rotation for all, whatever the seed.
    rotate = _transfer.itq_rotation
    for module in (_transfer, _itq, _tag_itq):
        monkeypatch.setattr(
            module, "itq_rotation", lambda V, **options: rotate(V, **{**options, "random_state": 0})
        )
    for init, y, rival in (
        ("semantic", tags, TagITQ(N_BITS, kernel=None, random_state=0).fit(X, tags)),
        ("itq", tags, ITQ(N_BITS, random_state=0).fit(X)),
        ("semantic", None, ITQ(N_BITS, random_state=0).fit(X)),
        ("semantic", [["sea"]] * N_SAMPLES, ITQ(N_BITS, random_state=0).fit(X)),
    ):
        make_hasher(init=init).fit(X, y)
        start = solvers[-1].arguments["codes"]
        np.testing.assert_array_equal(start, signs(rival.decision_function(X)))


def test_random_codes_are_even_and_new_with_each_seed(samples, solvers):
    X, tags, _ = samples
    for seed in (0, 0, 1):
        make_hasher(init="random", random_state=seed).fit(X, tags)
    first, again, other = (solver.arguments["codes"] for solver in solvers)
    np.testing.assert_array_equal(first, again)
    assert np.unique(first).tolist() == [-1, 1]
    assert 0.4 < (first != other).mean() < 0.6


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, lambda codes: codes.astype(bool)])
def test_given_codes_are_the_start(rng, samples, form):
    X, tags, _ = samples
    codes = rng.integers(0, 2, (N_SAMPLES, N_BITS))
    hasher = make_hasher(init=form(codes), max_iter=0).fit(X, tags)
    np.testing.assert_array_equal(hasher.codes_, codes)
    assert hasher.n_iter_ == 0
    assert hasher.objective_.shape == (0,)
    assert hasher.transfer_ is None
    moved = make_hasher(init=form(codes), tag_weight=1.0).fit(X, tags)
    assert 0 < (moved.codes_ != codes).mean() < 0.5


@pytest.mark.parametrize(
    ("init", "match"),
    [
        (np.zeros((N_SAMPLES, N_BITS + 1)), r"^init must have shape \(80, 6\), got \(80, 7\)"),
        (np.zeros((N_SAMPLES - 1, N_BITS)), r"^init must have shape \(80, 6\), got \(79, 6\)"),
        (np.full((N_SAMPLES, N_BITS), -1), r"^init must hold only 0 and 1"),
        ("kmeans", r"The 'init' parameter of DSTDHLinear must be"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(samples, init, match):
    X, tags, _ = samples
    with pytest.raises(ValueError, match=match):
        make_hasher(init=init).fit(X, tags)


def test_a_warm_start_goes_on_from_the_last_codes(samples, solvers):
    X, tags, _ = samples
    hasher = make_hasher(warm_start=True, max_iter=4).fit(X, tags)
    codes = hasher.codes_
    assert (codes != (solvers[0].arguments["codes"] > 0)).any()
    hasher.fit(X, tags)
    np.testing.assert_array_equal(solvers[1].arguments["codes"] > 0, codes)
    hasher.set_params(warm_start=False).fit(X, tags)
    np.testing.assert_array_equal(solvers[2].arguments["codes"], solvers[0].arguments["codes"])
    hasher.set_params(warm_start=True, n_bits=4).fit(X, tags)  # the last codes do not fit any more
    assert hasher.codes_.shape == (N_SAMPLES, 4)


# --------------------------------------------------------------------- the hash function


def centred_ridge(X, targets, strength):
    """What scikit-learn's Ridge predicts, for a strength in units of the mean variance."""
    alpha = strength * len(X) * X.var(axis=0).mean()
    return Ridge(alpha=alpha, solver="svd").fit(X, targets).predict(X)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_with_a_given_ridge_it_is_a_ridge_regression_of_the_codes(samples, strength):
    X, tags, _ = samples
    hasher = make_hasher(ridge=strength).fit(X, tags)
    expected = centred_ridge(X, 2.0 * hasher.codes_ - 1, strength)
    np.testing.assert_allclose(hasher.decision_function(X), expected, atol=1e-6)
    assert hasher.ridge_ == strength


def test_without_a_hash_function_to_start_from_auto_regresses_the_codes(samples):
    X, tags, _ = samples
    hasher = make_hasher(init="random").fit(X, tags)
    expected = centred_ridge(X, 2.0 * hasher.codes_ - 1, hasher.ridge_)
    np.testing.assert_allclose(hasher.decision_function(X), expected, atol=1e-6)


@pytest.mark.parametrize("init", ["semantic", "itq"])
def test_auto_corrects_the_hash_function_of_the_start(samples, monkeypatch, init):
    X, tags, _ = samples
    outputs = []
    rotate = _transfer.itq_rotation

    def rotate_and_keep(V, **kwargs):
        R, losses = rotate(V, **kwargs)
        outputs.append(V @ R)
        return R, losses

    for module in (_transfer, _itq, _tag_itq):
        monkeypatch.setattr(module, "itq_rotation", rotate_and_keep)
    hasher = make_hasher(init=init).fit(X, tags)
    (start,) = outputs
    # Each bit's outputs, as near to its codes as scaling brings them.
    scaled = np.transpose(
        [np.linalg.lstsq(v[:, None], signs(v), rcond=None)[0][0] * v for v in start.T]
    )
    lacking = (2.0 * hasher.codes_ - 1) - (signs(start) + scaled) / 2
    expected = scaled + centred_ridge(X, lacking, hasher.ridge_)
    np.testing.assert_allclose(hasher.decision_function(X), expected, atol=1e-5)


# ---------------------------------------------------------------------------- iterations


def test_the_objective_falls_and_iterations_end(samples):
    X, tags, _ = samples
    hasher = make_hasher(max_iter=50).fit(X, tags)
    assert 3 < hasher.n_iter_ < 50
    assert hasher.objective_.shape == (hasher.n_iter_,)
    assert hasher.objective_[-1] < hasher.objective_[0]
    assert make_hasher(max_iter=2).fit(X, tags).n_iter_ == 2
    # The first three iterations are always taken.
    slow = {"init": "random", "tag_weight": 1.0, "max_iter": 50}
    n_iters = [make_hasher(tol=tol, **slow).fit(X, tags).n_iter_ for tol in (1.0, 0.0)]
    assert n_iters[0] == 4 < n_iters[1]


def test_verbose_prints_a_line_per_iteration(samples, capsys):
    X, tags, _ = samples
    make_hasher().fit(X, tags)
    assert capsys.readouterr().out == ""
    hasher = make_hasher(verbose=1).fit(X, tags)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == hasher.n_iter_
    assert lines[0].startswith(f"[DSTDHLinear] iteration 1: objective {hasher.objective_[0]:.6g}")


def test_constant_bits_bring_a_warning_that_names_cause_and_remedy(samples):
    X, tags, _ = samples
    heavy = {"alpha": 1.0, "beta": 0.5, "mu": 1e-2}
    with pytest.warns(UserWarning, match=r"6 of 6 bits are constant .* lower alpha and beta") as w:
        hasher = make_hasher(deflate=False, **heavy).fit(X, tags)
    assert len(w) == 1
    assert "deflate=True" in str(w[0].message)
    assert (hasher.codes_ == hasher.codes_[0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hasher = make_hasher(deflate=True, **heavy).fit(X, tags)
    assert (hasher.codes_.std(axis=0) > 0).all()


# ------------------------------------------------------------------------------- presets

PAPER = {
    "mirflickr": {
        "alpha": 1e-2, "beta": 1e-3, "n_anchors": 100, "n_concepts": 500, "mu": 1e-2, "rho": 1.1,
    },
    "nus-wide": {
        "alpha": 10, "beta": 1e-4, "n_anchors": 700, "n_concepts": 700, "mu": 1, "rho": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("dataset", PAPER)
@pytest.mark.parametrize("source", ["paper", "release"])
def test_presets_have_the_settings_of_the_paper(dataset, source):
    params = DSTDHLinear.preset(dataset, source=source).get_params()
    assert {name: params[name] for name in PAPER[dataset]} == PAPER[dataset]
    common = {
        "shrinkage": "bit", "deflate": False, "tag_weight": 1, "ridge": 0, "tag_scale": 1,
        "n_nearest_anchors": 2,
    }  # fmt: skip
    assert {name: params[name] for name in common} == common
    assert all(params[name] for name in ("direct", "indirect", "use_tags", "denoise", "discrete"))
    start = {name: params[name] for name in ("init", "concept_bandwidth")}
    if source == "paper":
        assert start == {"init": "random", "concept_bandwidth": None}
    else:
        assert start == {"init": "itq", "concept_bandwidth": 40}
        assert (params["max_iter"], params["tol"]) == (4, 0)


def test_presets_give_way_to_parameters_and_refuse_what_they_do_not_know():
    hasher = DSTDHLinear.preset("mirflickr", n_bits=16, alpha=0.5, random_state=3)
    assert (hasher.n_bits, hasher.alpha, hasher.random_state) == (16, 0.5, 3)
    assert hasher.beta == 1e-3
    with pytest.raises(ValueError, match=r"^dataset must be one of .*'mirflickr'.*, got 'coco'"):
        DSTDHLinear.preset("coco")
    with pytest.raises(ValueError, match=r"^source must be one of \['paper', 'release'\], got"):
        DSTDHLinear.preset(source="thesis")


@pytest.mark.parametrize("source", ["paper", "release"])
def test_presets_fit(samples, source):
    X, tags, _ = samples
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bits may come out constant, as in the paper's program
        codes = DSTDHLinear.preset(source=source, n_bits=4, random_state=0).fit_transform(X, tags)
    assert codes.shape == (N_SAMPLES, 4)


# -------------------------------------------------------------------------- invariances


def test_the_scale_of_the_features_does_not_matter(samples):
    X, tags, _ = samples
    codes = make_hasher().fit_transform(X, tags)
    for scale in (10, 1e-3):
        np.testing.assert_array_equal(make_hasher().fit_transform(scale * X, tags), codes)


def test_the_order_of_the_samples_matters_to_the_graphs_only(rng, samples):
    X, tags, _ = samples
    order = rng.permutation(N_SAMPLES)
    hasher = make_hasher(alpha=0, beta=0).fit(X, tags)
    shuffled = clone(hasher).fit(X[order], [tags[i] for i in order])
    np.testing.assert_array_equal(shuffled.codes_, hasher.codes_[order])
    np.testing.assert_array_equal(shuffled.transform(X), hasher.transform(X))


def test_the_order_of_the_tags_does_not_matter(rng, samples):
    X, tags, _ = samples
    hasher = make_hasher().fit(X, tags)
    shuffled = make_hasher().fit(X, [row[::-1] for row in tags])
    np.testing.assert_array_equal(shuffled.transform(X), hasher.transform(X))


def test_float32_features_give_nearly_the_same_codes(samples):
    X, tags, _ = samples
    single = make_hasher().fit(X.astype(np.float32), tags)
    assert single.coef_.dtype == single.intercept_.dtype == np.float32
    assert (single.transform(X) != make_hasher().fit_transform(X, tags)).mean() < 0.05


# ------------------------------------------------------------------- model selection


GRID = {"alpha": [0.0, 0.05], "beta": [0.0, 1e-3], "n_anchors": [5, 10]}


def assert_scored_as_by_hand(search, samples, relevance):
    """The first split's scores are those of fits and scores done one by one."""
    X, tags, _ = samples
    train, test = np.arange(40, 80), np.arange(40)
    scores = []
    for params in search.cv_results_["params"]:
        hasher = make_hasher(**params).fit(X[train], [tags[i] for i in train])
        held_out = [relevance[i] for i in test]
        scores.append(leave_one_out_map(hasher.transform(X[test]), held_out))
    np.testing.assert_allclose(search.cv_results_["split0_test_score"], scores)
    assert len(np.unique(scores)) > 2


def test_grid_search_over_its_weights_by_tags(samples):
    X, tags, _ = samples
    search = GridSearchCV(make_hasher(), GRID, cv=2, error_score="raise").fit(X, tags)
    assert_scored_as_by_hand(search, samples, tags)
    assert search.best_params_.keys() == GRID.keys()
    assert search.transform(X).shape == (N_SAMPLES, N_BITS)


def test_grid_search_over_its_weights_by_routed_labels(samples, metadata_routing):
    X, tags, labels = samples
    hasher = make_hasher().set_score_request(labels=True)
    search = GridSearchCV(hasher, GRID, cv=2, error_score="raise").fit(X, tags, labels=labels)
    assert_scored_as_by_hand(search, samples, labels)
    by_tags = GridSearchCV(make_hasher(), GRID, cv=2).fit(X, tags)
    assert (search.cv_results_["mean_test_score"] != by_tags.cv_results_["mean_test_score"]).any()


def test_it_ends_a_pipeline_with_its_defaults(rng):
    X = rng.normal(size=(150, 70))
    tags = [["warm"] if row[0] > 0 else ["cold"] for row in X]
    pipeline = make_pipeline(StandardScaler(), DSTDHLinear(random_state=0))
    codes = pipeline.set_output(transform="pandas").fit_transform(X, tags)
    assert codes.shape == (150, 64)
    assert codes.columns[-1] == "dstdhlinear63"
    assert (codes.std() > 0).all()


# --------------------------------------------------------------------------- retrieval


@pytest.fixture(scope="module")
def photos():
    data = make_social_images(1000, image_size=32, random_state=0)
    return colour_grid(data.images, n_cells=8), data.tags, data.labels


def held_out_map(hasher, photos, n_train=500):
    X, tags, labels = photos
    hasher.fit(X[:n_train], tags[:n_train])
    return leave_one_out_map(hasher.transform(X[n_train:]), labels[n_train:])


class RandomCodes:
    """A hasher that knows nothing."""

    def __init__(self, n_bits, random_state):
        self.n_bits, self.random_state = n_bits, random_state

    def fit(self, X, y):
        return self

    def transform(self, X):
        return np.random.default_rng(self.random_state).integers(0, 2, (len(X), self.n_bits))


def test_codes_of_rendered_photos_beat_itq_and_are_not_below_tag_itq(photos):
    seeds = range(5)
    ours, itq, tag_itq, chance = (
        np.mean([held_out_map(kind(32, random_state=seed), photos) for seed in seeds])
        for kind in (DSTDHLinear, ITQ, linear_tag_itq, RandomCodes)
    )
    assert ours > itq + 0.04
    assert ours > tag_itq - 0.005
    assert itq > chance + 0.05


def test_no_bit_is_constant_on_rendered_photos(photos):
    X, tags, _ = photos
    for n_bits in (8, 128):
        codes = DSTDHLinear(n_bits, random_state=0).fit_transform(X, tags)
        assert (codes.std(axis=0) > 0).all()


def test_codes_of_real_photos_beat_itq(real_data):
    folder = real_data / "mirflickr25k"
    features = np.load(folder / "vgg16_pool5_gap512_f16.npy", mmap_mode="r")
    split = np.load(folder / "split_dstdh.npz")
    train, held_out = split["train"][:2500], split["validation"]
    lines = (folder / "tags.txt").read_text(encoding="utf-8").splitlines()
    tags = [line.split(",") if line else [] for line in lines]
    labels = np.loadtxt(folder / "labels24.txt", dtype=np.uint8)

    def validation_map(hasher):
        hasher.fit(features[train].astype(np.float32), [tags[i] for i in train])
        codes = hasher.transform(features[held_out].astype(np.float32))
        return leave_one_out_map(codes, labels[held_out])

    assert validation_map(DSTDHLinear(32, random_state=0)) > (
        validation_map(ITQ(32, random_state=0)) + 0.03
    )
