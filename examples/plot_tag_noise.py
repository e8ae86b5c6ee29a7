"""
How robust are codes to noise in tags?
======================================

Users give tags that a photo does not show, and omit tags that it shows. Here
we make the tags of photos worse step by step, until they contain no
information, and learn codes from them. We compare with codes that are learned
without tags: tags are useful as long as codes are better with them.
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
# The photos are rendered. Features are the colours and the directions of edges
# in each cell of a grid. 250 photos are queries; 750 are for training and are
# the database. Their tags are noisy from the start: four in ten say nothing
# about the photo. The labels for the evaluation do not change.

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
# *Wrong tags*: a share of all tags is exchanged among the photos. The
# frequency of each tag and the number of tags of each photo do not change.
# *Missing tags*: a share of all tags is removed.

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
    """Remove a share of the tags."""
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
# :class:`~skhash.ITQ` uses only the photos. Methods with tags are useful only
# if they are better than this.


truth = photos.labels[query], photos.labels[database]


def score(hasher: Any) -> float:
    """MAP of a hasher: how well it finds photos of the same things."""
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
    """MAP of a hasher for growing noise in the tags."""
    spoilt = [spoil(tags, share) for share in shares]
    return [score(hasher.fit(X[database], some)) for some in spoilt]


wrong = {name: course(hashers[name], exchange) for name in hashers}
for name, scores in wrong.items():
    print(f"{name:17}", *(f"{value:.3f}" for value in scores))

# %%
# Missing tags
# ------------
# With the two methods that were most robust.

endured = ("TagITQ", "DSTDHLinear")
missing = {name: course(hashers[name], remove) for name in endured}
for name, scores in missing.items():
    print(f"{name:17}", *(f"{value:.3f}" for value in scores))

# %%
# The dashed line is ITQ, without tags; the dotted line is a random order.

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
# - With these photos tags are useful even if six in ten are wrong.
# - A wrong tag harms more than a missing tag: users need not tag everything.
# - :class:`~skhash.TagITQ` and :class:`~skhash.DSTDHLinear` choose by
#   cross-validation how much they use the tags. With much noise they are about
#   as good as codes without tags, and hardly worse.
# - :class:`~skhash.SAH` and :class:`~skhash.WeaklySupervisedHasher` have
#   parameters for this. Their defaults use the tags too much if tags are as
#   bad as here: then codes without tags are better.
#
# To see whether your tags are good enough, compare with :class:`~skhash.ITQ`
# on photos with known labels, as in
# :ref:`sphx_glr_auto_examples_plot_social_image_search.py`. The photos here
# are few and artificial; differences of a hundredth mean nothing.
