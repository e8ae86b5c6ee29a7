"""
Comparing methods fairly
========================

Which method makes better codes, and is the difference more than chance? All
methods get the same features, photos, number of bits and measure. Each method
tries the same number of settings, which are chosen on validation queries. Test
queries are used only once. All of this is repeated for several seeds.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import ITQ, LSH, DSTDHLinear, ImageFeatures, TagITQ
from skhash.datasets import make_social_images
from skhash.metrics import (
    RetrievalComparison,
    compare_hashers,
    retrieval_report,
)

N_BITS = 32
SEEDS = range(5)

# %%
# The same features
# -----------------
# Features matter more than the method, so all methods use the same ones. They
# are computed once.

photos = make_social_images(900, random_state=0)
network = ImageFeatures("efficientnet_lite0", image_size=96)
features = network.fit_transform(photos.images)

# %%
# The same number of tries
# ------------------------
# For each of four methods we try features with and without scaling. A method
# with ten settings would have an advantage over a method with one.

METHODS: dict[str, Any] = {
    "LSH": LSH,
    "ITQ": ITQ,
    "TagITQ": TagITQ,
    "DSTDH-L": DSTDHLinear,
}


def tries(name: str, seed: int) -> dict[str, Any]:
    """Pipelines of a method, not fitted, by the name of the setting."""
    hasher = METHODS[name](N_BITS, random_state=seed)
    scaled = make_pipeline(StandardScaler(), clone(hasher))
    return {"raw": hasher, "scaled": scaled}


# %%
# Validation and test
# -------------------
# Each seed gives another split of the photos: 500 are for training and are the
# database, 200 are validation queries, 200 are test queries. The methods get
# the same seed. Settings are chosen by the MAP of the validation queries. Then
# :func:`~skhash.metrics.compare_hashers` measures all methods on the test
# queries.


def compare(seed: int) -> tuple[RetrievalComparison, dict[str, str]]:
    """Reports on the test queries of a seed, and the settings chosen."""
    order = np.random.default_rng(seed).permutation(len(features))
    learned, validation, test = np.split(order, [500, 700])
    chosen, settings = {}, {}
    for name in METHODS:
        fitted = {
            setting: hasher.fit(features[learned], photos.tags[learned])
            for setting, hasher in tries(name, seed).items()
        }
        scores = {
            setting: retrieval_report(
                hasher,
                features[validation],
                features[learned],
                photos.labels[validation],
                photos.labels[learned],
                metrics=["map"],
            ).map
            for setting, hasher in fitted.items()
        }
        settings[name] = max(scores, key=lambda setting: scores[setting])
        chosen[name] = fitted[settings[name]]
    comparison = compare_hashers(
        chosen,
        features[test],
        features[learned],
        photos.labels[test],
        photos.labels[learned],
        metrics=["map", "precision", "precision_within_radius"],
        at=[10, 50],
    )
    return comparison, settings


comparisons = []
for seed in SEEDS:
    comparison, settings = compare(seed)
    comparisons.append(comparison)
    print(f"seed {seed}:", *(f"{k} {v}," for k, v in settings.items()))

# %%
# One seed
# --------
# A comparison prints as a table, with the result of a random order. Most
# papers show one such table. It does not show which differences would be the
# same with other photos.

print(comparisons[0])

# %%
# All seeds
# ---------
# Mean and standard deviation of the MAP over the seeds:

maps = np.array([[c[name].map for name in METHODS] for c in comparisons])
map_of = dict(zip(METHODS, maps.T, strict=True))
for name, values in map_of.items():
    print(f"{name:8} {values.mean():.3f} +- {values.std(ddof=1):.3f}")

# %%
# A part of the deviation comes from the photos, which are the same for all
# methods. So we look at the difference of two methods for each seed.
#
# The photos of different seeds overlap, so the deviations are too small. The
# 95 % interval below corrects this [1]_: the variance over seeds is multiplied
# not by 1/5, but by 1/5 plus the ratio of test queries to training photos. If
# the interval contains 0, these photos do not show which method is better.

pairs = [("ITQ", "LSH"), ("TagITQ", "ITQ"), ("TagITQ", "DSTDH-L")]
differences = {f"{a} - {b}": map_of[a] - map_of[b] for a, b in pairs}
share = 1 / len(SEEDS) + 200 / 500
width = stats.t.ppf(0.975, len(SEEDS) - 1) * np.sqrt(share)
halves = {k: width * v.std(ddof=1) for k, v in differences.items()}
for name, values in differences.items():
    decided = abs(values.mean()) > halves[name]
    print(
        f"{name:17} {values.mean():+.3f} +- {halves[name]:.3f}, "
        f"above 0 for {(values > 0).sum()} of {len(values)} seeds: "
        f"{'decided' if decided else 'undecided'}"
    )

# %%
# In one picture
# --------------
# Left: the MAP of each seed; a line connects the results for the same photos.
# Right: differences of each seed, with their mean and its interval.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
left, right = axes
left.plot(list(METHODS), maps.T, "o-", alpha=0.7)
chance = comparisons[0]["ITQ"].chance_map
left.axhline(chance, color="0.5", linestyle=":")
left.text(3, chance, "random order", ha="right", va="bottom", color="0.4")
left.set(ylabel="MAP", title=f"{N_BITS} bits, {len(SEEDS)} seeds")
for row, name in enumerate(differences):
    values = differences[name]
    right.scatter(values, np.full(len(values), row), alpha=0.6)
    bar = {"fmt": "|", "color": "black", "capsize": 4, "markersize": 16}
    right.errorbar(values.mean(), row + 0.2, xerr=halves[name], **bar)
right.axvline(0, color="0.5", linestyle=":")
right.set_yticks(range(len(differences)), list(differences))
right.set_ylim(len(differences) - 0.5, -0.5)
right.set(xlabel="difference of MAPs", title="On the same photos")
plt.show()

# %%
# What to take from this
# ----------------------
# - A method looks better than it is if its settings are chosen on the test
#   queries. Choose settings on validation queries, and use test queries once.
# - Compare on the same photos, and report differences with an interval. A
#   difference that is smaller than its interval shows nothing.
# - This page uses 900 rendered photos. ``benchmarks/RESULTS.md`` has such
#   tables for real photos; on your photos the order may differ.
#
# .. [1] C. Nadeau and Y. Bengio, "Inference for the generalization error",
#    Machine Learning 52, 2003.
