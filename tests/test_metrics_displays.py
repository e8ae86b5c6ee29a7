"""Displays draw what the metrics measured."""

import builtins

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.preprocessing import Binarizer

from skhash.codes import pack
from skhash.metrics import (
    MetricCurveDisplay,
    NeighborsDisplay,
    PrecisionCurveDisplay,
    PrecisionRecallDisplay,
    chance_level,
    compare_hashers,
    metric_curve,
    precision_curve,
    precision_recall_by_radius,
    report_from_codes,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture
def plt():
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 16))
    labels = rng.integers(0, 3, 40)
    return X[:8], X[8:], labels[:8], labels[8:]


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (40, 6, 4, 3), dtype=np.uint8)


def codes_of(case):
    return case[0] > 0, case[1] > 0, case[2], case[3]


# -- curves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_precision_recall_display_draws_the_radii_that_find_something(plt, case, average):
    precision, recall, radius = precision_recall_by_radius(*codes_of(case), average=average)
    display = PrecisionRecallDisplay.from_codes(*codes_of(case), average=average, name="signs")
    found = recall > 0
    assert not found.all()  # no two random codes of 16 bits are the same
    assert_allclose(display.line_.get_data(), (recall[found], precision[found]))
    assert_allclose(display.radius, radius)
    assert display.ax_.get_xlabel() == "Recall" and display.ax_.get_ylabel() == "Precision"
    assert display.line_.get_label() == "signs"
    assert display.chance_level_ is None


def test_precision_curve_display_draws_precision_over_k(plt, case):
    precision, ks = precision_curve(*codes_of(case), [1, 5, 9])
    display = PrecisionCurveDisplay.from_codes(*codes_of(case), ks=[1, 5, 9])
    assert_allclose(display.line_.get_data(), (ks, precision))
    assert display.ax_.get_xlabel() == "Items retrieved"
    assert display.ax_.get_legend() is None  # nothing has a name


@pytest.mark.parametrize("Display", [PrecisionRecallDisplay, PrecisionCurveDisplay])
def test_from_estimator_encodes_and_names_the_curve(plt, case, Display):
    display = Display.from_estimator(Binarizer(), *case)
    expected = Display.from_codes(*codes_of(case))
    assert_allclose(display.precision, expected.precision)
    assert display.ax_.get_legend().get_texts()[0].get_text() == "Binarizer"
    assert Display.from_estimator(Binarizer(), *case, name="b").line_.get_label() == "b"


@pytest.mark.parametrize("Display", [PrecisionRecallDisplay, PrecisionCurveDisplay])
def test_chance_level_is_the_share_of_relevant_items(plt, case, Display):
    display = Display.from_codes(
        *codes_of(case), plot_chance_level=True, chance_level_kw={"color": "red"}
    )
    expected = chance_level(case[2], case[3])
    assert_allclose(display.chance_level_.get_ydata(), expected)
    assert display.chance_level_.get_color() == "red"
    assert display.chance_level == pytest.approx(expected)


@pytest.mark.parametrize("Display", [PrecisionRecallDisplay, PrecisionCurveDisplay])
def test_several_curves_share_axes(plt, case, Display):
    _, ax = plt.subplots()
    first = Display.from_codes(*codes_of(case), name="one", ax=ax, color="green")
    second = Display.from_codes(*codes_of(case), packed=False, name="two", ax=ax)
    assert first.ax_ is second.ax_ is ax and first.figure_ is ax.figure
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert first.line_.get_color() == "green"
    again = first.plot(name="three")
    assert again is first and first.ax_ is not ax and first.line_.get_label() == "three"


def test_displays_take_what_a_report_holds(plt, case):
    report = report_from_codes(*codes_of(case))
    curve = PrecisionRecallDisplay(**report.precision_recall, name="a").plot()
    assert_allclose(curve.precision, precision_recall_by_radius(*codes_of(case))[0])
    curve = PrecisionCurveDisplay(
        **report.precision_curve, chance_level=report.chance_precision
    ).plot(plot_chance_level=True)
    assert_allclose(curve.chance_level_.get_ydata(), chance_level(case[2], case[3]))


@pytest.mark.parametrize("Display", [PrecisionRecallDisplay, PrecisionCurveDisplay])
def test_chance_has_one_entry_in_the_legend(plt, case, Display):
    _, ax = plt.subplots()
    for name in ("one", "two"):
        Display.from_codes(*codes_of(case), name=name, ax=ax, plot_chance_level=True)
    chance = f"random order ({chance_level(case[2], case[3]):.3f})"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", chance, "two"]
    # Another database has another level, which must be told.
    other = (*codes_of(case)[:3], np.append(case[3][1:], [9]))
    Display.from_codes(*other, ax=ax, plot_chance_level=True)
    assert len(ax.get_legend().get_texts()) == 4


@pytest.mark.parametrize(
    ("metric", "label"),
    [("map", "MAP"), ("recall", "Recall"), ("ndcg", "nDCG"), ("precision", "Precision")],
)
def test_any_metric_is_drawn_over_k(plt, case, metric, label):
    ks = [1, 5, 32]
    display = MetricCurveDisplay.from_codes(
        *codes_of(case), metric=metric, ks=ks, plot_chance_level=True, name="signs"
    )
    values, _ = metric_curve(*codes_of(case), ks, metric=metric)
    assert_allclose(display.line_.get_data(), (ks, values))
    chance = [chance_level(case[2], case[3], metric=metric, k=k) for k in ks]
    assert_allclose(display.chance_level_.get_data(), (ks, chance))
    assert display.ax_.get_ylabel() == label
    assert [t.get_text() for t in display.ax_.get_legend().get_texts()] == ["signs", "random order"]


@pytest.mark.parametrize("curve", ["precision_recall", "precision_curve"])
def test_a_comparison_draws_the_curves_of_all(plt, case, curve):
    hashers = {"middle": Binarizer(), "high": Binarizer(threshold=1)}
    comparison = compare_hashers(hashers, *case)
    displays = comparison.plot(curve, linewidth=3)
    assert list(displays) == ["middle", "high"]
    ax = displays["middle"].ax_
    assert displays["high"].ax_ is ax
    chance = f"random order ({comparison['high'].chance_precision:.3f})"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["middle", "high", chance]
    for name, display in displays.items():
        expected = comparison[name][curve].precision
        assert_allclose(display.precision, expected)
        assert display.line_.get_linewidth() == 3
    assert comparison.plot(plot_chance_level=False)["high"].chance_level_ is None
    with pytest.raises(ValueError, match="curve must be one of"):
        comparison.plot("roc")


def test_a_chance_level_that_is_not_known_is_not_drawn(plt):
    display = PrecisionCurveDisplay(np.array([0.5]), np.array([1]))
    with pytest.raises(ValueError, match="chance_level is None"):
        display.plot(plot_chance_level=True)


# -- sheets of neighbours ------------------------------------------------------------------------


def test_sheet_shows_each_query_and_its_nearest_images(plt, case, images):
    query, database, query_labels, database_labels = codes_of(case)
    display = NeighborsDisplay.from_codes(
        query,
        database,
        images[:8],
        images[8:],
        n_neighbors=3,
        query_labels=query_labels,
        database_labels=database_labels,
    )
    distances = (query[:, None] != database[None]).sum(axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :3]
    assert np.array_equal(display.neighbors, nearest)
    assert len(display.images_) == 8 * 4
    for row in range(8):
        shown = [image.get_array() for image in display.images_[4 * row : 4 * row + 4]]
        expected = [images[row], *images[8:][nearest[row]]]
        assert all(np.array_equal(a, b) for a, b in zip(shown, expected, strict=True))
    relevant = query_labels[:, None] == database_labels[nearest]
    assert 0 < relevant.sum() < relevant.size
    green = matplotlib.colors.to_rgba("green")
    assert [
        frame.get_edgecolor() == green for frame in display.frames_
    ] == relevant.ravel().tolist()
    # Told apart without colours, too.
    assert [frame.get_linestyle() == "-" for frame in display.frames_] == relevant.ravel().tolist()


def test_images_stand_in_order_and_keep_their_proportions(plt, case, images):
    query, database, *_ = codes_of(case)
    display = NeighborsDisplay.from_codes(query, database, images[:8], images[8:], n_neighbors=2)
    for i, image in enumerate(display.images_):
        left, right, bottom, top = image.get_extent()
        row, place = divmod(i, 3)
        assert row < top < bottom < row + 1
        assert (bottom - top) / (right - left) == pytest.approx(6 / 4)
        if place:
            assert left > display.images_[i - 1].get_extent()[1]
    assert display.frames_ == []  # nothing is known about relevance
    assert display.ax_.get_ylim() == (8, 0)


def test_sheet_from_estimator_shows_the_samples_themselves_or_given_images(plt, images):
    class Brightness:
        def transform(self, X):
            return np.asarray(X).reshape(len(X), -1)[:, :12] > 127

    queries, database = images[:2], images[2:]
    own = NeighborsDisplay.from_estimator(Brightness(), queries, database, n_neighbors=2)
    assert np.array_equal(own.images_[0].get_array(), queries[0])
    gray = images[..., 0]
    other = NeighborsDisplay.from_estimator(
        Brightness(),
        queries,
        database,
        query_images=gray[:2],
        database_images=gray[2:],
        n_neighbors=2,
    )
    assert np.array_equal(other.neighbors, own.neighbors)
    assert np.array_equal(other.images_[0].get_array(), gray[0])
    assert other.images_[0].get_clim() == (0, 255)


def test_sheet_reads_image_files_of_neighbours_only(plt, tmp_path, images):
    from PIL import Image

    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths[:4], images, strict=False):
        Image.fromarray(image).save(path)
    display = NeighborsDisplay([str(paths[0])], paths[1:], [[2, 0]]).plot()
    shown = [image.get_array() for image in display.images_]
    assert all(np.array_equal(a, images[i]) for a, i in zip(shown, [0, 3, 1], strict=True))
    large = tmp_path / "large.jpg"
    Image.fromarray(np.zeros((900, 1200, 3), np.uint8)).save(large)
    display = NeighborsDisplay([large], [large], [[0]]).plot()
    assert display.images_[0].get_array().shape == (192, 256, 3)


def test_sheet_shows_photos_upright(plt, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    display = NeighborsDisplay([tmp_path / "a.jpg"], [tmp_path / "a.jpg"], [[0]]).plot()
    assert display.images_[0].get_array().shape == (30, 20, 3)


def test_sheet_takes_packed_codes_axes_and_a_size(plt, case, images):
    query, database, *_ = codes_of(case)
    _, ax = plt.subplots()
    arguments = (pack(query), pack(database), images[:8], images[8:])
    display = NeighborsDisplay.from_codes(*arguments, packed=True, n_neighbors=3, ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    large = NeighborsDisplay.from_codes(*arguments, packed=True, n_neighbors=3, size=2)
    assert large.figure_.get_size_inches()[1] == 16


def test_more_neighbours_than_the_database_has_shows_them_all(plt, case, images):
    query, database, *_ = codes_of(case)
    display = NeighborsDisplay.from_codes(query, database, images[:8], images[8:], n_neighbors=99)
    assert display.neighbors.shape == (8, 32)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_neighbors": 0}, ValueError, "n_neighbors must be at least 1"),
        ({"n_neighbors": 2.0}, TypeError, "n_neighbors must be an integer"),
        ({"query_labels": ["a"] * 8}, ValueError, "both query_labels and database_labels"),
        (
            {"query_labels": ["a"] * 7, "database_labels": ["a"] * 32},
            ValueError,
            "query_labels has 7 rows, expected 8",
        ),
        (
            {"query_labels": np.eye(8), "database_labels": ["a", "b"] * 16},
            ValueError,
            "query_labels and database_labels must have the same form",
        ),
    ],
)
def test_sheet_names_bad_options(plt, case, images, options, error, message):
    query, database, *_ = codes_of(case)
    with pytest.raises(error, match=message):
        NeighborsDisplay.from_codes(query, database, images[:8], images[8:], **options)


def test_sheet_names_images_and_neighbours_that_do_not_fit(plt, case, images):
    query, database, *_ = codes_of(case)
    with pytest.raises(ValueError, match="query_images has 7 images for 8 codes"):
        NeighborsDisplay.from_codes(query, database, images[:7], images[8:])
    with pytest.raises(ValueError, match="database_images has 8 images for 32 codes"):
        NeighborsDisplay.from_codes(query, database, images[:8], images[:8])
    with pytest.raises(ValueError, match="neighbors must have one row per query image"):
        NeighborsDisplay(images[:2], images, [[0]]).plot()
    with pytest.raises(ValueError, match="relevant must have the shape of neighbors"):
        NeighborsDisplay(images[:1], images, [[0]], relevant=[[True, False]]).plot()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch, case, images):
    original = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    message = r'pip install "scikit-hash\[plot\]"'
    with pytest.raises(ImportError, match=f"PrecisionRecallDisplay.* {message}"):
        PrecisionRecallDisplay.from_codes(*codes_of(case))
    with pytest.raises(ImportError, match=f"NeighborsDisplay.* {message}"):
        NeighborsDisplay(images[:1], images, [[0]]).plot()
