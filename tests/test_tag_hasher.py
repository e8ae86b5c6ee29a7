"""Words as codes: planted meanings are found, by every hasher that learns from tags."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skhash import (
    ITQ,
    DSHHasher,
    DSTDHHasher,
    DSTDHLinear,
    HammingNeighbors,
    SemanticSpace,
    TagHasher,
    TagITQ,
    TagITQHasher,
    WeaklySupervisedHasher,
)
from skhash.codes import MISSING
from skhash.metrics import mean_average_precision
from skhash.semantic._tag_hasher import TagCodes

WORDS = [["sea", "beach", "sand"], ["tree", "forest", "leaf"], ["cat", "pet", "fur"]]
HASHERS = {
    "TagITQ": TagITQ(16, random_state=0),
    "TagITQ-tfidf": TagITQ(16, target="tfidf", kernel=None, random_state=0),
    "TagITQHasher": TagITQHasher(16, max_epochs=20, lr=0.01, tune=False, random_state=0),
    "DSTDHLinear": DSTDHLinear(16, n_anchors=20, n_concepts=20, random_state=0),
    "DSTDHHasher": DSTDHHasher(
        16, n_anchors=20, n_concepts=20, lr=0.01, tune=False, random_state=0
    ),
    "WeaklySupervisedHasher": WeaklySupervisedHasher(
        DSHHasher(16),
        SemanticSpace(6, embedding="ppmi"),
        max_epochs=20,
        weight_decay=1.0,
        random_state=0,
    ),
    "DSTDHLinear-itq": DSTDHLinear(6, init="itq", n_anchors=20, n_concepts=20, random_state=0),
}


@pytest.fixture(scope="module")
def photos():
    """Features of three themes, two words of its theme on each photo, and the themes."""
    rng = np.random.default_rng(0)
    themes = np.arange(150) % 3
    X = rng.normal(size=(150, 8))
    X[np.arange(150), themes] += 5
    tags = [rng.choice(WORDS[theme], 2, replace=False).tolist() for theme in themes]
    tags[4] = []
    return X, tags, themes


@pytest.mark.parametrize("name", HASHERS)
def test_a_word_finds_the_photos_of_its_theme(photos, name):
    X, tags, themes = photos
    hasher = HASHERS[name].fit(X, tags)
    index = HammingNeighbors(10).fit(hasher.transform(X))
    for theme, words in enumerate(WORDS):
        codes = hasher.transform_tags([[word] for word in words])
        assert codes.shape == (3, hasher.n_bits)
        assert codes.dtype == np.uint8
        assert (themes[index.kneighbors(codes, return_distance=False)] == theme).mean() > 0.9
    again = pickle.loads(pickle.dumps(hasher))
    np.testing.assert_array_equal(again.transform_tags(WORDS), hasher.transform_tags(WORDS))


def test_any_hasher_can_be_asked_in_words(photos):
    X, tags, themes = photos
    itq = ITQ(6, random_state=0).fit(X)
    before = itq.decision_function(X)
    words = TagHasher(itq, random_state=0).fit(X, tags)
    index = HammingNeighbors(10).fit(itq.transform(X))
    found = index.kneighbors(words.transform([["sea"], ["leaf"], ["pet"]]), return_distance=False)
    assert (themes[found] == [[0], [1], [2]]).mean() > 0.9
    np.testing.assert_array_equal(itq.decision_function(X), before)
    assert set(words.vocabulary_) == {word for theme in WORDS for word in theme}


def test_the_map_is_the_ridge_regression_of_decision_values(photos):
    X, tags, _ = photos
    itq = ITQ(6, random_state=0).fit(X)
    words = TagHasher(itq, ridge=0.5, random_state=0).fit(X, tags)
    T = words._codes.targets.transform(tags).astype(float)
    tagged = T.any(axis=1)
    values = itq.decision_function(X)[tagged]
    values /= np.abs(values).mean(axis=0)
    T = T[tagged]
    centred = T - T.mean(axis=0)
    gram = centred.T @ centred
    gram += 0.5 * np.trace(gram) / len(gram) * np.eye(len(gram))
    expected = np.linalg.solve(gram, centred.T @ values).T
    np.testing.assert_allclose(words.coef_, expected, atol=1e-4)


def test_unknown_words_are_named_and_left_out(photos):
    X, tags, _ = photos
    hasher = HASHERS["TagITQ"].fit(X, tags)
    with pytest.warns(UserWarning, match="'submarine'"):
        codes = hasher.transform_tags([["sea", "submarine"], ["submarine"], ["sea"]])
    np.testing.assert_array_equal(codes[0], codes[2])
    assert (codes[1] == MISSING).all()
    with pytest.raises(ValueError, match="'submarine'"):
        hasher.transform_tags([["submarine"]])
    with pytest.raises(ValueError, match="missing_rows"):
        HammingNeighbors().fit(codes)


def test_words_that_no_photo_has_count_if_own_vectors_know_them(photos):
    X, tags, themes = photos
    vectors = {word: np.eye(3)[theme] for theme, words in enumerate(WORDS) for word in words}
    vectors["ocean"] = np.array([0.9, 0.1, 0.0])
    hasher = TagITQ(8, target=vectors, random_state=0).fit(X, tags)
    index = HammingNeighbors(10).fit(hasher.transform(X))
    found = index.kneighbors(hasher.transform_tags([["ocean"]]), return_distance=False)
    assert (themes[found] == 0).all()


def test_without_tags_there_are_no_codes_of_words(photos):
    X, _, _ = photos
    hasher = DSTDHLinear(6, n_anchors=20, n_concepts=20, random_state=0)
    with pytest.raises(NotFittedError):
        hasher.transform_tags([["sea"]])
    with pytest.raises(ValueError, match=r"transform_tags needs .* tags; fit it with y"):
        hasher.fit(X).transform_tags([["sea"]])


def test_few_photos_of_many_are_enough(photos, monkeypatch):
    X, tags, _ = photos
    monkeypatch.setattr("skhash.semantic._tag_hasher.MAX_IMAGES", 60)
    assert isinstance(HASHERS["TagITQ"].fit(X, tags)._tag_codes, TagCodes)
    test_a_word_finds_the_photos_of_its_theme(photos, "TagITQ")


@pytest.mark.parametrize("name", HASHERS)
def test_codes_of_photos_and_tags_lie_between_both(photos, name):
    X, tags, _ = photos
    hasher = HASHERS[name].fit(X, tags)
    np.testing.assert_array_equal(
        hasher.transform_with_tags(X, tags, tag_weight=0), hasher.transform(X)
    )
    mostly_tags = hasher.transform_with_tags(X, tags, tag_weight=1e9)
    tagged = np.array([bool(words) for words in tags])
    np.testing.assert_array_equal(mostly_tags[tagged], hasher.transform_tags(tags)[tagged])
    np.testing.assert_array_equal(mostly_tags[~tagged], hasher.transform(X)[~tagged])


def test_tags_help_where_photos_are_vague(photos):
    X, tags, themes = photos
    hasher = HASHERS["TagITQ"].fit(X, tags)
    rng = np.random.default_rng(1)
    vague = X + rng.normal(scale=4, size=X.shape)
    query = hasher.transform(X)
    alone, both = (
        mean_average_precision(query, codes, themes, themes)
        for codes in (hasher.transform(vague), hasher.transform_with_tags(vague, tags))
    )
    assert both > alone + 0.1
    itq = ITQ(6, random_state=0).fit(X)
    words = TagHasher(itq, random_state=0).fit(X, tags)
    alone, both = (
        mean_average_precision(itq.transform(X), codes, themes, themes)
        for codes in (itq.transform(vague), words.transform_with_tags(vague, tags))
    )
    assert both > alone + 0.1


def test_bad_tags_beside_photos_are_refused_or_left_out(photos):
    X, tags, _ = photos
    hasher = HASHERS["TagITQ"].fit(X, tags)
    with pytest.raises(ValueError, match="tags has 149 images and X 150"):
        hasher.transform_with_tags(X, tags[1:])
    for weight in (-1, np.nan, "much"):
        with pytest.raises(ValueError, match="tag_weight"):
            hasher.transform_with_tags(X, tags, tag_weight=weight)
    with pytest.warns(UserWarning, match="'submarine'"):
        codes = hasher.transform_with_tags(X, [["submarine"]] * 150)
    np.testing.assert_array_equal(codes, hasher.transform(X))
    np.testing.assert_array_equal(hasher.transform_with_tags(X, [[]] * 150), hasher.transform(X))
    with pytest.raises(ValueError, match=r"transform_with_tags needs .* fit it with y"):
        DSTDHLinear(6, n_anchors=20, n_concepts=20).fit(X).transform_with_tags(X, tags)
