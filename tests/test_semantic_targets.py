"""Tags as targets: counts against their definition, means, own vectors, and what has no meaning."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.frozen import FrozenEstimator

from skhash import SemanticSpace, SemanticTargets
from skhash.semantic._lanczos import leading_left_vectors
from skhash.semantic._ppmi import ppmi, ppmi_vectors
from skhash.tags import encode_tags

TAGS = [["cat", "pet"], ["kitten", "pet"], ["sea", "beach"], ["sea", "sand"], ["pet", "sand"]] * 6
WORDS = sorted({tag for row in TAGS for tag in row})


def own_vectors(words=WORDS, n_dimensions=5):
    rng = np.random.default_rng(0)
    return {word: rng.normal(size=n_dimensions).astype(np.float32) for word in words}


def random_indicator(rng, n_images=60, n_tags=12, share=0.25):
    indicator = sp.csr_array((rng.random((n_images, n_tags)) < share).astype(np.float32))
    return indicator[:, np.flatnonzero(indicator.sum(axis=0))]


# --- PPMI --------------------------------------------------------------------------------------


def test_ppmi_is_its_definition(rng):
    indicator = random_indicator(rng)
    rows = indicator.toarray()
    n_tags = rows.shape[1]
    together = np.zeros((n_tags, n_tags))
    for row in rows:
        for a in np.flatnonzero(row):
            for b in np.flatnonzero(row):
                together[a, b] += 1
    share = together.sum(axis=1) / together.sum()
    context = share**0.75 / (share**0.75).sum()
    expected = np.zeros((n_tags, n_tags))
    for a in range(n_tags):
        for b in range(n_tags):
            if together[a, b]:
                p = together[a, b] / together.sum()
                expected[a, b] = max(0, np.log(p / (share[a] * context[b])))
    np.testing.assert_allclose(ppmi(indicator).toarray(), expected, atol=1e-12)
    assert (expected == 0).any()


@pytest.mark.parametrize("n_tags", [12, 450])  # all singular vectors, and the leading ones
def test_vectors_tell_ppmi_as_well_as_any_of_their_length(rng, n_tags):
    indicator = random_indicator(rng, 300, n_tags, 0.05 if n_tags > 100 else 0.25)
    matrix = ppmi(indicator).toarray()
    vectors = ppmi_vectors(indicator, 7)
    left, values, _ = np.linalg.svd(matrix)
    expected = left[:, :7] * values[:7]
    signs = np.sign((vectors * expected).sum(axis=0))
    np.testing.assert_allclose(vectors * signs, expected, atol=1e-4)
    assert (vectors[np.abs(vectors).argmax(axis=0), range(7)] > 0).all()
    np.testing.assert_array_equal(ppmi_vectors(indicator, 7), vectors)


def test_vectors_of_all_dimensions_have_the_products_of_the_matrix(rng):
    indicator = random_indicator(rng)
    matrix = ppmi(indicator).toarray()
    vectors = ppmi_vectors(indicator)
    assert vectors.shape[1] == np.linalg.matrix_rank(matrix)
    np.testing.assert_allclose(vectors @ vectors.T, matrix @ matrix.T, atol=1e-4)


def indicator_of(rows):
    lengths = [len(row) for row in rows]
    images, tags = np.repeat(np.arange(len(rows)), lengths), np.concatenate(rows)
    return sp.csr_array((np.ones(len(tags)), (images, tags)))


# Tags of which many have the same singular value. SciPy before 1.17 may never end there.
ALIKE = {
    "a-tag-an-image": [[i] for i in range(500)],
    "images-without-a-common-tag": [range(5 * i, 5 * i + 5) for i in range(100)],
    "images-with-a-common-tag": [[0, *range(10 * i + 1, 10 * i + 11)] for i in range(60)],
    "two-kinds-of-images": [[i % 2, *range(10 * i + 2, 10 * i + 12)] for i in range(60)],
    "few-images-of-many-tags": [range(100 * i, 100 * i + 100 + 10 * (i == 9)) for i in range(10)],
    "images-of-several-sizes": [range(10 * i, 10 * i + 1 + i % 10) for i in range(100)],
}


@pytest.mark.parametrize("rows", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("n_vectors", [1, 7, 100, 200])
def test_singular_vectors_are_found_where_many_singular_values_are_equal(rows, n_vectors):
    indicator = indicator_of(rows)
    matrix = ppmi(indicator[:, np.flatnonzero(indicator.sum(axis=0))])
    vectors, values = leading_left_vectors(matrix, n_vectors, np.random.RandomState(0))
    expected = np.linalg.svd(matrix.toarray(), compute_uv=False)[:n_vectors]
    # Values are roots of eigenvalues, and so 0 but for the root of rounding.
    np.testing.assert_allclose(values, expected, atol=1e-6 * expected[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(n_vectors), atol=1e-12)
    dense = matrix.toarray()
    residuals = dense @ (dense.T @ vectors) - vectors * values**2
    np.testing.assert_allclose(residuals, 0, atol=1e-10 * expected[0] ** 2)
    again, _ = leading_left_vectors(matrix, n_vectors, np.random.RandomState(0))
    np.testing.assert_array_equal(again, vectors)


@pytest.mark.parametrize("n_vectors", [3, 30, 240])
def test_equal_singular_values_are_found_as_often_as_they_are_there(rng, n_vectors):
    # One run of directions shows no more of the largest value than of the others.
    values = np.repeat([5.0, 4.0, 3.0, 0.0], 120)
    left, right = (np.linalg.qr(rng.normal(size=(480, 480)))[0] for _ in range(2))
    matrix = sp.csr_array((left * values) @ right)
    vectors, found = leading_left_vectors(matrix, n_vectors, np.random.RandomState(0))
    np.testing.assert_allclose(found, values[:n_vectors], rtol=1e-10)
    # They lie in the space of the left vectors of those values.
    span = left[:, : 120 * (1 + (n_vectors > 120))]
    np.testing.assert_allclose(span @ (span.T @ vectors), vectors, atol=1e-10)


def test_singular_vectors_of_all_different_values_are_those_of_a_dense_svd(rng):
    values = np.sort(rng.uniform(1, 2, 500))[::-1]  # close to each other: many cycles
    left, right = (np.linalg.qr(rng.normal(size=(500, 500)))[0] for _ in range(2))
    matrix = sp.csr_array((left * values) @ right)
    vectors, found = leading_left_vectors(matrix, 20, np.random.RandomState(0))
    np.testing.assert_allclose(found, values[:20], rtol=1e-10)
    np.testing.assert_allclose(np.abs((vectors * left[:, :20]).sum(axis=0)), 1, rtol=1e-10)


def test_ppmi_needs_no_gensim():
    code = (
        "import sys; sys.modules['gensim'] = None\n"
        "from skhash import SemanticSpace, TagITQ\n"
        f"tags = {TAGS!r}\n"
        "SemanticSpace(3, embedding='ppmi', random_state=0).fit_transform(tags)\n"
        "TagITQ(2).fit([[i % 5, i % 2] for i in range(30)], tags)\n"
        "try:\n"
        "    SemanticSpace(3, embedding='word2vec').fit([list('abc')] * 30)\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'needs gensim, which is not installed; install it, or use embedding="ppmi"' in run.stdout


# --- Means of tags' vectors --------------------------------------------------------------------


@pytest.mark.parametrize("target", ["ppmi", "word2vec", own_vectors()])
@pytest.mark.filterwarnings("ignore:word2vec has too little")
def test_a_target_is_the_direction_of_the_mean_of_the_tags_vectors(target):
    tags = [*TAGS, []]
    targets = SemanticTargets(target, random_state=0)
    T = targets.fit_transform(tags)
    assert T.dtype == np.float32
    vectors = dict(zip(targets.vocabulary_, targets.tag_vectors_, strict=True))
    means = np.array([np.mean([vectors[tag] for tag in row], axis=0) for row in TAGS])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(T[:-1], means - means.mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(T[-1], 0)
    np.testing.assert_allclose(targets.mean_, means.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(targets.transform(tags), T)


@pytest.mark.parametrize("form", ["name", "space", "frozen"])
def test_targets_may_be_the_sem_vectors_of_a_space(form):
    space = SemanticSpace(3, embedding="ppmi", random_state=1)
    if form == "frozen":
        target = FrozenEstimator(space.fit(TAGS))
    else:
        target = "sem-vectors" if form == "name" else space
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # word2vec has too little
        targets = SemanticTargets(target, random_state=0).fit(TAGS)
    Z = targets.space_.transform(TAGS).toarray()
    Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-9)
    tagged = Z.any(axis=1)
    np.testing.assert_allclose(targets.transform(TAGS), Z - Z[tagged].mean(axis=0), atol=1e-5)
    assert (targets.space_ is space) == (form == "frozen")


def test_tfidf_is_that_of_scikit_learn(rng):
    indicator = random_indicator(rng)
    T = SemanticTargets("tfidf").fit_transform(indicator)
    expected = TfidfTransformer().fit_transform(indicator).toarray()
    np.testing.assert_allclose(T.toarray(), expected, rtol=1e-5)
    alone = SemanticTargets("tfidf").fit(indicator).transform(indicator[:3])
    np.testing.assert_allclose(alone.toarray(), expected[:3], rtol=1e-5)


@pytest.mark.parametrize("target", ["tfidf", "ppmi", "sem-vectors", own_vectors()])
@pytest.mark.filterwarnings("ignore:word2vec has too little")
def test_one_seed_gives_the_same_targets(target):
    targets = SemanticTargets(target, random_state=0)
    first, second = (clone(targets).fit_transform(TAGS) for _ in range(2))
    np.testing.assert_array_equal(*(sp.csr_array(T).toarray() for T in (first, second)))
    assert targets.fit(TAGS).get_feature_names_out().shape == (first.shape[1],)


# --- Words that training did not see -----------------------------------------------------------


@pytest.mark.parametrize("form", ["mapping", "callable", "path"])
def test_own_vectors_know_words_that_training_did_not_see(form, tmp_path):
    vectors = own_vectors([*WORDS, "whale"])
    target = vectors
    if form == "callable":
        target = lambda words: np.array([vectors[word] for word in words])  # noqa: E731
    elif form == "path":
        target = tmp_path / "vectors.txt"
        lines = [" ".join([word, *map(repr, v.tolist())]) for word, v in vectors.items()]
        target.write_text("\n".join(lines))
    targets = SemanticTargets(target).fit(TAGS)
    assert "whale" not in targets.vocabulary_
    row = targets.transform([["whale"], ["sea", "whale"]])
    for t, words in zip(row, (["whale"], ["sea", "whale"]), strict=True):
        mean = np.mean([vectors[word] for word in words], axis=0)
        expected = mean / np.linalg.norm(mean) - targets.mean_
        np.testing.assert_allclose(t, expected, atol=1e-5)


def test_a_space_codes_words_that_training_did_not_see():
    vectors = own_vectors([*WORDS, "whale", "ship"])
    vectors["whale"] = vectors["sea"]
    space = SemanticSpace(4, embedding=vectors, random_state=0).fit(TAGS)
    Z = space.transform([["whale"], ["sea"], ["sea", "nothing"]]).toarray()
    np.testing.assert_allclose(Z[0], Z[1], atol=1e-3)
    np.testing.assert_array_equal(Z[2], Z[1])
    assert space.count_unknown([["whale"], ["sea", "nothing"]]).tolist() == [0, 1]


def test_unknown_words_are_named_and_all_unknown_is_an_error():
    targets = SemanticTargets("ppmi").fit(TAGS)
    with pytest.warns(UserWarning, match="does not know, which are ignored: 'lion', 'whale'"):
        T = targets.transform([["sea", "whale"], ["lion"]])
    np.testing.assert_array_equal(T[0], targets.transform([["sea"]])[0])
    np.testing.assert_array_equal(T[1], 0)
    with pytest.raises(ValueError, match=r"does not know: 'a', 'b', 'c', 'd', 'e' and 2 more; use"):
        targets.transform([list("abcd"), list("efg")])
    few = {word: vector for word, vector in own_vectors().items() if word != "sand"}
    targets = SemanticTargets(few).fit(TAGS)
    assert targets.ignored_tags_.tolist() == ["sand"]
    with pytest.warns(UserWarning, match="'sand'"):
        targets.transform(TAGS)


# --- Little to learn from ----------------------------------------------------------------------


def test_tags_that_are_all_unique_tell_each_image_from_the_others():
    T = SemanticTargets("ppmi").fit_transform([[f"tag{i}"] for i in range(20)])
    assert np.isfinite(T).all()
    distances = np.linalg.norm(T[:, None] - T, axis=2)
    assert (distances[~np.eye(20, dtype=bool)] > 0.5).all()


@pytest.mark.parametrize("target", ["ppmi", "word2vec", own_vectors()])
def test_one_tag_on_all_images_tells_nothing(target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        T = SemanticTargets(target).fit_transform([["sea"]] * 8)
    np.testing.assert_allclose(T, 0, atol=1e-6)


def test_images_without_tags_change_nothing_for_others():
    expected = SemanticTargets("ppmi").fit_transform(TAGS)
    T = SemanticTargets("ppmi").fit_transform([[], *TAGS, None])
    np.testing.assert_allclose(T[1:-1], expected, atol=1e-6)
    np.testing.assert_array_equal(T[[0, -1]], 0)


@pytest.mark.parametrize("target", ["tfidf", "ppmi", "word2vec", "sem-vectors", own_vectors()])
def test_no_tags_at_all_are_refused(target):
    with pytest.raises(ValueError, match="tags holds no tag at all"):
        SemanticTargets(target).fit([[], None, []])


# --- Bad vectors -------------------------------------------------------------------------------


def missing_rows(words):
    return np.ones((len(words) - 1, 3))


@pytest.mark.parametrize("kind", [SemanticTargets, SemanticSpace])
@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (own_vectors() | {"sea": np.zeros(3)}, "must hold one-dimensional vectors of the same"),
        (own_vectors() | {"sea": np.full(5, np.nan)}, "holds vectors with NaN.* remove"),
        (own_vectors() | {"sea": ["x"] * 5}, "must give vectors of numbers"),
        (own_vectors(["lion", "whale"]), "knows none of the 6 tags"),
        (missing_rows, r"must return one vector for each word .* \(6, n_dimensions\); .* \(5, 3\)"),
        (lambda words: np.ones(len(words)), r".* returned an array of shape \(6,\)"),
        (lambda words: np.ones((len(words), 0)), r".* returned an array of shape \(6, 0\)"),
        (lambda words: np.full((len(words), 2), np.inf), "holds vectors with NaN or infinite"),
        (lambda words: [[0.0]] + [[0.0, 1.0]] * 5, "must give vectors of numbers"),
    ],
)
def test_bad_vectors_are_refused_by_name(kind, vectors, message):
    parameter = "target" if kind is SemanticTargets else "embedding"
    with pytest.raises(ValueError, match=f"^{parameter} {message}"):
        kind(**{parameter: vectors}).fit(TAGS)


@pytest.mark.parametrize(
    ("kind", "name"), [(SemanticTargets, "target"), (SemanticSpace, "embedding")]
)
def test_a_name_that_is_no_file_is_refused_with_the_names_there_are(kind, name):
    with pytest.raises(ValueError, match=f"^{name} must be .*'ppmi'.* no file 'skipgram'"):
        kind(**{name: "skipgram"}).fit(TAGS)


def test_vectors_of_another_width_later_are_refused():
    targets = SemanticTargets(lambda words: np.eye(len(words), 9)).fit(TAGS)
    targets.target.__code__ = (lambda words: np.eye(len(words), 4)).__code__
    with pytest.raises(ValueError, match=r"target gives vectors of length 4, and gave .* 9 in fit"):
        targets.transform([["whale"]])


def test_a_frozen_space_must_be_a_space_that_knows_the_tags():
    with pytest.raises(TypeError, match="FrozenEstimator, but not of a SemanticSpace"):
        SemanticTargets(FrozenEstimator(SemanticTargets())).fit(TAGS)
    with pytest.raises(NotFittedError):
        SemanticTargets(FrozenEstimator(SemanticSpace())).fit(TAGS)
    space = SemanticSpace(3, embedding="ppmi", random_state=0).fit(TAGS)
    with pytest.raises(ValueError, match="target is a space that knows none of the tags"):
        SemanticTargets(FrozenEstimator(space)).fit([["lion"], ["whale"]])


def test_targets_of_encoded_tags_are_those_of_words():
    encoded = encode_tags(TAGS)
    np.testing.assert_array_equal(
        SemanticTargets().fit_transform(encoded), SemanticTargets().fit_transform(TAGS)
    )
