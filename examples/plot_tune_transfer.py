"""
How do I choose the weights of a hasher?
========================================

How much should codes follow looks (``alpha``), concepts shared by photos and
tags (``beta``) and the network (``nu``)? How much should similarities of tags
count (``delta``)? Where the truth is known for some photos,
:class:`~sklearn.model_selection.GridSearchCV` answers. Here for
:class:`~skhash.DSTDHHasher` and :class:`~skhash.WeaklySupervisedHasher`; with
any other hasher it goes the same way.
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
# Features and hasher are one estimator. With a ``cache``, no photo goes
# through the network twice, however many folds and weights are tried. The
# network here has random weights, which need no download; with
# ``weights="DEFAULT"`` it has learned from ImageNet. The hasher is a linear
# function of its features, as that is quickly trained.

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
# The judge
# ---------
# Codes are learned from tags and judged by labels, which metadata routing
# hands to the scorer. (Tags alone are a poor judge of these weights: they see
# detail that codes do well to lose.) The score is the mean average precision
# among the photos of a fold that was held out.

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
# What came of it
# ---------------
# A fold may be easy or hard for all weights alike. So what a choice is worth
# is its score less the mean score of its fold: a point for each fold, and a
# line through their means.


def gains(search: GridSearchCV) -> np.ndarray:
    """What each choice gained or lost in each fold."""
    results, folds = search.cv_results_, range(search.n_splits_)
    scores = np.stack([results[f"split{i}_test_score"] for i in folds], axis=1)
    return scores - scores.mean(axis=0)


def draw(ax: Any, values: list, gained: np.ndarray, **line: Any) -> None:
    """Draw gains over the values of a weight."""
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
# space of tags, and ``delta`` is the weight of that. The space has nothing to
# do with ``delta``: it is fitted once, and frozen. The features come from the
# cache. Labels are for the judge again, not for ``fit``.

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
# - Graphs that weigh too much (``alpha`` of 1) cost in most folds. Below that
#   the best gains less than a hundredth; ``beta`` and ``nu`` matter less
#   still, and ``delta``, over four powers of ten, hardly at all. Here the
#   defaults would do.
# - Look at the folds, not only at ``best_params_``: some choice always comes
#   first, if by chance.
# - A search needs labels of some photos for its judge. It is worth them where
#   photos or features are unlike those that the defaults were made for.

# sphinx_gallery_thumbnail_number = 1
