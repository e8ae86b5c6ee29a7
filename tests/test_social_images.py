"""Rendered photos: what they show, what their tags say, and what can be learned from them."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import euclidean_distances

from skhash.datasets import make_social_images
from skhash.datasets._lexicon import CAMERAS, LOCATIONS, POLYSEMES, PRAISE, SYNONYMS, YEARS
from skhash.datasets._scenery import SCENERY
from skhash.datasets._social import CONDITIONS, PLACES
from skhash.datasets._subjects import SUBJECTS
from skhash.tags import encode_tags, tfidf

CLEAN = dict.fromkeys(
    ("synonym_rate", "polysemy_rate", "noise_rate", "missing_rate", "untagged_rate"), 0.0
)


@pytest.fixture
def make_tags(monkeypatch):
    """Photos left blank, for what they show and their tags; all rates are 0 unless given."""
    blank = np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr("skhash.datasets._scene.render", lambda concepts, size, rng: blank)

    def make(n_samples=500, **arguments):
        arguments = CLEAN | {"random_state": 0} | arguments
        return make_social_images(n_samples, image_size=16, **arguments)

    return make


def shown(data):
    return [set(data.label_names[row.nonzero()[0]]) for row in data.labels.toarray()]


def meanings(data):
    """For each photo, the concepts of each of its tags."""
    return [[set(data.tag_concepts[tag]) for tag in tags] for tags in data.tags]


def test_shapes_and_names():
    data = make_social_images(30, image_size=20, random_state=0)
    assert data.images.shape == (30, 20, 20, 3)
    assert data.images.dtype == np.uint8
    assert len(data.tags) == 30
    assert data.labels.shape == (30, 16)
    assert data.label_names.tolist() == sorted(SYNONYMS)
    assert data.tag_names.tolist() == sorted({tag for tags in data.tags for tag in tags})
    assert set(data.tag_names) <= set(data.tag_concepts)
    assert "30 photos of 20 x 20 pixels" in data.DESCR


def test_return_x_y_gives_the_same_photos_and_tags():
    data = make_social_images(10, image_size=16, random_state=3)
    images, tags = make_social_images(10, image_size=16, random_state=3, return_X_y=True)
    np.testing.assert_array_equal(images, data.images)
    assert tags.tolist() == data.tags.tolist()


def test_a_seed_gives_the_same_photos_in_every_process():
    program = (
        "from hashlib import sha256; from skhash.datasets import make_social_images;"
        "data = make_social_images(40, image_size=32, random_state=7);"
        "content = data.images.tobytes() + str(data.tags.tolist()).encode();"
        "print(sha256(content).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    data = make_social_images(40, image_size=32, random_state=7)
    here = sha256(data.images.tobytes() + str(data.tags.tolist()).encode()).hexdigest()
    assert other.stdout.strip() == here
    different = make_social_images(40, image_size=32, random_state=8)
    assert not np.array_equal(different.images, data.images)


def test_first_photos_do_not_depend_on_how_many_follow():
    few, many = (make_social_images(n, image_size=16, random_state=1) for n in (5, 12))
    np.testing.assert_array_equal(many.images[:5], few.images)
    assert many.tags[:5].tolist() == few.tags.tolist()


def test_rates_change_tags_but_not_photos():
    clean, noisy = (
        make_social_images(20, image_size=16, random_state=0, noise_rate=r) for r in (0, 0.8)
    )
    np.testing.assert_array_equal(clean.images, noisy.images)
    assert clean.tags.tolist() != noisy.tags.tolist()


def test_every_photo_shows_something_and_every_concept_is_shown(make_tags):
    data = make_tags(600)
    assert (data.labels.sum(axis=1) >= 1).all()
    assert (data.labels.sum(axis=1) > 1).mean() > 0.3
    assert (data.labels.sum(axis=0) >= 15).all()


@pytest.mark.parametrize("n_concepts", range(1, 17))
def test_fewer_concepts_leave_nothing_of_the_others(make_tags, n_concepts):
    data = make_tags(100, n_concepts=n_concepts)
    concepts = list(SYNONYMS)[:n_concepts]
    assert data.label_names.tolist() == sorted(concepts)
    assert (data.labels.sum(axis=1) >= 1).all()
    named = {concept for of_tag in data.tag_concepts.values() for concept in of_tag}
    assert named == set(concepts)


def test_without_noise_tags_are_the_names_of_what_is_shown(make_tags):
    data = make_tags()
    for tags, concepts in zip(data.tags, shown(data), strict=True):
        assert set(tags) <= concepts
        assert tags


def test_synonyms_replace_names_at_their_rate(make_tags):
    assert not any(set(tags) & set(SYNONYMS) for tags in make_tags(synonym_rate=1).tags)
    data = make_tags(synonym_rate=0.5, tags_per_image=1)  # one draw: nothing is lost as repeated
    plain = np.mean([tag in SYNONYMS for tags in data.tags for tag in tags])
    assert 0.4 < plain < 0.6
    for concepts, of_tags in zip(shown(data), meanings(data), strict=True):
        assert all(of_tag <= concepts for of_tag in of_tags)


def test_polysemes_name_a_concept_that_is_shown_and_another(make_tags):
    data = make_tags(polysemy_rate=1)
    for concepts, of_tags in zip(shown(data), meanings(data), strict=True):
        assert all(len(of_tag) == 2 and of_tag & concepts for of_tag in of_tags)
    share = np.mean(
        [
            tag in POLYSEMES
            for tags in make_tags(polysemy_rate=0.3, tags_per_image=1).tags
            for tag in tags
        ]
    )
    assert 0.2 < share < 0.4


def test_noise_has_its_rate_and_says_nothing(make_tags):
    data = make_tags(noise_rate=1)
    assert not any(of_tag for of_tags in meanings(data) for of_tag in of_tags)
    data = make_tags(noise_rate=0.4, tags_per_image=1)
    assert 0.3 < np.mean([not of_tag for of_tags in meanings(data) for of_tag in of_tags]) < 0.5


def test_a_photo_has_one_camera_year_and_place(make_tags):
    for tags in make_tags(noise_rate=1, tags_per_image=20).tags:
        assert sum(bool(set(tags) & set(camera)) for camera in CAMERAS) <= 1
        assert len(set(tags) & set(YEARS)) <= 1
        assert len(set(tags) & set(LOCATIONS)) <= 1


def test_missing_concepts_are_never_mentioned(make_tags):
    assert all(tags == [] for tags in make_tags(missing_rate=1).tags)
    data = make_tags(missing_rate=0.5, tags_per_image=30)  # so many draws name what is mentioned
    mentioned = sum(len(tags) for tags in data.tags) / data.labels.sum()
    assert 0.4 < mentioned < 0.6


def test_untagged_photos_have_their_rate(make_tags):
    assert all(tags == [] for tags in make_tags(untagged_rate=1).tags)
    assert 0.2 < np.mean([tags == [] for tags in make_tags(untagged_rate=0.3).tags]) < 0.4


def test_tags_per_image_is_the_mean_number_of_draws(make_tags):
    data = make_tags(1500, noise_rate=1, tags_per_image=1.5)
    assert 1.3 < np.mean([len(tags) for tags in data.tags]) < 1.6


def test_words_have_the_meanings_they_are_listed_with():
    words = [word for concept, synonyms in SYNONYMS.items() for word in (concept, *synonyms)]
    noise = [*YEARS, *LOCATIONS, *PRAISE, *(word for camera in CAMERAS for word in camera)]
    everything = [*words, *POLYSEMES, *noise]
    assert len(everything) == len(set(everything))
    assert {concept for pair in POLYSEMES.values() for concept in pair} == set(SYNONYMS)


def test_every_concept_is_painted_and_can_be_drawn():
    conditions = set(CONDITIONS)
    places = {place for place in PLACES if place}
    subjects = {subject for _, things in PLACES.values() for subject in things}
    assert places | conditions | subjects == set(SYNONYMS)
    assert places <= set(SCENERY)
    assert subjects == set(SUBJECTS)


def test_pictures_look_like_their_concepts():
    data = make_social_images(500, image_size=16, random_state=0)
    brightness = data.images.mean(axis=(1, 2, 3))
    column = data.label_names.tolist().index
    dark, bright = (brightness[data.labels.toarray()[:, column(c)] == 1] for c in ("night", "snow"))
    assert np.median(dark) < np.median(brightness) < np.median(bright)


def simple_features(images):
    """Histograms of colours in 4 x 4 cells and of gradient directions in 8 x 8, standardised."""
    n, size = len(images), images.shape[1]
    photo, row, pixel = np.arange(n)[:, None, None], np.arange(size)[:, None], np.arange(size)
    colors = np.zeros((n, 4, 4, 27))
    bins = np.clip(images.astype(int) * 3 // 256, 0, 2) @ [9, 3, 1]
    np.add.at(colors, (photo, row * 4 // size, pixel * 4 // size, bins), 1)
    directions = np.zeros((n, 8, 8, 8))
    dy, dx = np.gradient(images.mean(axis=3), axis=(1, 2))
    bins = ((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * 8).astype(int) % 8
    np.add.at(directions, (photo, row * 8 // size, pixel * 8 // size, bins), np.hypot(dy, dx))
    X = np.sqrt(np.hstack([colors.reshape(n, -1), directions.reshape(n, -1)]))
    return (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)


def mean_average_precision(queries, database, relevant):
    """MAP of the rankings by Euclidean distance."""
    ranking = np.argsort(euclidean_distances(queries, database), axis=1)
    hits = np.take_along_axis(relevant, ranking, axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return ((precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)).mean()


def test_tags_tell_more_than_pixels_and_pixels_more_than_chance():
    n_query = 200
    data = make_social_images(1000, image_size=32, random_state=0)
    X = simple_features(data.images)
    relevant = (data.labels[:n_query] @ data.labels[n_query:].T).toarray() > 0

    def from_tags(tags):
        targets = tfidf(encode_tags(tags[n_query:]).indicator).toarray()
        predicted = Ridge(alpha=10_000).fit(X[n_query:], targets).predict(X)
        predicted = PCA(16).fit(predicted[n_query:]).transform(predicted)
        return mean_average_precision(predicted[:n_query], predicted[n_query:], relevant)

    rates = {"noise_rate": 0.7, "missing_rate": 0.7}
    noisy = make_social_images(1000, image_size=16, random_state=0, **rates)
    chance = relevant.mean()
    pixels = mean_average_precision(X[:n_query], X[n_query:], relevant)
    assert 0.15 < chance < 0.4
    assert pixels > chance + 0.05
    assert from_tags(data.tags) > pixels + 0.05
    assert from_tags(noisy.tags) < from_tags(data.tags) - 0.05


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_samples": 0},
        {"n_samples": 2.5},
        {"n_concepts": 0},
        {"n_concepts": 17},
        {"image_size": 15},
        {"tags_per_image": 0.5},
        {"synonym_rate": 1.1},
        {"polysemy_rate": -0.1},
        {"noise_rate": np.nan},
        {"missing_rate": "0.5"},
        {"untagged_rate": None},
        {"random_state": "seed"},
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises((ValueError, TypeError), match=next(iter(arguments))):
        make_social_images(**arguments)
