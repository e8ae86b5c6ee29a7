"""The report agrees with the single metrics; the scorer works inside scikit-learn's searches."""

import pickle
import re
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, StandardScaler

from skhash.base import HasherMixin
from skhash.codes import pack
from skhash.metrics import (
    RetrievalComparison,
    chance_level,
    compare_hashers,
    leave_one_out_map,
    mean_average_precision,
    metric_curve,
    ndcg_at_k,
    precision_at_k,
    precision_curve,
    precision_recall_by_radius,
    precision_within_radius,
    recall_at_k,
    report_from_codes,
    retrieval_report,
    retrieval_scorer,
)
from skhash.metrics._formulas import hits_at
from skhash.metrics._table import METRICS, Metric


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    X_query, X_database = rng.standard_normal((12, 9)), rng.standard_normal((60, 9))
    X_database[:, 2], X_database[:, 5] = 1, -1  # two constant bits
    labels = [[["sea", "sky", "cat"][i] for i in row] for row in rng.integers(0, 3, (72, 2))]
    labels[0] = []
    labels[1] = ["new", "sea"]
    return X_query, X_database, labels[:12], labels[12:]


# -- report --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", ["expected", "stable", "best", "worst"])
@pytest.mark.parametrize("k", [None, 7])
@pytest.mark.parametrize("empty", ["zero", "skip"])
@pytest.mark.parametrize("average", ["micro", "macro"])
def test_report_agrees_with_the_single_metrics(case, ties, k, empty, average):
    X_query, X_database, *labels = case
    codes = [(X > 0).astype(np.uint8) for X in (X_query, X_database)]
    ranked = {"empty": empty, "ties": ties}
    report = report_from_codes(
        *codes,
        *labels,
        k=k,
        divisor="relevant",
        at=[3, 200],
        radius=1,
        ks=[1, 5, 30],
        average=average,
        **ranked,
    )
    assert report.map == pytest.approx(
        mean_average_precision(*codes, *labels, k=k, divisor="relevant", **ranked)
    )
    assert report.chance_map == pytest.approx(
        chance_level(*labels, metric="map", k=k, divisor="relevant", empty=empty)
    )
    assert report.chance_precision == pytest.approx(chance_level(*labels, empty=empty))
    assert report.precision_at == pytest.approx(
        {n: precision_at_k(*codes, *labels, n, **ranked) for n in (3, 200)}
    )
    assert report.precision_within_radius == pytest.approx(
        precision_within_radius(*codes, *labels, radius=1, empty=empty)
    )
    curve = precision_curve(*codes, *labels, [1, 5, 30], **ranked)
    assert_allclose([report.precision_curve.precision, report.precision_curve.ks], curve)
    curve = precision_recall_by_radius(*codes, *labels, average=average, empty=empty)
    found = report.precision_recall
    assert_allclose([found.precision, found.recall, found.radius], curve)


def test_report_counts_what_a_reader_should_know(case):
    X_query, X_database, *labels = case
    report = report_from_codes(X_query > 0, X_database > 0, *labels)
    assert (report.n_queries, report.n_database, report.n_bits) == (12, 60, 9)
    assert report.n_constant_bits == 2
    assert report.n_empty_queries == 1
    assert report.n_unknown_labels == 1
    assert report.encode_seconds is None
    assert list(report.precision_at) == [10, 100, 500]
    assert report.precision_curve.ks.tolist() == list(range(1, 61))


def test_report_on_a_hasher_encodes_and_times(case):
    X_query, X_database, *labels = case
    report = retrieval_report(Binarizer(), *case, k=5, at=[2])
    from_codes = report_from_codes(X_query > 0, X_database > 0, *labels, k=5, at=[2])
    assert report.map == from_codes.map
    assert report.encode_seconds > 0
    assert (report.k, report.ties, report.divisor, report.empty) == (5, "expected", "min", "zero")


def test_report_agrees_with_recall_and_ndcg_and_names_what_chance_gives(case):
    X_query, X_database, *labels = case
    codes = [X > 0 for X in (X_query, X_database)]
    at = [3, 200]
    report = report_from_codes(*codes, *labels, at=at, k=7, gain="exponential")
    for n in at:
        assert report.recall_at[n] == pytest.approx(recall_at_k(*codes, *labels, n))
        expected = ndcg_at_k(*codes, *labels, n, gain="exponential")
        assert report.ndcg_at[n] == pytest.approx(expected)
        chance = {"k": n, "gain": "exponential"}
        for metric in ("precision", "recall", "ndcg"):
            assert report[f"chance_{metric}_at"][n] == pytest.approx(
                chance_level(*labels, metric=metric, **chance)
            )
    assert report.chance_map == pytest.approx(chance_level(*labels, metric="map", k=7))
    assert report.chance_precision == pytest.approx(chance_level(*labels))
    assert report.chance_precision_within_radius == pytest.approx(report.chance_precision)
    assert report.chance_precision < report_from_codes(*codes, *labels).chance_map


def test_report_measures_only_what_is_asked(case):
    report = retrieval_report(Binarizer(), *case, metrics=["recall", "map"], at=[4])
    assert [title for title, *_ in report.figures()] == ["recall@4", "MAP"]
    assert "precision_at" not in report
    with pytest.raises(ValueError, match=r"metrics must be one of 'map', .* got 'auc'"):
        retrieval_report(Binarizer(), *case, metrics=["auc"])
    for metrics in ("map", []):
        with pytest.raises(ValueError, match="metrics must be a non-empty list"):
            retrieval_report(Binarizer(), *case, metrics=metrics)


def rows_of(table):
    return {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", r) for r in table.splitlines())}


def test_report_prints_a_table(case):
    report = retrieval_report(Binarizer(), *case, k=5, at=[2], radius=3)
    lines = rows_of(str(report))
    assert lines[""] == ["value", "in random order"]
    assert lines["MAP@5"] == [f"{report.map:.4f}", f"{report.chance_map:.4f}"]
    chance = f"{report.chance_precision:.4f}"
    assert lines["precision@2"] == [f"{report.precision_at[2]:.4f}", chance]
    assert lines["recall@2"] == [f"{report.recall_at[2]:.4f}", f"{2 / 60 * 11 / 12:.4f}"]
    assert lines["nDCG@2"] == [f"{report.ndcg_at[2]:.4f}", f"{report.chance_ndcg_at[2]:.4f}"]
    assert lines["precision within radius 3"] == [f"{report.precision_within_radius:.4f}", chance]
    assert lines["bits (constant ones)"] == ["9 (2)"]
    assert lines["queries x database"] == ["12 x 60"]
    assert "seconds to encode" in lines


def cells_of(table):
    rows = re.findall("<tr>(.*?)</tr>", table)
    return [re.findall("<t[hd]>(.*?)</t[hd]>", row) for row in rows]


def test_report_is_a_table_in_notebooks(case):
    report = retrieval_report(Binarizer(), *case, k=5, at=[2])
    header, *rows = cells_of(report._repr_html_())
    assert header == ["", "value", "in random order"]
    assert ["MAP@5", f"{report.map:.4f}", f"{report.chance_map:.4f}"] in rows
    assert len(rows) == len(str(report).splitlines()) - 1


def test_report_becomes_a_data_frame(case):
    pytest.importorskip("pandas")
    report = retrieval_report(Binarizer(), *case, k=5, at=[2, 9])
    frame = report.to_frame()
    assert frame.columns.tolist() == ["value", "in random order"]
    assert frame.loc["MAP@5"].tolist() == [report.map, report.chance_map]
    assert frame.loc["nDCG@9"].tolist() == [report.ndcg_at[9], report.chance_ndcg_at[9]]
    assert len(frame) == 2 + 3 * 2


def test_a_frame_without_pandas_names_the_package(case, monkeypatch):
    report = retrieval_report(Binarizer(), *case)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas"):
        report.to_frame()


def test_a_new_entry_of_the_table_is_in_reports_scorers_and_curves(case, monkeypatch):
    def success(ranked, cuts):
        return (hits_at(ranked.ranking, cuts) > 0).astype(float)

    monkeypatch.setitem(METRICS, "success", Metric("success", success, "at"))
    _, X_database, *labels = case
    report = retrieval_report(Binarizer(), *case, at=[1, 60], ties="best")
    assert report.success_at[60] == pytest.approx(11 / 12)
    assert "success@60" in str(report)
    assert 0 < report.success_at[1] <= report.success_at[60]
    score = retrieval_scorer("success", k=59)(Binarizer(), X_database, labels[1])
    assert score == 1.0


# -- comparison ----------------------------------------------------------------------------------


@pytest.fixture
def comparison(case):
    hashers = {"middle": Binarizer(), "high & <rare>": Binarizer(threshold=1.5)}
    return compare_hashers(hashers, *case, at=[3], ks=[1, 2])


def test_comparison_holds_a_report_of_each_hasher(case, comparison):
    assert list(comparison) == ["middle", "high & <rare>"]
    alone = retrieval_report(Binarizer(threshold=1.5), *case, at=[3])
    assert comparison["high & <rare>"].map == alone.map
    assert comparison["middle"].map != alone.map


def test_comparison_prints_a_column_for_each_hasher_and_for_chance(comparison):
    reports = list(comparison.values())
    lines = rows_of(str(comparison))
    assert lines[""] == ["random order", "middle", "high & <rare>"]
    assert lines["MAP"] == [f"{v:.4f}" for v in (reports[0].chance_map, *(r.map for r in reports))]
    assert lines["recall@3"][1:] == [f"{report.recall_at[3]:.4f}" for report in reports]
    assert lines["bits"] == ["9", "9"]
    header, *rows = cells_of(comparison._repr_html_())
    assert header == ["", "random order", "middle", "high &amp; &lt;rare&gt;"]
    assert [row[0] for row in rows] == [
        line.split("  ")[0] for line in str(comparison).split("\n")[1:]
    ]


def test_comparison_becomes_a_data_frame(comparison):
    pytest.importorskip("pandas")
    frame = comparison.to_frame()
    assert frame.index.tolist() == ["random order", "middle", "high & <rare>"]
    report = comparison["middle"]
    assert frame["MAP"].tolist()[:2] == [report.chance_map, report.map]
    assert frame.loc["middle", "nDCG@3"] == report.ndcg_at[3]
    assert frame.loc["middle", "bits"] == 9
    assert frame["seconds to encode"].isna().tolist() == [True, False, False]


def test_comparison_refuses_what_cannot_be_compared(case, comparison):
    report = comparison["middle"]
    X_query, X_database, query_labels, _ = case
    others = [["sea"]] * 60
    for other, message in (
        (retrieval_report(Binarizer(), *case, at=[3], k=4), "differ in k"),
        (retrieval_report(Binarizer(), *case, at=[4]), "differ in metrics"),
        (
            retrieval_report(Binarizer(), X_query, X_database, query_labels, others, at=[3]),
            "differ in labels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            RetrievalComparison({"a": report, "b": other})
    with pytest.raises(TypeError, match="hashers must be a dict"):
        compare_hashers([Binarizer()], *case)
    with pytest.raises(ValueError, match="hashers is empty"):
        compare_hashers({}, *case)


def test_report_takes_packed_codes(case):
    X_query, X_database, *labels = case
    plain = report_from_codes(X_query > 0, X_database > 0, *labels)
    packed = report_from_codes(pack(X_query > 0), pack(X_database > 0), *labels, packed=True)
    assert packed.map == pytest.approx(plain.map)
    assert packed.n_bits == 16  # of whole bytes; the filling is constant
    assert packed.n_constant_bits == 9


def test_report_of_skipped_queries_is_nan_with_a_warning():
    case = ([[0, 1]], [[0, 1], [1, 1]], np.array([[0, 0]]), np.array([[1, 0], [1, 1]]))
    with pytest.warns(UndefinedMetricWarning, match="empty='skip'"):
        report = report_from_codes(*case, empty="skip")
    assert np.isnan(report.map) and np.isnan(report.precision_curve.precision).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"divisor": "x"}, ValueError, "divisor must be one of"),
        ({"empty": "x"}, ValueError, "empty must be one of"),
        ({"ties": "x"}, ValueError, "ties must be one of"),
        ({"average": "x"}, ValueError, "average must be one of"),
        ({"radius": -1}, ValueError, "radius must be at least 0"),
        ({"radius": None}, TypeError, "radius must be an integer"),
        ({"at": [0]}, ValueError, "at must be a non-empty sequence"),
        ({"at": 5}, ValueError, "at must be a non-empty sequence"),
        ({"ks": []}, ValueError, "ks must be a non-empty sequence"),
    ],
)
def test_report_names_bad_options(case, options, error, message):
    with pytest.raises(error, match=message):
        retrieval_report(Binarizer(), *case, **options)


def test_report_names_bad_codes(case):
    _, X_database, *labels = case
    with pytest.raises(ValueError, match="query_codes and database_codes"):
        report_from_codes(np.ones((12, 8)), X_database > 0, *labels)
    with pytest.raises(ValueError, match="query_codes must hold only 0 and 1"):
        retrieval_report(StandardScaler().fit(X_database), *case)


# -- scorer --------------------------------------------------------------------------------------


class ColumnHasher(HasherMixin, BaseEstimator):
    """One bit: the sign of one feature."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        self.n_bits = 1
        self.n_features_in_ = np.shape(X)[1]
        return self

    def decision_function(self, X):
        return np.asarray(X)[:, [self.column]]


@pytest.fixture
def tagged():
    """Feature 0 tells the labels, feature 1 the tags, feature 2 nothing."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    labels = [["good"] if x > 0 else ["bad"] for x in X[:, 0]]
    tags = [["sea", "2007"] if x > 0 else ["wood"] for x in X[:, 1]]
    return X, tags, labels


GRID = {"column": [2, 1, 0]}


def test_scorer_is_leave_one_out_map_within_the_samples(tagged):
    X, tags, labels = tagged
    hasher = ColumnHasher(2).fit(X)
    codes = hasher.transform(X)
    assert retrieval_scorer()(hasher, X, tags) == leave_one_out_map(codes, tags)
    assert retrieval_scorer()(hasher, X, tags, labels=labels) == leave_one_out_map(codes, labels)
    assert retrieval_scorer()(hasher, X, labels=labels) == leave_one_out_map(codes, labels)
    options = {"k": 3, "divisor": "hits", "empty": "skip", "ties": "stable"}
    assert retrieval_scorer(**options)(hasher, X, tags) == leave_one_out_map(codes, tags, **options)


def test_grid_search_without_labels_scores_by_tags(tagged):
    X, tags, _ = tagged
    search = GridSearchCV(ColumnHasher(), GRID, scoring=retrieval_scorer(), cv=3).fit(X, tags)
    assert search.best_params_ == {"column": 1}
    assert search.best_score_ == pytest.approx(1.0)
    assert search.score(X, tags) == pytest.approx(1.0)


def test_grid_search_routes_labels_to_the_scorer(tagged):
    X, tags, labels = tagged
    with config_context(enable_metadata_routing=True):
        scorer = retrieval_scorer().set_score_request(labels=True)
        search = GridSearchCV(ColumnHasher(), GRID, scoring=scorer, cv=3)
        search.fit(X, tags, labels=labels)
        assert search.best_params_ == {"column": 0}
        assert search.best_score_ == pytest.approx(1.0)
        assert search.score(X, tags, labels=labels) == pytest.approx(1.0)


def test_grid_search_routes_labels_through_a_pipeline_under_another_name(tagged):
    X, tags, labels = tagged
    with config_context(enable_metadata_routing=True):
        scorer = retrieval_scorer().set_score_request(labels="truth")
        search = GridSearchCV(
            make_pipeline(StandardScaler(), ColumnHasher()),
            {"columnhasher__column": [2, 1, 0]},
            scoring=clone(scorer),
            cv=3,
        )
        search.fit(X, tags, truth=np.array(labels))
        assert search.best_params_ == {"columnhasher__column": 0}
        assert search.best_score_ > 0.9


def test_labels_that_nobody_requested_are_refused(tagged):
    X, tags, labels = tagged
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(ColumnHasher(), GRID, scoring=retrieval_scorer(), cv=3)
        with pytest.raises(ValueError, match=r"\[labels\] are passed but are not explicitly set"):
            search.fit(X, tags, labels=labels)


def test_several_scorers_at_once(tagged):
    X, tags, labels = tagged
    with config_context(enable_metadata_routing=True):
        scoring = {
            "tags": retrieval_scorer(),
            "labels": retrieval_scorer(k=5).set_score_request(labels=True),
        }
        scoring["tags"].set_score_request(labels=False)
        result = cross_validate(
            ColumnHasher(1), X, tags, scoring=scoring, cv=2, params={"labels": labels}
        )
    assert_allclose(result["test_tags"], 1)
    assert np.all(result["test_labels"] < 0.8)


@pytest.mark.parametrize("metric", ["map", "precision", "recall", "ndcg"])
def test_scorer_of_any_metric_leaves_one_out(tagged, metric):
    X, tags, _ = tagged
    X, tags = X[:25], [row + ["sky"] * (i % 3 == 0) for i, row in enumerate(tags[:25])]
    hasher = ColumnHasher(2).fit(X)
    codes = hasher.transform(X)
    for ties in ("expected", "stable", "best", "worst"):
        expected = []
        for i in range(len(X)):
            rest = [j for j in range(len(X)) if j != i]
            values, _ = metric_curve(
                codes[[i]],
                codes[rest],
                [tags[i]],
                [tags[j] for j in rest],
                [6],
                metric=metric,
                ties=ties,
            )
            expected += values.tolist()
        scorer = retrieval_scorer(metric, k=6, ties=ties)
        assert scorer(hasher, X, tags) == pytest.approx(np.mean(expected)), ties


def test_scorer_within_a_radius(tagged):
    X, tags, _ = tagged
    hasher = ColumnHasher(1).fit(X)
    assert retrieval_scorer("precision_within_radius", radius=0)(hasher, X, tags) == 1.0
    assert retrieval_scorer("precision_within_radius", radius=1)(hasher, X, tags) < 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "auc"}, "metric must be one of"),
        ({"metric": "recall"}, "k must be given for metric='recall'"),
        ({"metric": "precision"}, "k must be given"),
        ({"metric": "ndcg", "gain": "square"}, "gain must be one of"),
        ({"metric": "precision_within_radius", "radius": -1}, "radius must be at least 0"),
    ],
)
def test_scorer_names_bad_options(tagged, arguments, message):
    X, tags, _ = tagged
    with pytest.raises(ValueError, match=message):
        retrieval_scorer(**arguments)(ColumnHasher().fit(X), X, tags)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("scoring", [None, retrieval_scorer()])
def test_a_search_without_tags_and_labels_says_how_to_give_them(tagged, scoring, routing):
    X, _, _ = tagged
    search = GridSearchCV(ColumnHasher(), GRID, scoring=scoring, cv=2)
    with (
        config_context(enable_metadata_routing=routing),
        pytest.warns(UserWarning, match=r"(?s)needs labels or y.*set_score_request\(lab"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(X)
    with config_context(enable_metadata_routing=True):
        hasher = ColumnHasher().set_score_request(labels=True)
        scorer = None if scoring is None else clone(scoring).set_score_request(labels=True)
        search = GridSearchCV(hasher, GRID, scoring=scorer, cv=2)
        search.fit(X, labels=tagged[2])  # what the message says to do
    assert search.best_params_ == {"column": 0}


def test_scorer_survives_clone_pickle_and_shows_its_options():
    scorer = retrieval_scorer(k=5, ties="stable")
    for copy in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert copy.get_params() == scorer.get_params()
    assert repr(scorer) == "RetrievalScorer(k=5, ties='stable')"


def test_scorer_names_what_is_missing(tagged):
    X, tags, _ = tagged
    hasher = ColumnHasher().fit(X)
    with pytest.raises(ValueError, match="needs labels or y"):
        retrieval_scorer()(hasher, X)
    with pytest.raises(ValueError, match=r"^y has 59 rows, expected 60"):
        retrieval_scorer()(hasher, X, tags[1:])
    with pytest.raises(ValueError, match=r"^labels has 59 rows, expected 60"):
        retrieval_scorer()(hasher, X, tags, labels=tags[1:])
    with pytest.raises(ValueError, match="ties must be one of"):
        retrieval_scorer(ties="x")(hasher, X, tags)


def test_score_of_a_hasher_is_leave_one_out_map(tagged):
    X, tags, labels = tagged
    hasher = ColumnHasher(0).fit(X)
    assert hasher.score(X, tags, labels=labels) == pytest.approx(1.0)
    assert hasher.score(X, tags) == leave_one_out_map(hasher.transform(X), tags)
