"""
How do I choose the weights of a hasher?
========================================

How much should codes depend on visual similarity (``alpha``), on concepts of
photos and tags (``beta``) and on the network (``nu``)? How much should
similarities of tags count (``delta``)? If some photos have labels, use
:class:`~sklearn.model_selection.GridSearchCV`. This page does so for
:class:`~skhash.DSTDHHasher` and :class:`~skhash.WeaklySupervisedHasher`; other
hashers work in the same way.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from tempfile import mkdtemp
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skhash import (
    DSTDHHasher,
    ImageFeatures,
    KSHHasher,
    SemanticSpace,
    WeaklySupervisedHasher,
)
from skhash.datasets import make_social_images
from skhash.metrics import retrieval_scorer

photos = make_social_images(500, image_size=64, random_state=0)

# %%
# The pipeline
# ------------
# Features and hasher are one estimator. With a ``cache``, the network runs
# only once on each photo, for any number of folds and weights. The network
# here has random weights, which need no download; with ``weights="DEFAULT"``
# it is trained on ImageNet. The hasher is a linear function of the features,
# because this is trained quickly.

features = ImageFeatures(
    "resnet18",
    weights=None,
    image_size=64,
    cache=mkdtemp(),
    random_state=0,
)
hasher = DSTDHHasher(
    n_bits=32,
    backbone=None,
    hidden_layers=(),
    max_epochs=5,
    random_state=0,
)
pipeline = make_pipeline(features, hasher)

# %%
# The score
# ---------
# Codes are learned from tags and scored with labels, which metadata routing
# passes to the scorer. (Tags alone are not good for choosing these weights:
# they contain details that good codes do not keep.) The score is the mean
# average precision among the photos of a held-out fold.

sklearn.set_config(enable_metadata_routing=True)
judge = retrieval_scorer().set_score_request(labels=True)

# %%
# alpha, beta, nu
# ---------------

weights = {
    "dstdhhasher__alpha": [1e-2, 1e-1, 1.0],
    "dstdhhasher__beta": [1e-4, 1e-2],
    "dstdhhasher__nu": [0.0, 0.1],
}
search = GridSearchCV(pipeline, weights, scoring=judge, cv=3)
search.fit(photos.images, photos.tags, labels=photos.labels)
print(f"best: MAP {search.best_score_:.3f}")
for name, value in search.best_params_.items():
    print(f"   {name} = {value:g}")

# %%
# Results
# -------
# A fold may be easy or hard for all weights. So we plot the gain of each
# choice, which is its score minus the mean score of the fold: a point for each
# fold, and a line through the means.


def gains(search: GridSearchCV) -> np.ndarray:
    """Gain of each choice in each fold."""
    results, folds = search.cv_results_, range(search.n_splits_)
    scores = np.stack([results[f"split{i}_test_score"] for i in folds], axis=1)
    return scores - scores.mean(axis=0)


def draw(ax: Any, values: list, gained: np.ndarray, **line: Any) -> None:
    """Plot gains against the values of a weight."""
    (drawn,) = ax.plot(values, gained.mean(axis=1), **line)
    ax.plot(values, gained, ".", color=drawn.get_color())
    ax.axhline(0, color="0.8", zorder=0)
    ax.set_xscale("log")


alpha, beta, nu = weights.values()
# The grid varies its last weight fastest.
grid = gains(search).reshape(len(alpha), len(beta), len(nu), -1)
figure, axes = plt.subplots(
    ncols=len(beta),
    figsize=(9, 3.5),
    sharey=True,
    layout="constrained",
)
for j, ax in enumerate(axes):
    for k, value in enumerate(nu):
        draw(ax, alpha, grid[:, j, k], label=f"nu = {value:g}")
    ax.set(xlabel="alpha", title=f"beta = {beta[j]:g}")
axes[0].set_ylabel("gain of mean average precision")
axes[0].legend()
plt.show()

# %%
# delta
# -----
# :class:`~skhash.WeaklySupervisedHasher` learns similarities of photos from a
# space of tags; ``delta`` is their weight. The space does not depend on
# ``delta``, so it is fitted once and frozen. The features come from the cache.
# Again labels are only for the score, not for ``fit``.

space = SemanticSpace(random_state=0).fit(photos.tags)
weakly = WeaklySupervisedHasher(
    KSHHasher(n_bits=32),
    FrozenEstimator(space),
    random_state=0,
)
weakly.set_fit_request(labels=False)
delta = [0.01, 1.0, 100.0]
weakly_search = GridSearchCV(
    make_pipeline(features, weakly),
    {"weaklysupervisedhasher__delta": delta},
    scoring=judge,
    cv=3,
)
weakly_search.fit(photos.images, photos.tags, labels=photos.labels)
sklearn.set_config(enable_metadata_routing=False)
print(f"best: MAP {weakly_search.best_score_:.3f}")
print(weakly_search.best_params_)

figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
draw(ax, delta, gains(weakly_search))
ax.set(xlabel="delta", ylabel="gain of mean average precision")
plt.show()

# %%
# What to take from this
# ----------------------
# - Graphs with a too large weight (``alpha`` of 1) make most folds worse.
#   Below 1 the best choice gains less than a hundredth. ``beta`` and ``nu``
#   matter even less, and ``delta``, over four powers of ten, hardly at all.
#   Here the defaults are good enough.
# - Look at the folds, not only at ``best_params_``: one choice is always best,
#   perhaps only by chance.
# - A search needs labels of some photos for its score. It is worth the effort
#   if photos or features differ from those for which the defaults were chosen.

# sphinx_gallery_thumbnail_number = 1
