"""
Choosing the weights of semantic transfer
=========================================

How much should codes follow looks (``alpha``), concepts shared by photos and tags (``beta``) and
the network (``nu``)? Where the truth is known for some photos, cross-validation tells. Features
and network are one pipeline in a search for the weights, and features are computed once.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skhash import DSTDHHasher, ImageFeatures
from skhash.datasets import make_social_images
from skhash.metrics import retrieval_scorer

photos = make_social_images(600, image_size=64, random_state=0)

# %%
# The pipeline
# ------------
# With a ``cache``, no photo goes through the network twice, however many folds and weights are
# tried. The network here has random weights, which need no download; with ``weights="DEFAULT"`` it
# has learned from ImageNet.

pipeline = make_pipeline(
    ImageFeatures("resnet18", weights=None, image_size=64, cache=mkdtemp(), random_state=0),
    DSTDHHasher(n_bits=32, backbone=None, max_epochs=5, random_state=0),
)

# %%
# The search
# ----------
# Codes are learned from tags and judged by labels, which metadata routing hands to the scorer.
# (Tags alone are a poor judge of these weights: they see detail that codes do well to lose.)

sklearn.set_config(enable_metadata_routing=True)
weights = {
    "dstdhhasher__alpha": [1e-4, 1e-2],
    "dstdhhasher__beta": [1e-4, 1e-3],
    "dstdhhasher__nu": [0.0, 1.0],
}
search = GridSearchCV(
    pipeline, weights, scoring=retrieval_scorer().set_score_request(labels=True), cv=3
)
search.fit(photos.images, photos.tags, labels=photos.labels)
print("best:", search.best_params_)

# %%
# What came of it
# ---------------
# Mean average precision on held-out photos, with the spread over the folds. Where bars overlap, the
# choice matters little.

results = search.cv_results_
shape = [len(values) for values in weights.values()]  # the grid varies its last parameter fastest
mean = results["mean_test_score"].reshape(shape)
spread = results["std_test_score"].reshape(shape)
alpha, beta, nu = weights.values()
figure, axes = plt.subplots(1, len(beta), figsize=(9, 3.5), sharey=True, layout="constrained")
for j, ax in enumerate(axes):
    for k, value in enumerate(nu):
        shift = np.array(alpha) * 1.1 ** (k - 1)  # side by side
        ax.errorbar(shift, mean[:, j, k], spread[:, j, k], marker="o", label=f"nu = {value:g}")
    ax.set(xscale="log", xlabel="alpha", title=f"beta = {beta[j]:g}")
axes[0].set_ylabel("mean average precision")
axes[0].legend()
plt.show()
sklearn.set_config(enable_metadata_routing=False)
