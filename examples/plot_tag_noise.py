"""
How much noise in tags do codes endure?
=======================================

People tag what is not to be seen, and leave out what is. Here the tags of
photos are made worse step by step, until they say nothing, and codes are
learned from what is left. The measure is what photos alone are worth: tags are
of use as long as codes are better with them than without.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from skimage.feature import hog
from sklearn.preprocessing import StandardScaler

from skhash import (
    ITQ,
    SAH,
    DSTDHLinear,
    KSHHasher,
    TagITQ,
    WeaklySupervisedHasher,
)
from skhash.datasets import make_social_images
from skhash.metrics import chance_level, mean_average_precision

# %%
# Photos
# ------
# Rendered ones, described by the colours and the directions of edges in each
# cell of a grid. 250 are searched with, 750 are learned from and searched.
# Their tags are not clean to begin with: four in ten say nothing about the
# photo. The labels, which judge the answers, stay as they are.

photos = make_social_images(1000, image_size=48, random_state=0)
query, database = slice(0, 250), slice(250, None)
tags = photos.tags[database]


def describe(pixels: np.ndarray) -> np.ndarray:
    """Mean colours and histograms of gradients of cells of 8 x 8 pixels."""
    colours = pixels.reshape(6, 8, 6, 8, 3).mean(axis=(1, 3)) / 255
    edges = hog(
        pixels,
        pixels_per_cell=(8, 8),
        cells_per_block=(2, 2),
        channel_axis=-1,
    )
    return np.concatenate([colours.ravel(), edges])


X = np.array([describe(pixels) for pixels in photos.images], dtype=np.float32)
X = StandardScaler().fit(X[database]).transform(X)

# %%
# Two kinds of noise
# ------------------
# *Wrong tags*: a share of all tags is exchanged among the photos, so that each
# tag stays as frequent as it was and each photo has as many. *Missing tags*: a
# share of all tags is taken away.

Tags = Sequence[list[str]]


def exchange(tags: Tags, share: float) -> Tags:
    """Exchange a share of the tags among the photos."""
    rng = np.random.default_rng(0)
    words = np.concatenate([np.array(words, dtype=object) for words in tags])
    chosen = np.flatnonzero(rng.random(len(words)) < share)
    words[chosen] = words[rng.permutation(chosen)]
    ends = np.cumsum([len(own) for own in tags])
    return [own.tolist() for own in np.split(words, ends[:-1])]


def remove(tags: Tags, share: float) -> Tags:
    """Take a share of the tags away."""
    rng = np.random.default_rng(0)
    return [[word for word in own if rng.random() >= share] for own in tags]


exchanged, fewer = exchange(tags, 0.6), remove(tags, 0.6)
for i in (0, 1, 3):
    print("as given:", ", ".join(tags[i]))
    print("  60% exchanged:", ", ".join(exchanged[i]))
    print("  60% missing:", ", ".join(fewer[i]))

# %%
# Without tags
# ------------
# :class:`~skhash.ITQ` sees the photos alone. Whatever falls below this had
# better not have looked at the tags.


truth = photos.labels[query], photos.labels[database]


def score(hasher: Any) -> float:
    """How well a hasher finds photos of the same things: MAP."""
    codes = hasher.transform(X[query]), hasher.transform(X[database])
    return mean_average_precision(*codes, *truth)


without = score(ITQ(32, random_state=0).fit(X[database]))
chance = chance_level(*truth, metric="map")
print(f"without tags {without:.3f}, random order {chance:.3f}")

# %%
# Wrong tags
# ----------
# Four methods that learn from tags, with their default settings.

shares = [0.0, 0.3, 0.6, 0.9]
hashers = {
    "TagITQ": TagITQ(32, random_state=0),
    "DSTDHLinear": DSTDHLinear(32, random_state=0),
    "WeaklySupervised": WeaklySupervisedHasher(KSHHasher(32), random_state=0),
    "SAH": SAH(32, random_state=0),
}


def course(hasher: Any, spoil: Callable) -> list[float]:
    """MAP of a hasher as more and more tags are spoilt."""
    spoilt = [spoil(tags, share) for share in shares]
    return [score(hasher.fit(X[database], some)) for some in spoilt]


wrong = {name: course(hashers[name], exchange) for name in hashers}
for name, scores in wrong.items():
    print(f"{name:17}", *(f"{value:.3f}" for value in scores))

# %%
# Missing tags
# ------------
# With the two methods that endured most.

endured = ("TagITQ", "DSTDHLinear")
missing = {name: course(hashers[name], remove) for name in endured}
for name, scores in missing.items():
    print(f"{name:17}", *(f"{value:.3f}" for value in scores))

# %%
# Dashed is what photos are worth without tags, dotted a random order.

sides = {"exchanged": wrong, "missing": missing}
figure, axes = plt.subplots(
    ncols=2,
    figsize=(9, 4),
    sharey=True,
    layout="constrained",
)
for ax, (what, results) in zip(axes, sides.items(), strict=True):
    for name, scores in results.items():
        ax.plot(shares, scores, marker="o", label=name)
    ax.axhline(without, color="black", linestyle="--", label="ITQ: no tags")
    ax.axhline(chance, color="0.6", linestyle=":", label="random order")
    ax.set_xlabel(f"share of tags that are {what}")
axes[0].set_ylabel("MAP, 32 bits")
handles, names = axes[0].get_legend_handles_labels()
figure.legend(handles, names, loc="outside right center")
plt.show()

# %%
# What to take from this
# ----------------------
# - With these photos tags are worth having even if six in ten are wrong.
# - A wrong tag costs more than a missing one: nobody need tag everything.
# - :class:`~skhash.TagITQ` and :class:`~skhash.DSTDHLinear` find by
#   cross-validation how far to trust the tags. In noise they fall to what the
#   photos alone are worth, and hardly below.
# - :class:`~skhash.SAH` and :class:`~skhash.WeaklySupervisedHasher` trust them
#   as far as their parameters say, and by default too far for tags as bad as
#   these: there, codes without tags are better.
#
# Whether your own tags are good enough: compare with :class:`~skhash.ITQ` on
# photos whose truth you know, as
# :ref:`sphx_glr_auto_examples_plot_social_image_search.py` does. These are
# small numbers of made photos; differences of a hundredth mean nothing.
