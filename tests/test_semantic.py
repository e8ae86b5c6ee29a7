"""The semantic space: sparse coding, pooling, correlations, and what tags come to mean."""

import gzip
import os
import pickle
import subprocess
import sys
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from gensim.models import KeyedVectors
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from skhash.datasets import make_social_images
from skhash.semantic import SemanticSpace, SemanticSpaceDisplay, _coding
from skhash.semantic._vectors import _TagLists, look_up_tag_vectors
from skhash.tags import encode_tags

SMALL = {"n_components": 32, "vector_size": 20, "max_iter": 3, "random_state": 0}


@pytest.fixture(scope="module")
def photos():
    return make_social_images(700, image_size=16, random_state=0)


@pytest.fixture(scope="module")
def space(photos):
    return SemanticSpace(**SMALL).fit(photos.tags)


def axis_vectors(words, scale=1.0):
    """A vector for each word, orthogonal to the others."""
    return dict(zip(words, scale * np.eye(len(words)), strict=True))


# --- Sparse coding -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["cd", "lars"])
@pytest.mark.parametrize("center", [True, False])
def test_codes_satisfy_the_optimality_conditions_of_the_lasso(photos, algorithm, center):
    space = SemanticSpace(**SMALL, algorithm=algorithm, center=center).fit(photos.tags)
    alpha = space.alpha_
    for vector, code in zip(space.tag_vectors_, space.tag_codes_.toarray(), strict=True):
        residual = vector - space.mean_ - code @ space.components_
        for atom, value in zip(space.components_, code, strict=True):
            if value:
                assert atom @ residual == pytest.approx(np.sign(value) * alpha, abs=0.01 * alpha)
            else:
                assert abs(atom @ residual) <= 1.01 * alpha


def test_coordinate_descent_and_homotopy_find_the_same_codes(rng):
    V, atoms = rng.normal(size=(30, 12)), rng.normal(size=(10, 12))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = [_coding.encode(V, atoms, 0.5, algorithm) for algorithm in ("cd", "lars")]
    # Coordinate descent ends at a duality gap of 1e-4 |v|^2, which bounds how far losses are from
    # the least. How near codes are by then hangs on scikit-learn: 5e-4 in 1.6, 5e-8 in 1.9.
    losses = [((V - u @ atoms) ** 2).sum(axis=1) / 2 + 0.5 * np.abs(u).sum(axis=1) for u in codes]
    excess = (losses[0] - losses[1]) / (V**2).sum(axis=1)
    assert -1e-12 < excess.min() <= excess.max() < 1e-4
    np.testing.assert_allclose(*codes, atol=2e-3)
    assert 0.1 < np.mean(codes[0] != 0) < 0.9


def test_alpha_is_half_the_lambda_of_the_paper(photos):
    # Without an atom in common use, a code is the soft-thresholded correlation.
    space = SemanticSpace(**SMALL, alpha=0.3).fit(photos.tags)
    assert space.alpha_ == 0.3
    centred = space.tag_vectors_ - space.mean_
    codes = space.tag_codes_.toarray()
    single = np.flatnonzero(np.count_nonzero(codes, axis=1) == 1)
    assert len(single)
    for j in single:
        (k,) = np.flatnonzero(codes[j])
        atom = space.components_[k]
        grid = np.linspace(codes[j, k] - 0.5, codes[j, k] + 0.5, 10001)
        losses = ((centred[j] - grid[:, None] * atom) ** 2).sum(axis=1) + 0.6 * np.abs(grid)
        assert grid[losses.argmin()] == pytest.approx(codes[j, k], abs=1e-3)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.25])
def test_density_is_met(photos, density):
    space = SemanticSpace(**SMALL, density=density).fit(photos.tags)
    assert space.density_ == pytest.approx(density, rel=0.1)
    assert space.density_ == np.mean(space.tag_codes_.toarray() != 0)


def test_density_is_kept_within_what_is_possible():
    words = [f"w{j}" for j in range(40)]
    rng = np.random.default_rng(0)
    vectors = {word: rng.normal(size=4) for word in words}
    tags = [[a, b] for a in words[:20] for b in words[20:]]
    few = SemanticSpace(4, embedding=vectors, density=0.01, random_state=0).fit(tags)
    assert few.density_ == pytest.approx(1 / 4, rel=0.15)  # one a tag
    many = SemanticSpace(40, embedding=vectors, density=1.0, random_state=0).fit(tags)
    assert many.density_ == pytest.approx(2 / 40, rel=0.15)  # half of four dimensions


def test_a_larger_alpha_gives_sparser_codes(photos):
    densities = [
        SemanticSpace(**SMALL, alpha=alpha).fit(photos.tags).density_ for alpha in (0.05, 0.2, 0.8)
    ]
    assert densities == sorted(densities, reverse=True)
    assert densities[0] > 2 * densities[2]


def test_an_alpha_that_leaves_nothing_is_an_error(photos):
    with pytest.raises(ValueError, match="alpha=1000 is too large: all codes are zero"):
        SemanticSpace(**SMALL, alpha=1000.0).fit(photos.tags)


def test_every_sem_word_is_used_and_has_length_one_at_most(space):
    codes = space.tag_codes_.toarray()
    assert codes.any(axis=0).all()
    assert (codes.sum(axis=0) > 0).all()
    assert (np.linalg.norm(space.components_, axis=1) <= 1 + 1e-6).all()


def test_unused_atoms_are_replaced(rng):
    V = np.zeros((20, 8))
    V[:, :4] = rng.normal(size=(20, 4))
    atoms = np.eye(8)  # the last four have nothing to do
    components, codes = _coding._use_all_atoms(V, atoms, 0.3, "cd")
    assert components.shape == (8, 8)
    assert codes.any(axis=0).all()
    np.testing.assert_array_equal(components[:4], atoms[:4])
    np.testing.assert_allclose(np.linalg.norm(components, axis=1), 1)
    assert _coding.kkt_violations(V, components, codes, 0.3).max() < 1e-4


def test_atoms_that_no_replacement_helps_are_dropped():
    # Three directions, and tags that are all coded but for less than alpha.
    V = 2 * np.repeat(np.eye(6)[:3], 4, axis=0)
    components, codes = _coding._use_all_atoms(V, np.eye(6), 1.0, "cd")
    np.testing.assert_array_equal(components, np.eye(6)[:3])
    assert codes.shape == (12, 3)


def test_violations_of_the_optimality_conditions_are_measured():
    V, atoms = np.array([[3.0, 0.2]]), np.eye(2)
    best = np.array([[2.0, 0.0]])
    assert _coding.kkt_violations(V, atoms, best, 1.0) == pytest.approx(0)
    assert _coding.kkt_violations(V, atoms, best + [[0.5, 0]], 1.0) == pytest.approx(0.5)
    assert _coding.kkt_violations(V, atoms, np.zeros((1, 2)), 1.0) == pytest.approx(2)


def test_codes_that_did_not_converge_give_one_warning(photos, monkeypatch):
    monkeypatch.setattr(_coding, "_FINAL_ITER", 1)
    monkeypatch.setattr(_coding.encode, "__kwdefaults__", {"max_iter": 1, "init": None})
    with pytest.warns(ConvergenceWarning, match="tags are only approximate") as caught:
        SemanticSpace(**SMALL).fit(photos.tags)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_there_are_no_more_sem_words_than_tags():
    tags = [["a", "b"], ["b", "c"], ["c", "d"], ["d", "a"]] * 10
    space = SemanticSpace(vector_size=5, random_state=0).fit(tags)
    assert 1 <= space.n_components_ <= 4
    assert space.transform(tags).shape == (40, space.n_components_)


# --- Pooling, correlations, smoothing ----------------------------------------------------------


def test_sem_vectors_are_mean_codes(photos, space):
    codes = dict(zip(space.vocabulary_, space.tag_codes_.toarray(), strict=True))
    Z = space.transform(photos.tags)
    assert isinstance(Z, sp.csr_array)
    assert Z.dtype == np.float32
    assert Z.has_canonical_format
    assert (Z.data != 0).all()
    for z, tags in zip(Z.toarray(), photos.tags, strict=True):
        expected = np.mean([codes[tag] for tag in tags], axis=0) if tags else np.zeros(32)
        np.testing.assert_allclose(z, expected, atol=1e-6)
    assert min(map(len, photos.tags)) == 0


def test_more_images_than_a_block(photos, space):
    tags = list(photos.tags) * 3
    Z = space.transform(tags).toarray()
    np.testing.assert_array_equal(Z[2000:], space.transform(tags[2000:]).toarray())
    assert len(space.transform([["dog"]] * 1024).indptr) == 1025


def test_dense_output_is_the_same(photos, space):
    dense = clone(space).set_params(sparse_output=False).fit(photos.tags)
    Z = dense.transform(photos.tags[:50])
    assert isinstance(Z, np.ndarray)
    assert Z.dtype == np.float32
    np.testing.assert_array_equal(Z, space.transform(photos.tags[:50]).toarray())


@pytest.mark.parametrize("sparse_output", [True, False])
def test_no_images_give_no_sem_vectors(photos, sparse_output):
    space = SemanticSpace(**SMALL, sparse_output=sparse_output).fit(photos.tags)
    assert space.transform([]).shape == (0, 32)


def test_correlation_and_laplacian_equal_their_definitions(photos, space):
    present = space.transform(photos.tags).toarray() != 0
    R = np.zeros((32, 32))
    for k in range(32):
        for q in range(32):
            f_kq = np.sum(present[:, k] & present[:, q])
            if k != q and f_kq:
                R[k, q] = f_kq / (present[:, k].sum() + present[:, q].sum() - f_kq)
    np.testing.assert_allclose(space.correlation_, R, atol=1e-12)
    assert 0 < R.max() <= 1
    L = space.laplacian_
    np.testing.assert_allclose(L, np.diag(R.sum(axis=1)) - R, atol=1e-12)
    z = np.random.default_rng(0).normal(size=32)
    pairs = 0.5 * sum(R[k, q] * (z[k] - z[q]) ** 2 for k in range(32) for q in range(32))
    assert z @ L @ z == pytest.approx(pairs)  # Eq. 5
    assert np.linalg.eigvalsh(L)[0] >= -1e-10


def test_normalized_laplacian(photos, space):
    other = clone(space).set_params(normalized_laplacian=True).fit(photos.tags)
    np.testing.assert_array_equal(other.correlation_, space.correlation_)
    R = space.correlation_
    degrees = R.sum(axis=1)
    expected = np.eye(32) - R / np.sqrt(np.outer(degrees, degrees))
    np.testing.assert_allclose(other.laplacian_, expected, atol=1e-12)
    values = np.linalg.eigvalsh(other.laplacian_)
    assert values[0] >= -1e-10
    assert values[-1] <= 2


@pytest.mark.parametrize("normalized", [True, False])
def test_a_sem_word_that_never_meets_another_has_no_edge(normalized):
    vectors = axis_vectors("abc", 2.0)
    space = SemanticSpace(
        3,
        embedding=vectors,
        center=False,
        alpha=0.1,
        normalized_laplacian=normalized,
        random_state=0,
    ).fit([["a", "b"], ["a", "b"], ["c"]])
    (k,) = np.flatnonzero(space.transform([["c"]]).toarray()[0])
    assert not space.correlation_[k].any()
    assert not space.laplacian_[k].any()
    assert np.isfinite(space.laplacian_).all()


def test_smoothing_minimises_its_objective(photos, space, rng):
    Z = space.transform(photos.tags[:20]).toarray()
    smooth = space.smooth(Z, 0.1)

    def objective(zh, z):
        return 0.5 * np.sum((zh - z) ** 2) + 0.05 * zh @ space.laplacian_ @ zh

    for zh, z in zip(smooth, Z, strict=True):
        best = objective(zh, z)
        for _ in range(5):
            assert objective(zh + 1e-3 * rng.normal(size=32), z) > best
    np.testing.assert_allclose(space.smooth(sp.csr_array(Z), 0.1), smooth)
    np.testing.assert_allclose(space.smooth(Z, 0), Z, atol=1e-7)


def test_smoothing_fills_in_a_removed_tag():
    # Pairs of tags that nearly always come together, with vectors that know nothing of it.
    words = [word for pair in zip("abcd", "ABCD", strict=True) for word in pair]
    rng = np.random.default_rng(0)
    tags = [[words[2 * k], words[2 * k + 1]] for k in rng.integers(4, size=300)]
    tags += [rng.choice(words, 2, replace=False).tolist() for _ in range(60)]
    space = SemanticSpace(
        8, embedding=axis_vectors(words, 2.0), center=False, alpha=0.1, random_state=0
    ).fit(tags)
    codes = dict(zip(space.vocabulary_, space.tag_codes_.toarray(), strict=True))
    for word in "abcd":
        z = space.transform([[word]])
        (zh,) = space.smooth(z, 1.0)
        support = {other: zh @ codes[other] for other in words}
        assert z.toarray()[0] @ codes[word.upper()] == 0
        ranked = sorted(words, key=support.get, reverse=True)
        assert ranked[:2] == [word, word.upper()]
        assert support[word.upper()] > 3 * support[ranked[2]]


@pytest.mark.parametrize(
    ("Z", "beta", "message"),
    [
        (np.zeros((2, 32)), -1.0, "beta must be at least 0"),
        (np.zeros((2, 32)), np.nan, "beta must be at least 0"),
        (np.zeros((2, 31)), 1.0, "Z has 31 columns, expected 32"),
        (np.full((2, 32), np.nan), 1.0, "NaN"),
    ],
)
def test_smoothing_refuses_bad_input(space, Z, beta, message):
    with pytest.raises(ValueError, match=message):
        space.smooth(Z, beta)


# --- What tags come to mean --------------------------------------------------------------------


def test_synonyms_share_sem_words_more_than_chance(photos, space):
    meanings = [photos.tag_concepts[tag] for tag in space.vocabulary_]
    kept = [j for j, concepts in enumerate(meanings) if len(concepts) == 1]
    concept = np.array([meanings[j][0] for j in kept])
    present = (space.tag_codes_[kept].toarray() != 0).astype(float)
    shared = present @ present.T
    synonyms = concept[:, None] == concept
    np.fill_diagonal(synonyms, False)
    others = concept[:, None] != concept
    assert shared[synonyms].mean() > 3 * shared[others].mean()


def test_the_nearest_tags_are_synonyms(photos, space):
    hits = [
        photos.tag_concepts[concept][0] in photos.tag_concepts[similar]
        for concept in photos.label_names
        for similar, _ in space.similar_tags(concept, 3)
    ]
    assert len(hits) == 3 * 16
    assert np.mean(hits) > 0.9


def test_all_tags_of_an_image_are_context_by_default():
    rng = np.random.default_rng(0)
    fillers = [f"m{j}" for j in range(300)]
    pairs = [(f"a{k}", f"z{k}") for k in range(8)]  # first and last of a list of 22
    tags = []
    for _ in range(1000):
        first, last = pairs[rng.integers(8)]
        tags.append([first, *rng.choice(fillers, 20, replace=False), last])

    def found(window):
        space = SemanticSpace(64, vector_size=30, window=window, epochs=3, random_state=0)
        space.fit(tags)
        vectors = space.tag_vectors_ - space.mean_
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        place = {tag: j for j, tag in enumerate(space.vocabulary_)}
        firsts, lasts = ([place[pair[side]] for pair in pairs] for side in (0, 1))
        return np.mean((vectors[firsts] @ vectors[lasts].T).argmax(axis=1) == np.arange(8))

    assert found(None) == 1
    assert found(1) < 0.6


def test_no_tag_of_a_very_long_list_is_left_out():
    indicator = encode_tags([[f"t{j}" for j in range(25_000)], [], ["t1", "t2"]]).indicator
    lists = list(_TagLists(indicator))
    assert [len(tags) for tags in lists] == [10_000, 10_000, 5_000, 2]
    assert len({tag for tags in lists for tag in tags}) == 25_000


def test_top_tags_are_those_with_the_largest_codes(space):
    codes = space.tag_codes_.toarray()
    for k in (0, 31):
        used = {tag: code for tag, code in zip(space.vocabulary_, codes[:, k], strict=True) if code}
        expected = sorted(used.items(), key=lambda item: -abs(item[1]))
        assert space.top_tags(k, 10_000) == expected
        assert space.top_tags(k, 3) == expected[:3]
    for k in (-1, 32):
        with pytest.raises(ValueError, match=f"component must be from 0 to 31, got {k}"):
            space.top_tags(k)


def test_similar_tags_are_those_with_the_largest_cosine(space):
    codes = dict(zip(space.vocabulary_, space.tag_codes_.toarray(), strict=True))

    def cosine(a, b):
        product = np.linalg.norm(codes[a]) * np.linalg.norm(codes[b])
        return codes[a] @ codes[b] / product if product else 0.0

    similar = space.similar_tags("dog", 5)
    for tag, value in similar:
        assert value == pytest.approx(cosine("dog", tag), rel=1e-5)
    largest = sorted((cosine("dog", tag) for tag in codes if tag != "dog"), reverse=True)[:5]
    np.testing.assert_allclose([value for _, value in similar], largest, rtol=1e-5)
    everyone = dict(space.similar_tags("dog", 10_000))
    assert set(everyone) == {tag for tag in codes if tag != "dog" and cosine("dog", tag) > 0}
    with pytest.raises(ValueError, match="tag 'unheard' is not in the vocabulary"):
        space.similar_tags("unheard")


# --- Forms of tags, unknown tags ---------------------------------------------------------------


def test_form_and_order_of_tags_make_no_difference(photos, space, rng):
    encoded = encode_tags(photos.tags)
    forms = {
        "shuffled": [rng.permutation(tags).tolist() for tags in photos.tags],
        "sets": [set(tags) for tags in photos.tags],
        "frame": pd.DataFrame(encoded.indicator.toarray(), columns=encoded.vocabulary),
        "encoded": encoded,
    }
    expected = space.transform(photos.tags).toarray()
    for form, tags in forms.items():
        other = clone(space).fit(tags)
        np.testing.assert_array_equal(other.vocabulary_, space.vocabulary_, err_msg=form)
        np.testing.assert_array_equal(other.tag_vectors_, space.tag_vectors_, err_msg=form)
        np.testing.assert_array_equal(other.transform(tags).toarray(), expected, err_msg=form)
        np.testing.assert_array_equal(space.transform(tags).toarray(), expected, err_msg=form)


def test_columns_of_an_indicator_are_those_of_fit(photos):
    indicator = encode_tags(photos.tags).indicator
    space = SemanticSpace(**SMALL, min_count=20).fit(indicator)
    frequent = np.flatnonzero(indicator.sum(axis=0) >= 20)
    assert 0 < len(frequent) < indicator.shape[1]
    np.testing.assert_array_equal(space.vocabulary_, frequent)
    Z = space.transform(indicator)
    codes = space.tag_codes_.toarray()
    known = indicator.toarray()[:, frequent]
    expected = known @ codes / np.maximum(known.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(Z.toarray(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="tags is an indicator"):
        space.transform(indicator[:, :-1])


def test_rare_tags_are_left_out(photos):
    space = SemanticSpace(**SMALL, min_count=20).fit(photos.tags)
    counts = pd.Series([tag for tags in photos.tags for tag in tags]).value_counts()
    assert set(space.vocabulary_) == set(counts.index[counts >= 20])
    assert set(space.ignored_tags_) == set(counts.index[counts < 20])
    assert len(space.ignored_tags_)


def test_unknown_tags_are_ignored_and_counted(space):
    tags = [["dog", "unheard"], ["unheard", "of"], ["dog"], []]
    Z = space.transform(tags).toarray()
    np.testing.assert_array_equal(Z[0], Z[2])
    assert Z[0].any()
    assert not Z[1].any()
    assert not Z[3].any()
    assert space.count_unknown(tags).tolist() == [1, 2, 0, 0]


def test_a_warning_if_no_tag_at_all_is_known(space):
    with pytest.warns(UserWarning, match="None of the tags is in the vocabulary") as caught:
        Z = space.transform([["DOG"], ["CAT"]])
    assert Z.nnz == 0
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space.transform([[], []])  # images without tags are nothing unusual


@pytest.mark.parametrize(
    ("tags", "error", "message"),
    [
        ([["a"], ["a"]], ValueError, "at least two tags"),
        ([[], []], ValueError, "at least two tags"),
        ("a b", TypeError, "tags must be"),
        ([["a", 1]], TypeError, "tags"),
    ],
)
def test_tags_that_cannot_make_a_space(tags, error, message):
    with pytest.raises(error, match=message):
        SemanticSpace(**SMALL).fit(tags)


@pytest.mark.parametrize("tags", [["a", "b", "c"] * 10, [["a", "b"], ["c", "d"], ["a", "c"]] * 5])
def test_where_tags_hardly_come_together_they_are_counted(tags):
    with pytest.warns(UserWarning, match="word2vec has too little to learn from") as caught:
        space = SemanticSpace(**SMALL).fit(tags)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    counted = SemanticSpace(**SMALL | {"embedding": "ppmi"}).fit(tags)
    np.testing.assert_array_equal(space.tag_vectors_, counted.tag_vectors_)


# --- Given vectors -----------------------------------------------------------------------------

WORDS = ["cat", "dog", "new york", "sea"]
TAGS = [["cat", "dog"], ["sea", "new york"], ["cat", "unknown"], ["sea"]] * 3


@pytest.fixture
def vectors():
    rng = np.random.default_rng(1)
    return {word: rng.normal(size=6).astype(np.float32) for word in WORDS}


def write_vectors(path, vectors, *, header):
    lines = [f"{len(vectors)} 6"] if header else []
    lines += [" ".join([word, *map(repr, vector.tolist())]) for word, vector in vectors.items()]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


@pytest.mark.parametrize("form", ["dict", "gensim", "word2vec", "glove", "glove.gz"])
def test_given_vectors_in_every_form(form, vectors, tmp_path):
    source = vectors
    if form == "gensim":
        source = KeyedVectors(6)
        source.add_vectors(list(vectors), list(vectors.values()))
    elif form != "dict":
        source = tmp_path / form
        others = {"the": np.ones(6), **vectors, "of": np.zeros(6)}
        write_vectors(source, others, header=form == "word2vec")
    space = SemanticSpace(3, embedding=source, random_state=0).fit(TAGS)
    assert space.vocabulary_.tolist() == WORDS
    assert space.ignored_tags_.tolist() == ["unknown"]
    np.testing.assert_array_equal(space.tag_vectors_, [vectors[word] for word in WORDS])
    np.testing.assert_allclose(space.mean_, space.tag_vectors_.mean(axis=0), rtol=1e-6)
    Z = space.transform(TAGS).toarray()
    np.testing.assert_array_equal(Z[2], space.transform([["cat"]]).toarray()[0])
    assert clone(space).fit(TAGS).alpha_ == space.alpha_


@pytest.mark.parametrize("form", ["dict", "gensim", "text"])
def test_vectors_are_found_by_any_spelling_that_looks_the_same(form, vectors, tmp_path):
    spelled = {f"{word}e\u0301": vector for word, vector in vectors.items()}
    composed = {unicodedata.normalize("NFC", word): word for word in spelled}
    assert composed.keys() != spelled.keys()
    source = spelled
    if form == "gensim":
        source = KeyedVectors(6)
        source.add_vectors(list(spelled), list(spelled.values()))
    elif form == "text":
        source = tmp_path / "vectors.txt"
        write_vectors(source, spelled, header=False)
    space = SemanticSpace(3, embedding=source, random_state=0).fit([list(composed)] * 3)
    assert set(space.vocabulary_) == set(composed)
    for tag, vector in zip(space.vocabulary_, space.tag_vectors_, strict=True):
        np.testing.assert_array_equal(vector, spelled[composed[tag]])
    for word in spelled:
        assert space.similar_tags(word) == space.similar_tags(unicodedata.normalize("NFC", word))


def test_gensim_writes_what_a_path_reads(vectors, tmp_path):
    keyed = KeyedVectors(6)
    keyed.add_vectors(list(vectors), list(vectors.values()))
    keyed.save_word2vec_format(str(tmp_path / "vectors.txt"))
    space = SemanticSpace(3, embedding=str(tmp_path / "vectors.txt"), random_state=0).fit(TAGS)
    np.testing.assert_array_equal(space.tag_vectors_, [vectors[word] for word in WORDS])


def test_tags_that_are_numbers_are_looked_up_as_they_are_or_as_text():
    tags = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    rng = np.random.default_rng(0)
    numbers = {j: rng.normal(size=4) for j in range(3)}
    texts = {str(j): vector for j, vector in numbers.items()}
    spaces = [SemanticSpace(2, embedding=v, random_state=0).fit(tags) for v in (numbers, texts)]
    np.testing.assert_array_equal(spaces[0].tag_vectors_, spaces[1].tag_vectors_)


def test_of_a_repeated_word_the_first_vector_counts(tmp_path):
    (tmp_path / "v").write_text("cat 1 2\ndog 3 4\ncat 5 6\nsea 0 1\n")
    space = SemanticSpace(2, embedding=tmp_path / "v", random_state=0).fit(TAGS)
    assert space.tag_vectors_[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\ndog 3\nsea 1 1\n", "line 2: expected a word and 2 numbers"),
        ("cat 1 2\ndog 3 x\n", "line 2: expected a word and 2 numbers"),
        ("2 3\ncat 1 2\n", "line 2: expected a word and 3 numbers"),
        ("cat 1 nan\ndog 3 1\n", "NaN or infinite"),
        ("lion 1 2\ntiger 3 1\n", "knows none of the 5 tags"),
        ("", "knows none of the 5 tags"),
        ("cat 1 2\nlion 3 1\n", "at least two tags"),
    ],
)
def test_bad_files_of_vectors(text, message, tmp_path):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        SemanticSpace(2, embedding=tmp_path / "v.txt").fit(TAGS)


def test_of_a_damaged_file_of_vectors_only_an_error_that_names_it_comes_out(vectors, tmp_path):
    rng, n_refused = np.random.default_rng(0), 0
    for name in ("v.txt", "v.txt.gz"):
        path = tmp_path / name
        write_vectors(path, vectors, header=True)
        whole = path.read_bytes()
        for trial in range(60):
            content = bytearray(whole)
            for place in rng.integers(len(whole), size=trial % 4):
                content[place] = rng.integers(256)
            path.write_bytes(content[: None if trial % 3 else rng.integers(len(whole))])
            try:
                look_up_tag_vectors(np.array(WORDS), path)
            except ValueError as error:
                n_refused += 1
                assert path.name in str(error)
    assert n_refused > 50


WHOLE = gzip.compress(b"cat 1 2\ndog 3 4\n" * 9, mtime=0)


@pytest.mark.parametrize(
    "content",
    [WHOLE[:-12], WHOLE[:-8] + bytes(8), WHOLE[:15] + bytes(50), b"cat 1 2\ndog 3 4\n"],
    ids=["cut off", "checksum", "damaged", "no gzip"],
)
def test_a_torn_gzip_file_of_vectors_is_named(content, tmp_path):
    (tmp_path / "v.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.gz is cut off, damaged or not gzip"):
        SemanticSpace(2, embedding=tmp_path / "v.gz").fit(TAGS)


def test_a_senseless_header_of_vectors_is_named(tmp_path):
    for digits in (12, 25, 5000):
        (tmp_path / "v.txt").write_text(f"2 {'9' * digits}\ncat 1 2\ndog 3 4\n")
        with pytest.raises(ValueError, match=r"v\.txt"):
            SemanticSpace(2, embedding=tmp_path / "v.txt").fit(TAGS)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    (tmp_path / "v.txt").write_text("cat 1 2\ndog 3 4\n", encoding="utf-8-sig")
    space = SemanticSpace(2, embedding=tmp_path / "v.txt", random_state=0).fit(TAGS)
    assert space.vocabulary_.tolist() == ["cat", "dog"]


def test_only_regular_files_of_vectors_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("pipe", "a named pipe"), (".", "a folder")):
        with pytest.raises(OSError, match=f"it is {kind}"):
            SemanticSpace(2, embedding=tmp_path / name).fit(TAGS)


def test_a_binary_file_of_vectors_is_refused_with_advice(tmp_path):
    (tmp_path / "v.bin").write_bytes(b"2 2\ncat \xff\xfe\x80\x81")
    with pytest.raises(ValueError, match=r"not UTF-8 text.*binary=True"):
        SemanticSpace(2, embedding=tmp_path / "v.bin").fit(TAGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cat": np.zeros(5)}, "same length"),
        ({"cat": np.zeros((2, 3))}, "one-dimensional"),
        ({"cat": np.full(6, np.inf)}, "NaN or infinite"),
        (dict.fromkeys(WORDS, np.ones(6)), "All tag vectors are the same"),
    ],
)
def test_bad_mappings_of_vectors(vectors, changes, message):
    with pytest.raises(ValueError, match=message):
        SemanticSpace(2, embedding=vectors | changes).fit(TAGS)


# --- As an estimator ---------------------------------------------------------------------------


def test_one_seed_gives_one_space(photos, space):
    again = SemanticSpace(**SMALL).fit(photos.tags)
    other = SemanticSpace(**SMALL | {"random_state": 1}).fit(photos.tags)
    for name in ("tag_vectors_", "components_", "laplacian_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(space, name))
        assert not np.allclose(getattr(other, name), getattr(space, name))
    assert (again.tag_codes_ != space.tag_codes_).nnz == 0


def test_processes_with_other_hash_seeds_give_the_same_space():
    code = (
        "import zlib\n"
        "from skhash.semantic import SemanticSpace\n"
        "words = [set(f'w{(7 * i + j * j) % 30}' for j in range(5)) for i in range(200)]\n"
        "space = SemanticSpace(12, vector_size=10, random_state=0).fit(words)\n"
        "print(zlib.crc32(space.tag_vectors_.tobytes()),\n"
        "      zlib.crc32(space.tag_codes_.toarray().tobytes()))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs != {""}


def test_import_loads_neither_gensim_nor_matplotlib():
    code = (
        "import sys, skhash.semantic\n"
        "sys.exit(any(name in sys.modules for name in ('gensim', 'matplotlib', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_clone_and_pickle(photos, space):
    assert clone(space).get_params() == space.get_params()
    again = pickle.loads(pickle.dumps(space))
    Z = space.transform(photos.tags)
    assert (again.transform(photos.tags) != Z).nnz == 0
    assert len(pickle.dumps(space)) < 200_000  # no model of gensim inside


def test_fit_leaves_parameters_alone(photos):
    space = SemanticSpace(**SMALL)
    before = space.get_params()
    space.fit(photos.tags)
    assert space.get_params() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda space: space.transform([["dog"]]),
        lambda space: space.count_unknown([["dog"]]),
        lambda space: space.smooth(np.zeros((1, 32)), 1.0),
        lambda space: space.top_tags(0),
        lambda space: space.similar_tags("dog"),
        lambda space: space.get_feature_names_out(),
    ],
)
def test_nothing_goes_before_fit(call):
    with pytest.raises(NotFittedError):
        call(SemanticSpace())


@pytest.mark.parametrize(
    "params",
    [
        {"n_components": 0},
        {"density": 0.0},
        {"density": 1.5},
        {"alpha": 0.0},
        {"algorithm": "omp"},
        {"embedding": 3},
        {"window": 0},
        {"epochs": 0},
    ],
)
def test_bad_parameters_are_named(params, photos):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of SemanticSpace"):
        SemanticSpace(**params).fit(photos.tags)


def test_features_have_names(photos, space):
    names = space.get_feature_names_out()
    assert names[0] == "semanticspace0"
    assert len(names) == space.n_components_
    dense = SemanticSpace(**SMALL, sparse_output=False).set_output(transform="pandas")
    frame = dense.fit_transform(photos.tags)
    assert frame.columns.tolist() == names.tolist()
    with pytest.raises(ValueError, match="sparse"):
        SemanticSpace(**SMALL).set_output(transform="pandas").fit_transform(photos.tags)


def test_tags_are_declared_as_text_vectorizers_declare_documents(space, metadata_routing):
    assert get_tags(space).input_tags.string
    assert not get_tags(space).input_tags.two_d_array
    assert not hasattr(space, "set_fit_request")
    assert not hasattr(space, "set_transform_request")


def test_in_a_pipeline(photos):
    target = photos.labels.toarray()[:, 0]
    model = make_pipeline(SemanticSpace(**SMALL), Ridge(1e-3)).fit(photos.tags, target)
    assert model.score(photos.tags, target) > 0.3


def test_verbose_tells_what_is_going_on(photos, capsys):
    SemanticSpace(**SMALL, verbose=1).fit(photos.tags)
    printed = capsys.readouterr().out
    assert "vectors of" in printed
    assert "pass 3 of 3" in printed


# --- The display -------------------------------------------------------------------------------


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_display_shows_sem_words_and_similar_tags(space, pyplot):
    display = SemanticSpaceDisplay.from_estimator(
        space, components=[3, 0], tags=["dog"], n_tags=4, color="gray"
    )
    assert len(display.axes_) == 3
    titles = [ax.get_title() for ax in display.axes_]
    assert titles == ["sem-word 3", "sem-word 0", "like dog"]
    expected = [space.top_tags(3, 4), space.top_tags(0, 4), space.similar_tags("dog", 4)]
    for ax, tags in zip(display.axes_, expected, strict=True):
        assert [label.get_text() for label in ax.get_yticklabels()] == [tag for tag, _ in tags]
        assert [bar.get_width() for bar in ax.patches] == [value for _, value in tags]
        assert ax.yaxis_inverted()  # the strongest on top
    assert display.figure_ is display.axes_[0].figure


def test_display_of_the_strongest_sem_words_by_default(space, pyplot):
    display = SemanticSpaceDisplay.from_estimator(space)
    strength = np.abs(space.tag_codes_.toarray()).sum(axis=0)
    strongest = np.argsort(-strength)[:6]
    assert [title for title, _ in display.panels] == [f"sem-word {k}" for k in strongest]


def test_display_on_given_axes(space, pyplot):
    _, ax = pyplot.subplots()
    display = SemanticSpaceDisplay.from_estimator(space, tags=["sea"], axes=ax)
    assert display.axes_.tolist() == [ax]
    with pytest.raises(ValueError, match="axes holds 1 axes for 2 panels"):
        SemanticSpaceDisplay.from_estimator(space, tags=["sea", "dog"], axes=[ax])


# --- Real tags ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_tags_beat_bags_of_tags_and_converge(real_data):
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import normalize

    from skhash.tags import tfidf

    folder = real_data / "mirflickr25k"
    lines = (folder / "tags.txt").read_text(encoding="utf-8").splitlines()
    tags = [line.split(",") if line else [] for line in lines]
    labels = np.loadtxt(folder / "labels24.txt", dtype=np.float32)
    rows = np.load(folder / "split_dstdh.npz")
    query = rows["validation"][:300]
    database = np.setdiff1d(rows["database"], rows["validation"])

    def text_map(V):
        V = normalize(V.astype(np.float32))
        similar = V[query] @ V[database].toarray().T
        relevant = labels[query] @ labels[database].T > 0
        return np.mean([average_precision_score(*p) for p in zip(relevant, similar, strict=True)])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = SemanticSpace(random_state=0).fit([tags[i] for i in database])
    assert space.n_components_ == 512
    assert space.density_ == pytest.approx(0.1, rel=0.1)
    assert text_map(space.transform(tags)) > text_map(tfidf(encode_tags(tags).indicator)) + 0.05
