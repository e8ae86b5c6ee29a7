"""TagITQHasher: bits are principal components of predicted targets, rotated; settings are tuned."""

import numpy as np
import pytest

from skhash import ITQ, TagITQHasher
from skhash.networks._extract import run_head
from skhash.social import _tag_itq_hasher
from skhash.social._semantic_head import OneCycle, quantize_outputs


@pytest.fixture(scope="module")
def photos():
    """Features of four themes in a third of the dimensions, tags of two words, themes."""
    rng = np.random.default_rng(1)
    themes = np.arange(240) % 4
    X = rng.normal(size=(240, 12)).astype(np.float32)
    X[np.arange(240), themes] += 2
    tags = [
        [f"word{2 * t}", f"word{2 * t + 1}", "nikon"][: 2 + (i % 2)] for i, t in enumerate(themes)
    ]
    return X, tags, themes


def make(**changes):
    settings = {"hidden_layers": (), "dropout": 0.0, "max_epochs": 20, "lr": 0.02, "tune": False}
    return TagITQHasher(**{"n_bits": 6, "random_state": 0, **settings, **changes})


def test_codes_tell_the_planted_themes(photos):
    X, tags, themes = photos
    score = make(n_bits=16).fit(X, tags).score(X, labels=themes)
    assert score > ITQ(12, random_state=0).fit(X).score(X, labels=themes) + 0.1
    assert score > 0.6


def test_decision_values_are_rotated_principal_components_of_the_predictions(photos, monkeypatch):
    X, tags, _ = photos
    predicted = []

    def keep(hasher, inputs, targets, **settings):
        predicted.append(run_head(hasher.head_, inputs))
        return quantize_outputs(hasher, inputs, targets, **settings)

    monkeypatch.setattr(_tag_itq_hasher, "quantize_outputs", keep)
    hasher = make(n_bits=3).fit(X, tags)
    centred = predicted[0] - predicted[0].mean(axis=0)
    _, _, directions = np.linalg.svd(centred.astype(float), full_matrices=False)
    components = centred @ directions[:3].T
    values = hasher.decision_function(X)
    assert np.abs(values).mean() == pytest.approx(1, rel=1e-4)
    # Equal up to a rotation and one scale.
    product = values.T @ components
    left, _, right = np.linalg.svd(product)
    scale = np.linalg.norm(values) / np.linalg.norm(components)
    np.testing.assert_allclose(components @ (left @ right).T * scale, values, atol=1e-3)
    assert (np.diff(hasher.quantization_) <= 1e-3).all()


def test_more_bits_than_targets_are_spread_over_all(photos):
    X, tags, _ = photos
    codes = make(n_bits=40).fit(X, tags).transform(X)
    assert (codes.std(axis=0) > 0).all()


def test_tuning_takes_the_settings_of_least_error_on_held_out_targets(photos, capsys):
    X, tags, _ = photos
    hasher = make(hidden_layers=(16,), tune=True, weight_decay=10.0, verbose=1).fit(X, tags)
    errors = {(decay, epochs): error for decay, epochs, error in hasher.chosen_["errors"]}
    chosen = hasher.chosen_["weight_decay"], hasher.chosen_["max_epochs"]
    same = {decay: error for (decay, epochs), error in errors.items() if epochs == chosen[1]}
    assert errors[chosen] == min(same.values())
    assert chosen[0] < 10  # so strong a decay leaves nothing of the weights
    assert "error" in capsys.readouterr().out
    assert hasher.n_iter_ == 8 * chosen[1]  # 240 images are 2 batches, of 16


def test_without_tuning_the_settings_are_those_given(photos):
    X, tags, _ = photos
    chosen = make(hidden_layers=(16,), weight_decay=0.3).fit(X, tags).chosen_
    assert chosen == {"weight_decay": 0.3, "max_epochs": 20, "errors": []}


def test_epochs_of_few_images_are_several_passes(photos):
    X, tags, _ = photos
    hasher = make(hidden_layers=(16,), max_epochs=2)
    assert hasher.set_params(batch_size=128).fit(X, tags).n_iter_ == 16
    assert hasher.set_params(batch_size=16).fit(X, tags).n_iter_ == 4
    assert hasher.set_params(batch_size=8).fit(X, tags).n_iter_ == 2


def test_a_linear_head_on_features_is_the_closed_form(photos):
    X, tags, _ = photos
    tags = [words if i % 5 else [] for i, words in enumerate(tags)]
    hasher = make(n_bits=4, tune=True).fit(X, tags)
    tagged = [i for i in range(240) if i % 5]
    targets = hasher.targets_.transform(tags)[tagged]
    ridge = hasher.chosen_["ridge"]
    Xc = X[tagged].astype(float) - X[tagged].mean(axis=0, dtype=float)
    penalty = ridge * np.square(Xc).mean() * len(Xc) * np.eye(12)
    predicted = Xc @ np.linalg.solve(Xc.T @ Xc + penalty, Xc.T @ (targets - targets.mean(axis=0)))
    _, _, directions = np.linalg.svd(predicted, full_matrices=False)
    components = predicted @ directions[:4].T
    values = hasher.decision_function(X[tagged])
    left, _, right = np.linalg.svd(values.T @ components)
    scale = np.linalg.norm(values) / np.linalg.norm(components)
    np.testing.assert_allclose(components @ (left @ right).T * scale, values, atol=1e-3)
    assert hasher.n_iter_ == len(hasher.history_) == len(hasher.objective_) == 0


def test_images_without_tags_take_no_part_in_the_training(photos):
    X, tags, _ = photos
    rng = np.random.default_rng(2)
    more = np.concatenate([X, rng.normal(size=(50, 12)).astype(np.float32)])
    hasher = make().fit(more, [*tags, *([[]] * 50)])
    assert hasher.transform(more).shape == (290, 6)
    with pytest.raises(ValueError, match="no tags"):
        make().fit(X, [[] for _ in X])
    with pytest.raises(ValueError, match="y gives targets for 0 image"):
        make().fit(X, [["a", "b"], *([[]] * 239)])


def test_the_rate_goes_up_and_down_once():
    shares = np.array([OneCycle(30)(epoch) for epoch in range(30)])
    top = shares.argmax()
    assert (np.diff(shares[: top + 1]) > 0).all()
    assert (np.diff(shares[top:]) < 0).all()
    assert 0.25 < (top + 0.5) / 30 < 0.35
    assert shares.min() > 0
    assert shares[[0, -1]].max() < 0.05
