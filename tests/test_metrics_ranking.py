"""Ranking metrics against their definitions, spelled out item by item."""

import itertools
import math
import threading

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import ndcg_score

from skhash.codes import MISSING, pack
from skhash.metrics import (
    _checks,
    _distance_counts,
    _relevance,
    average_precisions,
    chance_level,
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
)
from skhash.metrics._distance_counts import Retrieval
from skhash.tags import encode_tags

DIVISORS = ("min", "relevant", "hits")
TIES = ("expected", "stable", "best", "worst")


def make_case(n_queries, n_database, n_bits, n_labels=4, seed=0):
    """Random codes, near each other so that ties abound, and labels, some images having none."""
    rng = np.random.default_rng(seed)
    query, database = (
        (rng.random((n, n_bits)) < rng.uniform(0.05, 0.95, n_bits)).astype(np.uint8)
        for n in (n_queries, n_database)
    )
    query_labels, database_labels = (
        (rng.random((n, n_labels)) < 0.25).astype(int) for n in (n_queries, n_database)
    )
    query_labels[0] = 0  # nothing is relevant to the first query
    return query, database, query_labels, database_labels


def distances_and_relevance(query, database, query_labels, database_labels):
    """Definitions: differing bits, and a label in common."""
    distances = (query[:, None, :] != database[None, :, :]).sum(axis=2)
    relevant = np.array(
        [[bool((q & d).any()) for d in database_labels] for q in query_labels], dtype=bool
    )
    return distances, relevant


def precision_sum(flags, k):
    """Sum of precisions at the relevant ranks up to k, and the number of these ranks."""
    total, hits = 0.0, 0
    for rank, flag in enumerate(flags[:k], start=1):
        if flag:
            hits += 1
            total += hits / rank
    return total, hits


def ap_of_order(flags, n_relevant, k, divisor):
    """Average precision of one ranking without ties."""
    total, hits = precision_sum(flags, len(flags) if k is None else k)
    most = {
        "relevant": n_relevant,
        "min": n_relevant if k is None else min(n_relevant, k),
        "hits": hits,
    }[divisor]
    return total / most if most else 0.0


def orders(distances, relevant):
    """Relevance along every ranking that random ties may give, each equally likely."""
    groups = [relevant[distances == d].tolist() for d in np.unique(distances)]
    for choice in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield list(itertools.chain(*choice))


def tied_order(distances, relevant, ties):
    """Relevance along the one ranking that deterministic ties give."""
    secondary = {
        "stable": np.arange(len(distances)),
        "best": ~relevant,
        "worst": relevant,
    }[ties]
    return relevant[np.lexsort((secondary, distances))].tolist()


# -- average precision ---------------------------------------------------------------------------


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("k", [None, 1, 2, 3, 4, 5, 7, 9])
def test_expected_ties_are_the_mean_over_all_orders(k, divisor):
    for seed in range(4):
        case = make_case(4, 7, 2, n_labels=2, seed=seed)
        distances, relevant = distances_and_relevance(*case)
        expected = [
            np.mean([ap_of_order(flags, r.sum(), k, divisor) for flags in orders(d, r)])
            for d, r in zip(distances, relevant, strict=True)
        ]
        assert_allclose(average_precisions(*case, k=k, divisor=divisor), expected, atol=1e-12)


@pytest.mark.parametrize("n_bits", [1, 7, 8, 64, 127, 128, 300, 1024])
@pytest.mark.parametrize("ties", ["stable", "best", "worst"])
def test_deterministic_ties_are_those_of_a_sort(n_bits, ties):
    case = make_case(9, 40, n_bits)
    distances, relevant = distances_and_relevance(*case)
    flags = [tied_order(d, r, ties) for d, r in zip(distances, relevant, strict=True)]
    for k, divisor in itertools.product((None, 1, 6, 39, 40, 100), DIVISORS):
        expected = [
            ap_of_order(f, r.sum(), k, divisor) for f, r in zip(flags, relevant, strict=True)
        ]
        found = average_precisions(*case, k=k, divisor=divisor, ties=ties)
        assert_allclose(found, expected, atol=1e-12, err_msg=f"{k=} {divisor=}")


@pytest.mark.parametrize("n_bits", [1, 7, 8, 64, 300])
@pytest.mark.parametrize("k", [None, 10, 500])
def test_expected_ties_of_large_groups_are_the_sum_over_ranks(n_bits, k):
    case = make_case(5, 300, n_bits)
    distances, relevant = distances_and_relevance(*case)
    for found, d, r in zip(average_precisions(*case, k=k), distances, relevant, strict=True):
        # Rank t of a group is relevant with probability R/n; the ranks before it in the group
        # then hold (t - 1) (R - 1) / (n - 1) relevant items on average.
        total, start, hits = 0.0, 0, 0
        for distance in np.unique(d):
            n, in_group = int((d == distance).sum()), int(r[d == distance].sum())
            for t in range(1, n + 1):
                if start + t <= (k or len(d)):
                    before = (t - 1) * (in_group - 1) / (n - 1) if n > 1 else 0
                    total += in_group / n * (hits + 1 + before) / (start + t)
            start, hits = start + n, hits + in_group
        assert_allclose(found, total / max(min(r.sum(), k or len(d)), 1), atol=1e-12)


def test_expected_hits_divisor_of_a_large_group_matches_shuffled_databases():
    query, database, query_labels, database_labels = make_case(3, 60, 1)
    expected = average_precisions(
        query, database, query_labels, database_labels, k=8, divisor="hits"
    )
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(800):
        order = rng.permutation(len(database))
        samples.append(
            average_precisions(
                query,
                database[order],
                query_labels,
                database_labels[order],
                k=8,
                divisor="hits",
                ties="stable",
            )
        )
    error = np.std(samples, axis=0) / math.sqrt(len(samples))
    assert np.all(np.abs(np.mean(samples, axis=0) - expected) <= 5 * error + 1e-12)


def test_expected_ties_do_not_depend_on_the_order_of_the_database_but_stable_ones_do():
    query, database, query_labels, database_labels = make_case(6, 50, 3)
    order = np.random.default_rng(1).permutation(len(database))
    shuffled = (query, database[order], query_labels, database_labels[order])
    case = (query, database, query_labels, database_labels)
    for k in (None, 7):
        assert_allclose(average_precisions(*shuffled, k=k), average_precisions(*case, k=k))
    assert mean_average_precision(*shuffled, ties="stable") != pytest.approx(
        mean_average_precision(*case, ties="stable")
    )


def test_worst_stable_expected_and_best_are_in_order():
    case = make_case(10, 80, 4)
    values = {ties: average_precisions(*case, ties=ties) for ties in TIES}
    for ties in ("stable", "expected"):
        assert np.all(values["worst"] <= values[ties] + 1e-12)
        assert np.all(values[ties] <= values["best"] + 1e-12)
    assert values["worst"].mean() < values["best"].mean() - 0.05


def test_perfect_codes_have_map_one_and_inverted_ones_the_least():
    labels = np.repeat([0, 1], 10)
    codes = np.repeat([[0, 0, 0], [1, 1, 1]], 10, axis=0)
    assert mean_average_precision(codes, codes, labels, labels) == 1.0
    inverted = mean_average_precision(1 - codes, codes, labels, labels)
    assert inverted == pytest.approx(np.mean([i / (10 + i) for i in range(1, 11)]))


# -- empty queries, skipped queries --------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
def test_empty_queries_count_zero_or_not_at_all(ties):
    case = make_case(5, 30, 8)
    values = average_precisions(*case, ties=ties)
    skipped = average_precisions(*case, ties=ties, empty="skip")
    _, relevant = distances_and_relevance(*case)
    is_empty = ~relevant.any(axis=1)
    assert is_empty.any() and not is_empty.all()
    assert np.all(values[is_empty] == 0) and np.all(np.isnan(skipped[is_empty]))
    assert_allclose(skipped[~is_empty], values[~is_empty])
    assert mean_average_precision(*case, ties=ties) == pytest.approx(values.mean())
    assert mean_average_precision(*case, ties=ties, empty="skip") == pytest.approx(
        values[~is_empty].mean()
    )


def test_skipping_all_queries_gives_nan_and_a_warning():
    case = ([[0, 1]], [[0, 1], [1, 1]], np.array([[0, 0]]), np.array([[1, 0], [1, 1]]))
    for metric, arguments in (
        (mean_average_precision, {}),
        (precision_at_k, {"k": 1}),
        (recall_at_k, {"k": 1}),
        (precision_within_radius, {}),
    ):
        assert metric(*case, **arguments) == 0
        with pytest.warns(UndefinedMetricWarning, match="empty='skip'") as caught:
            assert math.isnan(metric(*case, empty="skip", **arguments))
        assert caught[0].filename == __file__


# -- precision and recall ------------------------------------------------------------------------


@pytest.mark.parametrize("n_bits", [1, 7, 8, 64, 300])
def test_precision_and_recall_at_k_agree_with_sorted_rankings(n_bits):
    case = make_case(8, 30, n_bits)
    distances, relevant = distances_and_relevance(*case)
    totals = relevant.sum(axis=1)
    for ties, k in itertools.product(("stable", "best", "worst"), (1, 2, 11, 30, 31, 1000)):
        flags = np.array([tied_order(d, r, ties) for d, r in zip(distances, relevant, strict=True)])
        hits = flags[:, :k].sum(axis=1)
        assert precision_at_k(*case, k, ties=ties) == pytest.approx(hits.mean() / min(k, 30))
        recalls = np.divide(hits, totals, out=np.zeros(len(hits)), where=totals > 0)
        assert recall_at_k(*case, k, ties=ties) == pytest.approx(recalls.mean())
        assert recall_at_k(*case, k, ties=ties, empty="skip") == pytest.approx(
            recalls[totals > 0].mean()
        )


@pytest.mark.parametrize("k", range(1, 9))
def test_expected_precision_at_k_is_the_mean_over_all_orders(k):
    case = make_case(4, 7, 2, n_labels=2, seed=3)
    distances, relevant = distances_and_relevance(*case)
    means = [
        np.mean([np.mean(flags[:k]) for flags in orders(d, r)])
        for d, r in zip(distances, relevant, strict=True)
    ]
    assert precision_at_k(*case, k) == pytest.approx(np.mean(means))


@pytest.mark.parametrize("ties", TIES)
def test_precision_curve_is_precision_at_each_k_in_the_order_given(ties):
    case = make_case(6, 25, 7)
    precision, ks = precision_curve(*case, [9, 1, 40], ties=ties)
    assert ks.tolist() == [9, 1, 40]
    assert_allclose(precision, [precision_at_k(*case, k, ties=ties) for k in (9, 1, 40)])


def test_precision_curve_covers_the_first_thousand_ranks_by_default():
    assert precision_curve(*make_case(2, 25, 7))[1].tolist() == list(range(1, 26))
    assert precision_curve(*make_case(2, 1100, 7))[1].tolist() == list(range(1, 1001))


@pytest.mark.parametrize("n_bits", [1, 7, 8, 64, 300])
@pytest.mark.parametrize("empty", ["zero", "skip"])
def test_precision_and_recall_by_radius_agree_with_their_definition(n_bits, empty):
    case = make_case(7, 40, n_bits)
    distances, relevant = distances_and_relevance(*case)
    if empty == "skip":
        keep = relevant.any(axis=1)
        distances, relevant = distances[keep], relevant[keep]
    curves = {
        average: precision_recall_by_radius(*case, average=average, empty=empty)
        for average in ("micro", "macro")
    }
    assert curves["micro"][2].tolist() == list(range(n_bits + 1))
    for radius in range(n_bits + 1):
        inside = distances <= radius
        hits = inside & relevant
        micro = hits.sum() / max(inside.sum(), 1), hits.sum() / relevant.sum()
        macro = (
            np.mean(hits.sum(axis=1) / np.maximum(inside.sum(axis=1), 1)),
            np.mean(hits.sum(axis=1) / np.maximum(relevant.sum(axis=1), 1)),
        )
        for average, expected in {"micro": micro, "macro": macro}.items():
            found = [curve[radius] for curve in curves[average][:2]]
            assert_allclose(found, expected, atol=1e-12, err_msg=f"{average} {radius}")
        assert precision_within_radius(*case, radius=radius, empty=empty) == pytest.approx(macro[0])
    beyond = precision_within_radius(*case, radius=10 * n_bits, empty=empty)
    assert beyond == pytest.approx(macro[0])


def test_queries_that_retrieve_nothing_have_precision_zero_within_the_radius():
    query, database = [[0, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 0, 1], [0, 0, 0, 0]]
    labels, database_labels = ["a", "a"], ["a", "a"]
    assert precision_within_radius(query, database, labels, database_labels, radius=2) == 0.5
    micro, _, _ = precision_recall_by_radius(query, database, labels, database_labels)
    assert micro[2] == 1.0


# -- graded relevance ----------------------------------------------------------------------------


def shared_labels(query_labels, database_labels):
    return np.array([[int((q & d).sum()) for d in database_labels] for q in query_labels])


def ndcg_of_order(gains, all_gains, k):
    """nDCG of one ranking without ties."""
    ideal = sum(g / math.log2(r + 1) for r, g in enumerate(sorted(all_gains)[::-1][:k], 1))
    return sum(g / math.log2(r + 1) for r, g in enumerate(gains[:k], 1)) / ideal if ideal else 0.0


GAINS = {"linear": lambda shared: shared, "exponential": lambda shared: 2**shared - 1}


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("k", [None, 1, 2, 3, 5, 7, 9])
def test_expected_ndcg_is_the_mean_over_all_orders(k, gain):
    for seed in range(3):
        case = make_case(4, 7, 2, n_labels=5, seed=seed)
        case[2][1:3] = 1
        distances, _ = distances_and_relevance(*case)
        gains = GAINS[gain](shared_labels(*case[2:]))
        assert len(np.unique(gains)) > 2
        expected = [
            np.mean([ndcg_of_order(order, g, k) for order in orders(d, g)])
            for d, g in zip(distances, gains, strict=True)
        ]
        assert ndcg_at_k(*case, k, gain=gain) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("n_bits", [1, 4, 8, 64, 300])
@pytest.mark.parametrize("k", [None, 1, 10, 29, 30, 500])
def test_ndcg_is_that_of_scikit_learn(n_bits, k):
    case = make_case(6, 30, n_bits, n_labels=6)
    distances, relevant = distances_and_relevance(*case)
    gains = np.where(relevant, np.random.default_rng(1).gamma(1, size=relevant.shape), 0)
    scores = -distances.astype(float)
    expected = ndcg_score(shared_labels(*case[2:]), scores, k=k)
    assert ndcg_at_k(*case, k) == pytest.approx(expected)
    for form in (gains, gains.astype(np.float32), sp.csc_array(gains)):
        found = ndcg_at_k(*case[:2], None, None, k, gain=form)
        assert found == pytest.approx(ndcg_score(gains, scores, k=k))


@pytest.mark.parametrize("n_bits", [1, 4, 300])
@pytest.mark.parametrize("ties", ["stable", "best", "worst"])
def test_ndcg_with_deterministic_ties_is_that_of_a_sort(n_bits, ties):
    case = make_case(7, 30, n_bits, n_labels=6)
    distances, _ = distances_and_relevance(*case)
    gains = shared_labels(*case[2:])
    secondary = {"stable": 0 * gains, "best": -gains, "worst": gains}[ties]
    sorted_gains = [
        g[np.lexsort((s, d))] for g, s, d in zip(gains, secondary, distances, strict=True)
    ]
    for k in (None, 1, 5, 30, 100):
        expected = [ndcg_of_order(s, g, k) for s, g in zip(sorted_gains, gains, strict=True)]
        assert ndcg_at_k(*case, k, ties=ties) == pytest.approx(np.mean(expected)), k


def test_ndcg_of_empty_queries_and_of_the_ideal_order():
    codes = [[0, 0], [0, 1], [1, 1]]
    labels = [["a", "b"], ["a"], ["c"]]
    assert ndcg_at_k(codes[:1], codes, labels[:1], labels) == 1.0
    assert ndcg_at_k(codes, codes, [*labels[:1], [], []], labels) == pytest.approx(1 / 3)
    skipped = ndcg_at_k(codes, codes, [*labels[:1], [], []], labels, empty="skip")
    assert skipped == pytest.approx(1.0)


def test_gains_of_zero_and_one_are_relevance():
    case = make_case(6, 30, 8, n_labels=1)
    case[2][1:] = 1
    matrix = distances_and_relevance(*case)[1]
    assert 0 < matrix.mean() < 0.5
    labels = [[["cat"] * row[0] for row in rows.tolist()] for rows in case[2:]]
    curve, ks = metric_curve(*case[:2], *labels, [1, 3, 30], metric="ndcg")
    assert_allclose(curve, [ndcg_at_k(*case[:2], None, None, k, gain=matrix) for k in ks])


@pytest.mark.parametrize(
    ("gain", "labels", "error", "message"),
    [
        ("square", ["cat"], ValueError, "gain must be one of 'linear', 'exponential'"),
        (None, ["cat"], ValueError, "gain must be one of 'linear', 'exponential'"),
        ([[1.0]], None, ValueError, r"gain must have a row per query .* \(1, 2\), got"),
        ([[1.0, -1.0]], None, ValueError, "gain must be finite and at least 0"),
        ([[1.0, np.nan]], None, ValueError, "gain must be finite and at least 0"),
        ([[1.0, np.inf]], None, ValueError, "gain must be finite and at least 0"),
        ([["a", "b"]], None, TypeError, "gain must be .* an array of numbers"),
        ([[1.0, 0.0]], ["cat"], ValueError, "gain is a matrix, .* give None as query_labels"),
        ("linear", None, TypeError, "query_labels must be"),
    ],
)
def test_bad_gains_are_named(gain, labels, error, message):
    database_labels = None if labels is None else ["cat", "dog"]
    with pytest.raises(error, match=message):
        ndcg_at_k([[0, 1]], [[0, 1], [1, 1]], labels, database_labels, gain=gain)


@pytest.mark.parametrize("ties", TIES)
def test_a_curve_is_the_metric_at_each_k(ties):
    case = make_case(6, 25, 7)
    ks = [9, 1, 40]
    for metric, function in (
        ("map", lambda k: mean_average_precision(*case, k=k, ties=ties)),
        ("precision", lambda k: precision_at_k(*case, k, ties=ties)),
        ("recall", lambda k: recall_at_k(*case, k, ties=ties)),
        ("ndcg", lambda k: ndcg_at_k(*case, k, ties=ties)),
    ):
        values, found = metric_curve(*case, ks, metric=metric, ties=ties)
        assert found.tolist() == ks
        assert_allclose(values, [function(k) for k in ks], err_msg=metric)


# -- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
def test_the_number_of_threads_changes_no_digit(ties, monkeypatch):
    monkeypatch.setattr(_distance_counts, "_PAIRS", 1)
    monkeypatch.setattr(_distance_counts, "_FEWEST_QUERIES", 3)
    case = make_case(50, 70, 6)
    assert len(list(Retrieval(*case).rankings())) == 17
    for metric in (
        lambda n_jobs: average_precisions(*case, ties=ties, n_jobs=n_jobs),
        lambda n_jobs: ndcg_at_k(*case, ties=ties, n_jobs=n_jobs),
        lambda n_jobs: metric_curve(*case, metric="map", ties=ties, n_jobs=n_jobs)[0],
        lambda n_jobs: precision_recall_by_radius(*case, average="macro", n_jobs=n_jobs),
        lambda n_jobs: leave_one_out_map(case[1], case[3], ties=ties, n_jobs=n_jobs),
    ):
        one = metric(1)
        for n_jobs in (2, 5, -1, None):
            np.testing.assert_array_equal(metric(n_jobs), one)


def test_threads_run_at_once_and_hand_on_errors(monkeypatch):
    monkeypatch.setattr(_distance_counts, "_PAIRS", 1)
    monkeypatch.setattr(_distance_counts, "_FEWEST_QUERIES", 1)
    case = make_case(8, 20, 6)
    barrier = threading.Barrier(2, timeout=20)  # two must be in it for either to go on
    rank = Retrieval._rank

    def meet(self, *args, **kwargs):
        barrier.wait()
        return rank(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Retrieval, "_rank", meet)
        mean_average_precision(*case, n_jobs=2)

    def fail(self, *args, **kwargs):
        raise MemoryError("no more")

    monkeypatch.setattr(Retrieval, "_rank", fail)
    with pytest.raises(MemoryError, match="no more"):
        mean_average_precision(*case, n_jobs=2)


@pytest.mark.parametrize(
    ("n_jobs", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError), ("all", TypeError)]
)
def test_a_bad_number_of_threads_is_named(n_jobs, error):
    with pytest.raises(error, match="n_jobs must"):
        mean_average_precision(*make_case(3, 5, 4), n_jobs=n_jobs)


# -- chance --------------------------------------------------------------------------------------


def test_chance_level_is_the_share_of_relevant_items():
    _, _, query_labels, database_labels = case = make_case(6, 40, 8)
    _, relevant = distances_and_relevance(*case)
    assert chance_level(query_labels, database_labels) == pytest.approx(relevant.mean())
    keep = relevant.any(axis=1)
    assert chance_level(query_labels, database_labels, empty="skip") == pytest.approx(
        relevant[keep].mean()
    )


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("k", [None, 2, 5])
def test_chance_map_is_the_mean_over_all_orders(k, divisor):
    relevant = [True, True, False, False, True, False]
    expected = np.mean(
        [ap_of_order(flags, 3, k, divisor) for flags in itertools.permutations(relevant)]
    )
    labels = np.where(relevant, "cat", "dog")
    chance = chance_level(["cat"], labels, metric="map", k=k, divisor=divisor)
    assert chance == pytest.approx(expected)


def test_chance_map_of_a_full_ranking_has_the_documented_closed_form():
    n, r = 50, 12
    harmonic = sum(1 / i for i in range(1, n + 1))
    expected = (harmonic + (r - 1) * (n - harmonic) / (n - 1)) / n
    labels = ["cat"] * r + ["dog"] * (n - r)
    assert chance_level(["cat"], labels, metric="map") == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 5, 6, 9])
def test_chance_recall_and_ndcg_are_the_mean_over_all_orders(k):
    labels = [["a", "b"], ["a"], ["c"], [], ["b"], ["c"]]
    gains = [2, 1, 0, 0, 1, 0]
    chance = chance_level([["a", "b"]], labels, metric="ndcg", k=k)
    orders_ = list(itertools.permutations(gains))
    assert chance == pytest.approx(np.mean([ndcg_of_order(o, gains, k) for o in orders_]))
    chance = chance_level([["a", "b"]], labels, metric="recall", k=k)
    assert chance == pytest.approx(np.mean([np.count_nonzero(o[:k]) / 3 for o in orders_]))


# -- leave one out -------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("k", [None, 1, 4, 100])
@pytest.mark.parametrize("n_bits", [1, 8, 64])
def test_leave_one_out_ranks_each_sample_against_the_others(ties, k, n_bits):
    _, codes, _, labels = make_case(1, 25, n_bits, seed=5)
    codes[3] = codes[7] = codes[12]  # twins stay in, only the sample itself goes
    expected = []
    for i in range(len(codes)):
        rest = np.arange(len(codes)) != i
        expected += average_precisions(
            codes[[i]], codes[rest], labels[[i]], labels[rest], ties=ties, k=k
        ).tolist()
    assert leave_one_out_map(codes, labels, ties=ties, k=k) == pytest.approx(np.mean(expected))


def test_leave_one_out_skips_samples_that_share_no_label():
    codes = [[0, 0, 0], [0, 0, 1], [1, 1, 1]]
    assert leave_one_out_map(codes, ["cat", "cat", "dog"], empty="skip") == 1.0
    assert leave_one_out_map(codes, ["cat", "cat", "dog"]) == pytest.approx(2 / 3)
    assert leave_one_out_map(codes, [["cat"], ["cat"], []]) == pytest.approx(2 / 3)


def test_leave_one_out_refuses_a_single_sample_and_names_the_labels():
    with pytest.raises(ValueError, match="codes must have at least 2 samples"):
        leave_one_out_map([[0, 1]], ["cat"])
    with pytest.raises(ValueError, match=r"^tags has 1 rows, expected 2"):
        leave_one_out_map([[0, 1], [1, 1]], ["cat"], name="tags")


# -- inputs --------------------------------------------------------------------------------------


def test_all_forms_of_codes_and_labels_give_the_same_result():
    query, database, query_labels, database_labels = case = make_case(6, 30, 13)
    names = np.array(["sea", "sky", "tree", "cat"])
    lists = [
        [names[row > 0].tolist() for row in labels] for labels in (query_labels, database_labels)
    ]
    expected = average_precisions(*case)
    for found in (
        average_precisions(query.astype(bool), database.astype(float), *lists),
        average_precisions(
            query.tolist(),
            database.tolist(),
            sp.csr_matrix(query_labels),
            sp.csc_array(database_labels),
        ),
        average_precisions(pack(query), pack(database), *lists, packed=True),
    ):
        assert_allclose(found, expected)
    for metric in (precision_within_radius, precision_curve):
        packed = metric(pack(query), pack(database), *lists, packed=True)
        assert_allclose(packed, metric(*case))
    assert leave_one_out_map(pack(database), database_labels, packed=True) == pytest.approx(
        leave_one_out_map(database, database_labels)
    )


def test_frequent_and_rare_labels_are_both_found():
    rng = np.random.default_rng(0)
    n_labels = 400
    share = np.where(np.arange(n_labels) < 5, 0.3, 0.005)
    query_labels, database_labels = ((rng.random((n, n_labels)) < share) * 1 for n in (20, 300))
    relevance = _relevance.SharedLabels(*_checks.label_pair(query_labels, database_labels))
    assert 0 < len(relevance._masks) < n_labels
    relevant = query_labels @ database_labels.T > 0
    marks = np.empty(300, bool)
    for i in range(20):
        assert np.array_equal(relevance.mark(i, out=marks), relevant[i])


def test_results_do_not_depend_on_how_queries_are_blocked(monkeypatch):
    case = make_case(23, 40, 9)
    whole = [average_precisions(*case, ties=ties) for ties in TIES]
    curve = precision_recall_by_radius(*case)
    monkeypatch.setattr(_distance_counts, "_CHUNK", 100)
    for ties, expected in zip(TIES, whole, strict=True):
        assert_allclose(average_precisions(*case, ties=ties), expected)
    assert_allclose(precision_recall_by_radius(*case), curve)


@pytest.mark.parametrize("n", [2, 4, 17, 130, 256, 300])
def test_histogram_counts_each_value(n):
    rng = np.random.default_rng(n)
    # Long enough, and short of, counting bytes in pairs; odd and even.
    for size in (1, 4 * n * n - 1, 4 * n * n, 4 * n * n + 1):
        keys = rng.integers(0, n, size).astype(np.min_scalar_type(n - 1))
        expected = [(keys == value).sum() for value in range(n)]
        assert _distance_counts._histogram(keys, n).tolist() == expected


def test_one_query_and_one_item():
    assert mean_average_precision([[1]], [[0]], ["a"], ["a"], k=5) == 1.0
    assert mean_average_precision([[1]], [[0]], [[]], ["a"]) == 0.0


def test_a_hundred_thousand_distinct_labels_are_fine():
    codes = np.random.default_rng(0).integers(0, 2, (2000, 16))
    # Sample i has labels 50 i, .., 50 i + 50, so it shares one with the next and the one before.
    labels = [[f"tag{50 * i + j}" for j in range(51)] for i in range(2000)]
    columns = (50 * np.arange(2000)[:, None] + np.arange(51)).ravel()
    indicator = sp.csr_array((np.ones(len(columns)), columns, range(0, len(columns) + 1, 51)))
    expected = leave_one_out_map(
        codes, sp.diags_array([1.0, 1.0], offsets=[0, 1], shape=(2000, 2001))
    )
    for form in (labels, indicator):
        assert leave_one_out_map(codes, form) == pytest.approx(expected)


def test_labels_that_the_database_lacks_are_ignored():
    codes, database = [[0, 1]], [[0, 1], [1, 0]]
    assert mean_average_precision(codes, database, [["cat", "new"]], [["cat"], ["dog"]]) == 1.0


def test_labels_of_which_none_is_known_bring_a_warning():
    with pytest.warns(UserWarning, match="database_labels shares no label") as caught:
        assert mean_average_precision([[0, 1]], [[0, 1]], [["cat"]], [["dog"]]) == 0.0
    assert caught[0].filename == __file__


CASE = ([[0, 1]], [[0, 1], [1, 0]], ["cat"], ["cat", "dog"])
ALL_METRICS = [
    mean_average_precision,
    average_precisions,
    lambda *case: precision_at_k(*case, 1),
    lambda *case: recall_at_k(*case, 1),
    ndcg_at_k,
    precision_curve,
    lambda *case: metric_curve(*case, metric="recall"),
    precision_within_radius,
    precision_recall_by_radius,
    report_from_codes,
    lambda _, __, *labels: chance_level(*labels),
]


@pytest.mark.parametrize("metric", ALL_METRICS)
@pytest.mark.parametrize(
    ("query_labels", "database_labels", "message"),
    [
        # Matched by position, the first query would be a dog's.
        ([[0, 1]], ["dog", "cat"], "query_labels holds an indicator.*database_labels labels of"),
        (sp.csr_array([[0, 1]]), [["dog"], ["cat"]], "query_labels holds an indicator"),
        (["cat"], [[0, 1], [1, 0]], "query_labels holds labels of str, and database_labels an ind"),
        ([[0, 1]], [3, 7], "query_labels holds an indicator.*database_labels a number per item"),
        ([7], [[0, 1], [1, 0]], "query_labels holds a number per item"),
        (
            [7],
            ["7", "8"],
            "query_labels holds a number per item, and database_labels labels of str",
        ),
        ([[0, 1, 0]], [[0, 1], [1, 0]], "are indicators of 3 and 2 labels"),
        (sp.csr_array([[0, 1]]), np.eye(2, 3), "are indicators of 2 and 3 labels"),
    ],
)
def test_labels_in_two_forms_are_refused(metric, query_labels, database_labels, message):
    with pytest.raises(ValueError, match="^query_labels and database_labels .*" + message):
        metric(*CASE[:2], query_labels, database_labels)


def test_labels_with_names_are_matched_by_them():
    pandas = pytest.importorskip("pandas")
    codes, database = [[0, 1]], [[0, 1], [1, 0]]
    frame = pandas.DataFrame([[1, 0, 1]], columns=["cat", "bird", "dog"])
    database_frame = pandas.DataFrame([[0, 1], [1, 0]], columns=["dog", "cat"])
    dogs = pandas.DataFrame([[0, 1]], columns=["cat", "dog"])
    for labels in (["cat", "dog"], database_frame):
        assert mean_average_precision(codes, database, frame, labels) == 1.0
        assert mean_average_precision(codes, database, dogs, labels) == 0.5
        assert mean_average_precision(codes, database, ["dog"], labels) == 0.5
        assert mean_average_precision(codes, database, [["bird", "dog"]], labels) == 0.5
    with pytest.raises(ValueError, match="must have the same form"):
        mean_average_precision(codes, database, [[0, 1, 0]], database_frame)
    encoded = encode_tags(["cat", "dog"])
    query = encode_tags(["dog"], vocabulary=encoded.vocabulary)
    assert mean_average_precision(codes, database, query, encoded) == 0.5


def test_queries_without_labels_fit_any_form():
    codes, database = [[0, 1]], [[0, 1], [1, 0]]
    for labels in (["cat", "dog"], [1, 2], [["cat"], []]):
        assert mean_average_precision(codes, database, [[]], labels) == 0.0
        assert mean_average_precision(codes, database, [None], labels) == 0.0
    assert mean_average_precision(codes, database, [2], [1, 2]) == 0.5


def test_a_wrong_number_of_labels_is_told_as_such():
    with pytest.raises(ValueError, match=r"^query_labels has 2 rows, expected 1"):
        mean_average_precision(*CASE[:2], ["cat", "dog"], ["cat", "dog"])


@pytest.mark.parametrize("metric", ALL_METRICS[:-1])
def test_codes_of_samples_that_could_not_be_read_are_refused(metric):
    codes = np.array([[0, 1], [MISSING, MISSING]], np.uint8)
    with pytest.raises(ValueError, match=r"database_codes has 1 row.* read: 1\. Leave"):
        metric(CASE[0], codes, *CASE[2:])


@pytest.mark.parametrize("n_bits", [65_535, 65_536, 70_001])
def test_very_long_codes_are_ranked(n_bits):
    query, database = np.zeros((1, n_bits), np.uint8), np.zeros((3, n_bits), np.uint8)
    database[0] = 1
    database[1, :9] = 1
    labels = ["cat", "dog", "dog"]
    for ties in TIES:
        assert mean_average_precision(query, database, ["cat"], labels, ties=ties) == (
            pytest.approx(1 / 3)
        )
    assert precision_within_radius(query, database, ["dog"], labels, radius=9) == 1.0


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, [[0, 1, 1]], ValueError, "query_codes and database_codes .* got 3 and 2"),
        (0, [[0, 2]], ValueError, "query_codes must hold only 0 and 1"),
        (0, [[0.0, np.nan]], ValueError, "query_codes must hold only 0 and 1"),
        (0, [0, 1], ValueError, "query_codes must have shape"),
        (0, np.empty((0, 2)), ValueError, "query_codes is empty"),
        (0, [["0", "1"]], TypeError, "query_codes must be an array"),
        (1, np.empty((0, 2)), ValueError, "database_codes is empty"),
        (1, np.empty((2, 0)), ValueError, "database_codes has 0 bits"),
        (1, [[0, 1]], ValueError, "database_labels has 2 rows, expected 1"),
        (2, ["cat", "dog"], ValueError, "query_labels has 2 rows, expected 1"),
        (2, "cat", TypeError, "query_labels must be"),
        (2, None, TypeError, "query_labels must be"),
        (3, ["cat"], ValueError, "database_labels has 1 rows, expected 2"),
        (3, [[0.5], [1.0]], ValueError, "database_labels is an indicator"),
    ],
)
@pytest.mark.parametrize("metric", ALL_METRICS[:-1])
def test_bad_codes_and_labels_are_named(metric, place, value, error, message):
    case = list(CASE)
    case[place] = value
    with pytest.raises(error, match=message):
        metric(*case)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mean_average_precision(*CASE, k=0), ValueError, "k must be at least 1, got 0"),
        (lambda: mean_average_precision(*CASE, k=1.5), TypeError, "k must be an integer, got 1.5"),
        (lambda: mean_average_precision(*CASE, k=True), TypeError, "k must be an integer"),
        (lambda: mean_average_precision(*CASE, divisor="k"), ValueError, "divisor must be one of"),
        (lambda: mean_average_precision(*CASE, empty="no"), ValueError, "empty must be one of"),
        (lambda: mean_average_precision(*CASE, ties="no"), ValueError, "ties must be one of"),
        (lambda: average_precisions(*CASE, divisor="no"), ValueError, "divisor must be one of"),
        (lambda: precision_at_k(*CASE, 0), ValueError, "k must be at least 1"),
        (lambda: precision_at_k(*CASE, "1"), TypeError, "k must be an integer"),
        (lambda: precision_at_k(*CASE, 1, empty="no"), ValueError, "empty must be one of"),
        (lambda: precision_at_k(*CASE, 1, ties="no"), ValueError, "ties must be one of"),
        (lambda: recall_at_k(*CASE, -1), ValueError, "k must be at least 1"),
        (lambda: recall_at_k(*CASE, 1, empty="no"), ValueError, "empty must be one of"),
        (lambda: precision_curve(*CASE, [1, 0]), ValueError, "ks must be a non-empty sequence"),
        (lambda: precision_curve(*CASE, []), ValueError, "ks must be a non-empty sequence"),
        (lambda: precision_curve(*CASE, [1.0]), ValueError, "ks must be a non-empty sequence"),
        (lambda: precision_within_radius(*CASE, radius=-1), ValueError, "radius must be at least"),
        (lambda: precision_within_radius(*CASE, radius=0.5), TypeError, "radius must be an int"),
        (lambda: precision_recall_by_radius(*CASE, average="x"), ValueError, "average must be"),
        (lambda: precision_recall_by_radius(*CASE, empty="x"), ValueError, "empty must be one of"),
        (lambda: leave_one_out_map(*CASE[1::2], ties="x"), ValueError, "ties must be one of"),
        (lambda: chance_level(*CASE[2:], metric="x"), ValueError, "metric must be one of"),
        (lambda: chance_level(*CASE[2:], gain="x"), ValueError, "gain must be one of"),
        (lambda: ndcg_at_k(*CASE, 0), ValueError, "k must be at least 1"),
        (lambda: ndcg_at_k(*CASE, ties="no"), ValueError, "ties must be one of"),
        (lambda: metric_curve(*CASE, metric="x"), ValueError, "metric must be one of 'map', 'pre"),
        (lambda: metric_curve(*CASE, metric="map", divisor="x"), ValueError, "divisor must be"),
        (lambda: chance_level(*CASE[2:], divisor="x"), ValueError, "divisor must be one of"),
        (lambda: chance_level([], ["cat"]), ValueError, "query_labels is empty"),
        (lambda: chance_level(["cat"], []), ValueError, "database_labels is empty"),
        (lambda: chance_level("cat", ["cat"]), TypeError, "query_labels must be"),
        (
            lambda: mean_average_precision(*CASE, packed=True),
            ValueError,
            "query_codes must be packed codes",
        ),
    ],
)
def test_bad_options_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
