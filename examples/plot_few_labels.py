"""
Tags for all photos, labels for a few: how do I use both?
=========================================================

Some of the photos have labels, which say correctly what the photo shows. All
photos have tags, which are noisy. :class:`~skhash.WeaklySupervisedHasher`
learns from the tags first, and from the labels second. Is this better than
tags or labels alone, and how many labels does it need?
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
from skimage.feature import hog
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler

from skhash import KSHHasher, SemanticSpace, WeaklySupervisedHasher
from skhash.datasets import make_social_images
from skhash.metrics import mean_average_precision

# %%
# Photos
# ------
# The photos are rendered. Features are the colours and the directions of edges
# in each cell of a grid. 250 photos are queries; 750 are for training and are
# the database.

photos = make_social_images(1000, image_size=48, random_state=0)
query, database = slice(0, 250), slice(250, None)
tags, labels = photos.tags[database], photos.labels[database].toarray()


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


def score(hasher: KSHHasher | WeaklySupervisedHasher) -> float:
    """MAP of a hasher: how well it finds photos of the same things."""
    codes = hasher.transform(X[query]), hasher.transform(X[database])
    return mean_average_precision(*codes, photos.labels[query], labels)


# %%
# Three methods
# -------------
# :class:`~skhash.KSHHasher` learns from labels.
# :class:`~skhash.WeaklySupervisedHasher` first trains the network of this
# hasher on tags, then on labels, if there are any. The space of the tags is
# the same each time, so it is fitted once and frozen.

ksh = KSHHasher(n_bits=32, random_state=0)
space = FrozenEstimator(SemanticSpace(random_state=0).fit(tags))
weakly = WeaklySupervisedHasher(ksh, space, random_state=0)

tags_alone = score(weakly.fit(X[database], tags))
print(f"tags of all {len(tags)} photos: MAP {tags_alone:.3f}")

# %%
# An empty row of ``labels`` is a photo without labels. The labelled photos are
# drawn at random. With few labels the draw matters, so we draw three times.

numbers = [50, 100, 200, 400, 750]
labels_alone = np.empty((3, len(numbers)))
both = np.empty((3, len(numbers)))
for draw in range(3):
    order = np.random.default_rng(draw).permutation(len(labels))
    for i, n in enumerate(numbers):
        few = np.zeros_like(labels)
        few[order[:n]] = labels[order[:n]]
        labels_alone[draw, i] = score(ksh.fit(X[database], few))
        weakly.fit(X[database], tags, labels=few)
        both[draw, i] = score(weakly)

print("photos labelled   labels alone   tags, then labels")
for i, n in enumerate(numbers):
    print(f"{n:15}{labels_alone[:, i].mean():15.3f}{both[:, i].mean():20.3f}")

# %%
# Lines are means, points are the draws.

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ways = {"tags, then labels": both, "labels alone": labels_alone}
for name, scores in ways.items():
    (line,) = ax.plot(numbers, scores.mean(axis=0), label=name)
    ax.plot(numbers, scores.T, ".", color=line.get_color())
ax.axhline(tags_alone, color="black", ls="--", label="tags alone")
ax.set(xlabel="photos with labels, of 750", ylabel="MAP, 32 bits")
ax.set_xscale("log")
ax.set_xticks(numbers, map(str, numbers))
ax.minorticks_off()
ax.legend()
plt.show()

# %%
# What to take from this
# ----------------------
# - Tags first, labels second: this is better than labels alone for any number
#   of labels, here even if all photos have labels.
# - Few labels add little to many tags. Here the codes are a little worse than
#   codes from tags alone with 50 labels, about the same with 100, and better
#   from 200 on.
# - Tags of 750 photos gave about the same MAP as labels of 400 photos.
#
# Where the lines cross depends on how good the tags are (see
# :ref:`sphx_glr_auto_examples_plot_tag_noise.py`), and on the features.
# ``retention`` sets how strongly the second stage keeps what was learned from
# tags. Results on real photos are in :doc:`/user_guide/wp`.
