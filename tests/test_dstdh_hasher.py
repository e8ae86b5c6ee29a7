"""DSTDHHasher: rounds of codes and network, and what comes of them."""

import inspect
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pytest
import torch
from _photos import colour_grid
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_networks_hasher import Counting, weights_of

from skhash import ITQ, DSTDHHasher, DSTDHLinear
from skhash.codes import missing_rows
from skhash.datasets import make_social_images
from skhash.dstdh import _transfer
from skhash.dstdh._alm import DiscreteALM
from skhash.metrics import leave_one_out_map

N_SAMPLES = 90


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def make_hasher(**changes):
    """Small, on features."""
    settings = {
        "n_bits": 6, "backbone": None, "n_anchors": 10, "n_concepts": 12, "hidden_layers": (),
        "init": "itq", "dropout": 0.0, "max_epochs": 5, "lr": 0.01, "batch_size": 30, "n_rounds": 3,
        "nu": 0.5, "random_state": 0,
    }  # fmt: skip
    return DSTDHHasher(**{**settings, **changes})


@pytest.fixture(scope="module")
def samples():
    """Features with four clusters, tags that name the cluster now and then, and its labels."""
    rng = np.random.default_rng(1)
    labels = np.arange(N_SAMPLES) % 4
    X = rng.normal(size=(N_SAMPLES, 8)).astype(np.float32)
    X[np.arange(N_SAMPLES), labels] += 3
    words, noise = ["sea", "tree", "face", "cat"], np.array(["nikon", "2007", "wow"])
    tags = [
        [words[label]] * (rng.random() < 0.7) + noise[rng.random(3) < 0.3].tolist()
        for label in labels
    ]
    return X, tags, labels


@pytest.fixture
def photos(rng):
    """Noise tinted by label, and tags that name the tint."""
    labels = np.arange(30) % 3
    pixels = rng.integers(0, 160, (30, 16, 16, 3))
    pixels[np.arange(30), :, :, labels] += 90
    Counting.seen = 0
    return pixels.astype(np.uint8), [["red", "green", "blue"][k : k + 1] for k in labels], labels


def on_photos(**changes):
    settings = {"backbone": Counting(), "image_size": 16, "n_bits": 4, "n_rounds": 2}
    return make_hasher(**{**settings, "batch_size": 10, "max_epochs": 3, **changes})


@pytest.fixture
def calls(monkeypatch):
    """What is called during fits: optimisers made, their runs, graphs, and trainings."""
    made = {"solvers": [], "runs": [], "graphs": [], "trainings": []}
    signature = inspect.signature(DiscreteALM)

    class Recorded(DiscreteALM):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.arguments = signature.bind(*args, **kwargs).arguments
            made["solvers"].append(self)

        def run(self, max_iter, **kwargs):
            made["runs"].append({"start": self._Z.copy(), "links": self._links, **kwargs})
            n_iter = super().run(max_iter, **kwargs)
            made["runs"][-1]["codes"] = self.codes
            return n_iter

    anchor_graph, train = _transfer.anchor_graph, DSTDHHasher.train_network

    def recorded_graph(X, *args, **kwargs):
        made["graphs"].append(X)
        return anchor_graph(X, *args, **kwargs)

    def recorded_training(self, inputs, targets, loss, **kwargs):
        before = self.head_.state_dict()["layers.0.weight"].clone()
        made["trainings"].append({"targets": targets.copy(), "before": before, **kwargs})
        train(self, inputs, targets, loss, **kwargs)

    monkeypatch.setattr(_transfer, "DiscreteALM", Recorded)
    monkeypatch.setattr(_transfer, "anchor_graph", recorded_graph)
    monkeypatch.setattr(DSTDHHasher, "train_network", recorded_training)
    return made


# ------------------------------------------------------------------------------- the rounds


def test_rounds_go_on_where_the_last_one_stopped(samples, calls):
    X, tags, _ = samples
    hasher = make_hasher(tol=0.0, max_iter=4).fit(X, tags)
    (solver,) = calls["solvers"]
    runs, trainings = calls["runs"], calls["trainings"]
    assert len(runs) == len(trainings) == 3
    for earlier, later in pairwise(runs):
        np.testing.assert_array_equal(later["start"], earlier["codes"])
    for run, training in zip(runs, trainings, strict=True):
        np.testing.assert_array_equal(training["targets"], run["codes"])
    for earlier, later in pairwise(trainings):
        assert not torch.equal(later["before"], earlier["before"])
    np.testing.assert_array_equal(hasher.codes_, runs[-1]["codes"] > 0)
    assert solver.mu == pytest.approx(0.01 * 1.1**hasher.n_iter_)


def test_the_network_has_a_say_once_it_has_been_trained(samples, calls):
    X, tags, _ = samples
    hasher = make_hasher(n_rounds=2).fit(X, tags)
    first, second = (run["phi"] for run in calls["runs"])
    assert first is None
    after_one_round = make_hasher(n_rounds=1).fit(X, tags)
    np.testing.assert_allclose(second, after_one_round.decision_function(X), atol=1e-6)
    assert np.abs(second).max() < 1  # tanh, on the scale of codes
    assert all("network" in row for row in hasher.history_ if row["round"] == 2)
    assert not any("network" in row for row in hasher.history_ if row["round"] == 1)


def test_a_heavy_network_decides_the_codes_of_later_rounds(samples, calls):
    X, tags, _ = samples
    make_hasher(n_rounds=2, nu=1e4).fit(X, tags)
    run = calls["runs"][1]
    np.testing.assert_array_equal(run["codes"], np.where(run["phi"] >= 0, 1, -1))
    light = make_hasher(n_rounds=2, nu=0.0).fit(X, tags)
    assert (light.codes_ != (run["codes"] > 0)).any()


def test_the_first_round_solves_the_problem_of_the_linear_form(samples, calls):
    X, tags, _ = samples
    for switch in ({}, {"direct": False}, {"indirect": False}, {"use_tags": False},
                   {"denoise": False}, {"discrete": False}, {"init": "itq"}):  # fmt: skip
        calls["runs"].clear()
        hasher = make_hasher(n_rounds=1, **switch).fit(X, tags)
        parameters = {k: v for k, v in hasher.get_params().items() if k in
                      inspect.signature(_transfer.SemanticTransfer).parameters}  # fmt: skip
        seed = np.random.RandomState(0).randint(2**31 - 1)
        linear = DSTDHLinear(6, random_state=int(seed), **parameters).fit(X, tags)
        np.testing.assert_array_equal(hasher.codes_, linear.codes_)
        np.testing.assert_allclose(hasher.objective_, linear.objective_)
        np.testing.assert_array_equal(hasher.vocabulary_, linear.vocabulary_)


def test_history_tells_the_terms_of_the_objective(samples):
    X, tags, _ = samples
    hasher = make_hasher().fit(X, tags)
    terms = ("tags", "visual", "conceptual", "network")
    for row, objective in zip(hasher.history_, hasher.objective_, strict=True):
        assert row["objective"] == objective
        assert objective == pytest.approx(sum(row.get(term, 0) for term in terms))
        assert 0 <= row["changed"] <= 1
        assert row["visual"] < 0 < row["tags"]
    rounds = [row["round"] for row in hasher.history_]
    assert rounds == sorted(rounds)
    assert set(rounds) == {1, 2, 3}
    assert hasher.n_iter_ == len(rounds)
    assert [(row["round"], row["epoch"]) for row in hasher.epochs_] == [
        (k, epoch) for k in (1, 2, 3) for epoch in range(1, 6)
    ]


def test_the_objective_falls_within_a_round(samples):
    X, tags, _ = samples
    hasher = make_hasher(tol=0.0, n_rounds=2, max_iter=10, tag_weight=1.0).fit(X, tags)
    for k in (1, 2):
        values = [row["objective"] for row in hasher.history_ if row["round"] == k]
        assert values[-1] < values[0]
    losses = [row["train_loss"] for row in hasher.epochs_ if row["round"] == 1]
    assert losses[-1] < 0.8 * losses[0]


def test_tags_switched_off_are_tags_not_given(samples):
    X, tags, _ = samples
    expected = make_hasher(use_tags=False).fit(X, tags).decision_function(X)
    np.testing.assert_array_equal(make_hasher().fit(X).decision_function(X), expected)
    assert (make_hasher().fit(X, tags).decision_function(X) != expected).any()


# -------------------------------------------------------------------------------- backbones


def test_a_frozen_backbone_sees_each_image_once_and_graphs_are_built_once(photos, calls):
    pixels, tags, _ = photos
    backbone = Counting()
    hasher = on_photos(backbone=backbone, n_rounds=3).fit(pixels, tags)
    assert Counting.seen == 30
    assert len(calls["graphs"]) == 1
    for weight, start in zip(hasher.backbone_.parameters(), backbone.parameters(), strict=True):
        assert torch.equal(weight, start)


def test_a_trained_backbone_gives_new_features_and_graphs_in_each_round(photos, calls):
    pixels, tags, _ = photos
    backbone = Counting()
    hasher = on_photos(backbone=backbone, trainable="all", n_rounds=3).fit(pixels, tags)
    first, second, third = calls["graphs"]
    assert not np.allclose(first, second)
    assert not np.allclose(second, third)
    links = [run["links"] for run in calls["runs"]]
    assert links[0] is not links[1]
    assert links[1] is not links[2]
    assert any(
        not torch.equal(weight, start)
        for weight, start in zip(hasher.backbone_.parameters(), backbone.parameters(), strict=True)
    )
    only_second = on_photos(backbone=backbone, trainable=["second"]).fit(pixels, tags)
    trained = {
        name.split(".")[-2]
        for (name, weight), start in zip(
            only_second.backbone_.named_parameters(), backbone.parameters(), strict=True
        )
        if not torch.equal(weight, start)
    }
    assert trained == {"second"}


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_unreadable_images_take_no_part_and_rows_stay_aligned(photos, tmp_path, trainable):
    from PIL import Image

    pixels, tags, _ = photos
    paths = [tmp_path / f"{i}.png" for i in range(30)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    paths[4].write_text("no image")
    with pytest.warns(UserWarning, match=r"1 of 30 images .*4\.png"):
        hasher = on_photos(trainable=trainable, on_error="skip").fit(paths, tags)
    good = np.setdiff1d(np.arange(30), [4])
    without = on_photos(trainable=trainable).fit(pixels[good], [tags[i] for i in good])
    assert torch.equal(weights_of(hasher), weights_of(without))
    np.testing.assert_array_equal(hasher.codes_[good], without.codes_)
    np.testing.assert_array_equal(np.flatnonzero(missing_rows(hasher.codes_)), [4])
    with pytest.warns(UserWarning, match="cannot be read"):
        values = hasher.decision_function(paths)
    np.testing.assert_allclose(values[good], without.decision_function(pixels[good]), atol=1e-5)
    assert np.isnan(values[4]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", [False, True])
def test_a_gpu_learns_what_a_cpu_learns(photos, amp):
    pixels, tags, labels = photos
    hasher = on_photos(trainable="all", device="cuda", amp=amp).fit(pixels, tags)
    assert hasher.score(pixels, labels=labels) > 0.9
    assert next(hasher.head_.parameters()).device.type == "cpu"


# ------------------------------------------------------------------------ stop and resume

SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, {folder!r})
    import numpy as np
    import torch
    from skorch.callbacks import Callback
    from test_dstdh_hasher import on_photos

    class Kill(Callback):
        n_trainings = 0
        def on_train_begin(self, net, **kwargs):
            self.n_trainings += 1
        def on_batch_begin(self, net, **kwargs):
            if self.n_trainings == 2 and len(net.history) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    photos = np.load({photos!r}, allow_pickle=True)
    hasher = on_photos(trainable="all", checkpoint={checkpoint!r}, callbacks=[Kill()])
    hasher.fit(photos["pixels"], photos["tags"].tolist())
"""


def test_a_killed_fit_goes_on_to_the_same_codes(photos, tmp_path):
    pixels, tags, _ = photos
    np.savez(tmp_path / "photos.npz", pixels=pixels, tags=np.array(tags, dtype=object))
    script = SCRIPT.format(
        folder=os.path.dirname(__file__),
        photos=str(tmp_path / "photos.npz"),
        checkpoint=str(tmp_path / "state"),
    )
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert {"round-1.pt", "round-2.pt"} == {p.name for p in (tmp_path / "state").glob("*.pt")}
    resumed = on_photos(trainable="all", checkpoint=tmp_path / "state").fit(pixels, tags)
    unbroken = on_photos(trainable="all").fit(pixels, tags)
    assert torch.equal(weights_of(resumed), weights_of(unbroken))
    np.testing.assert_array_equal(resumed.codes_, unbroken.codes_)
    np.testing.assert_array_equal(resumed.transform(pixels), unbroken.transform(pixels))
    np.testing.assert_array_equal(resumed.objective_, unbroken.objective_)


def test_more_rounds_go_on_from_a_checkpoint(photos, tmp_path):
    pixels, tags, _ = photos
    on_photos(n_rounds=1, checkpoint=tmp_path / "state").fit(pixels, tags)
    written = os.stat(tmp_path / "state" / "round-1.pt").st_mtime_ns
    more = on_photos(n_rounds=2, checkpoint=tmp_path / "state").fit(pixels, tags)
    assert os.stat(tmp_path / "state" / "round-1.pt").st_mtime_ns == written
    np.testing.assert_array_equal(
        more.decision_function(pixels),
        on_photos(n_rounds=2).fit(pixels, tags).decision_function(pixels),
    )


def test_verbose_tells_of_rounds_and_iterations(samples, capsys):
    X, tags, _ = samples
    hasher = make_hasher(n_rounds=2, verbose=1).fit(X, tags)
    lines = [line for line in capsys.readouterr().out.splitlines() if "DSTDHHasher" in line]
    assert len(lines) == hasher.n_iter_
    assert lines[0].startswith("[DSTDHHasher] round 1/2, iteration 1: objective ")
    assert "round 2/2" in lines[-1]


# ------------------------------------------------------------------- thresholds and presets


def test_thresholds_are_those_of_the_training_images(samples):
    X, tags, _ = samples
    skewed = X.copy()
    skewed[:, 0] += 9 * np.arange(N_SAMPLES) ** 2 / N_SAMPLES**2  # means off the middle
    outputs = make_hasher().fit(skewed, tags).decision_function(skewed)
    for threshold, expected in (
        ("zero", 0.0),
        ("mean", outputs.mean()),
        ("bit-mean", outputs.mean(axis=0)),
    ):
        hasher = make_hasher(threshold=threshold).fit(skewed, tags)
        np.testing.assert_allclose(hasher.threshold_, np.broadcast_to(expected, 6), atol=1e-6)
        codes = hasher.transform(skewed)
        np.testing.assert_array_equal(codes, outputs >= expected)
        assert (codes != (outputs >= 0)).any() == (threshold != "zero")
        np.testing.assert_array_equal(hasher.transform(skewed[:7]), codes[:7])  # stored


@pytest.mark.parametrize(
    ("dataset", "weights"),
    [("mirflickr", (1e-2, 1e-3, 1e-3, 100, 500, 1e-2, 1.1)),
     ("nus-wide", (10, 1e-4, 10, 700, 700, 1, 2))],
)  # fmt: skip
def test_presets_have_the_settings_of_the_paper(dataset, weights):
    names = ("alpha", "beta", "nu", "n_anchors", "n_concepts", "mu", "rho")
    for source in ("paper", "release"):
        params = DSTDHHasher.preset(dataset, source=source, n_bits=32).get_params()
        assert tuple(params[name] for name in names) == weights
        assert (params["n_bits"], params["backbone"], params["output"]) == (32, "auto", "fc7")
        assert (params["batch_size"], params["lr"], params["momentum"]) == (15, 0.01, 0.9)
        assert not params["deflate"]
    paper, release = (DSTDHHasher.preset(source=source) for source in ("paper", "release"))
    assert (paper.init, paper.max_iter, paper.trainable, paper.threshold) == (
        "random", 1, "all", "zero",
    )  # fmt: skip
    assert paper.n_rounds > 1
    assert (release.init, release.max_iter, release.trainable, release.threshold) == (
        "itq", 4, "head", "mean",
    )  # fmt: skip
    assert release.n_rounds == 1


@pytest.mark.parametrize("source", ["paper", "release"])
@pytest.mark.filterwarnings("ignore:.*bits are constant")
def test_presets_fit(samples, source):
    X, tags, _ = samples
    hasher = DSTDHHasher.preset(source=source, n_bits=6, backbone=None, n_concepts=12, n_anchors=9)
    hasher.set_params(random_state=0).fit(X, tags)
    assert hasher.n_iter_ == (10 if source == "paper" else 4)
    rates = [row["event_lr"] for row in hasher.epochs_] if source == "release" else []
    np.testing.assert_allclose(rates, np.repeat([0.01, 0.001, 0.0001], 6)[: len(rates)])
    assert len(rates) == (0 if source == "paper" else 18)


# -------------------------------------------------------------------------------- retrieval


def test_planted_clusters_are_found(samples):
    X, tags, labels = samples
    hasher = make_hasher(max_epochs=30).fit(X, tags)
    assert hasher.score(X, labels=labels) > 0.8  # chance is 0.25
    assert leave_one_out_map(hasher.codes_, labels) > 0.8


@pytest.fixture(scope="module")
def rendered():
    data = make_social_images(1000, image_size=32, random_state=0)
    return colour_grid(data.images, n_cells=8).astype(np.float32), data.tags, data.labels


def held_out_map(hasher, rendered, n_train=500):
    X, tags, labels = rendered
    hasher.fit(X[:n_train], tags[:n_train])
    return leave_one_out_map(hasher.transform(X[n_train:]), labels[n_train:])


def mean_map(rendered, **settings):
    hashers = (
        DSTDHHasher(32, backbone=None, hidden_layers=(), random_state=seed, **settings)
        for seed in range(5)
    )
    return np.mean([held_out_map(hasher, rendered) for hasher in hashers])


@pytest.mark.slow
def test_joint_rounds_improve_on_the_first_from_random_codes(rendered):
    first, joint = (mean_map(rendered, init="random", n_rounds=n) for n in (1, 3))
    assert joint > first + 0.005


@pytest.mark.slow
def test_few_photos_with_clean_tags_do_far_better_than_without_tags(rendered):
    itq = np.mean([held_out_map(ITQ(32, random_state=seed), rendered) for seed in range(5)])
    start, joint = (mean_map(rendered, n_rounds=n) for n in (1, 3))
    assert start > itq + 0.04
    assert joint > start - 0.005  # rounds never end far below their start
    hidden = held_out_map(DSTDHHasher(32, backbone=None, random_state=0), rendered)
    assert hidden > start + 0.01


def test_pickles_and_clones_give_the_same_codes(photos):
    pixels, tags, _ = photos
    hasher = on_photos(trainable="all", threshold="bit-mean").fit(pixels, tags)
    values = hasher.decision_function(pixels)
    for same in (pickle.loads(pickle.dumps(hasher)), clone(hasher).fit(pixels, tags)):
        np.testing.assert_array_equal(same.decision_function(pixels), values)


def test_grid_search_over_its_weights(samples, metadata_routing):
    X, tags, labels = samples
    hasher = make_hasher(max_epochs=2, n_rounds=2).set_score_request(labels=True)
    grid = {"alpha": [1e-3, 1e-2], "beta": [1e-4], "nu": [0.0, 0.1]}
    search = GridSearchCV(hasher, grid, cv=2, error_score="raise").fit(X, tags, labels=labels)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.transform(X).shape == (N_SAMPLES, 6)


def test_features_are_refused_where_images_are_due_and_the_other_way_round(samples, photos):
    X, tags, _ = samples
    with pytest.raises((ValueError, TypeError), match="backbone=None"):
        DSTDHHasher(6, backbone="vgg16", weights=None).fit(X, tags)
    with pytest.raises(ValueError, match="X must be"):
        make_hasher().fit(photos[0], photos[1])
