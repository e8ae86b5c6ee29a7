"""
Words in, photos out
====================

A hasher that learns from tags can also encode words: ``transform_tags`` gives
a code that can be compared with the codes of photos. The nearest photos show
the meaning of the word. The photos in the database need no tags.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
from skimage.color import rgb2lab
from skimage.feature import hog

from skhash import HammingNeighbors, TagITQ
from skhash.datasets import make_social_images
from skhash.metrics import mean_average_precision
from skhash.tags import encode_tags

photos = make_social_images(3000, random_state=0)
learned, searched = slice(0, 2000), slice(2000, 3000)

# %%
# Features
# --------
# Features are edges and colours on a grid. Features of a network are better,
# see :ref:`sphx_glr_auto_examples_plot_social_image_search.py`.


def describe(pixels: np.ndarray, cell: int) -> np.ndarray:
    """Histograms of gradients, and mean colours, of the cells of a photo."""
    gradients = hog(
        pixels, orientations=8, pixels_per_cell=(cell, cell), channel_axis=-1
    )
    height, width = (size // cell for size in pixels.shape[:2])
    colours = rgb2lab(pixels)[: height * cell, : width * cell] / 100
    colours = colours.reshape(height, cell, width, cell, 3).mean(axis=(1, 3))
    return np.concatenate([gradients, colours.ravel()])


cell = photos.images.shape[1] // 8
features = np.stack([describe(pixels, cell) for pixels in photos.images])

# %%
# Words
# -----
# The hasher learns from 2,000 photos and their tags. The other 1,000 photos
# are the database. Queries are the names of things in the photos.

hasher = TagITQ(n_bits=64, random_state=0)
hasher.fit(features[learned], photos.tags[learned])
codes = hasher.transform(features[searched])

known = set(encode_tags(photos.tags[learned]).vocabulary)
things = [name for name in photos.label_names if name in known][::2]
queries = hasher.transform_tags([[name] for name in things])
search = HammingNeighbors(n_neighbors=8).fit(codes)
found = search.kneighbors(queries, return_distance=False)

# %%
# Each row shows a word and the eight photos whose codes are nearest to its
# code.

figure, axes = plt.subplots(
    len(things), 8, figsize=(9, 1.15 * len(things)), layout="constrained"
)
for row, word, nearest in zip(axes, things, found, strict=True):
    for ax, photo in zip(row, nearest, strict=True):
        ax.imshow(photos.images[searched][photo])
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(word, rotation=0, ha="right", va="center", fontsize=12)
figure.suptitle("Words, and the photos nearest to them")
plt.show()

# %%
# Photos that have tags
# ---------------------
# If photos of the database have tags, ``transform_with_tags`` makes codes from
# both. Then the same words find more relevant photos.

columns = [photos.label_names.tolist().index(name) for name in things]
truth = photos.labels[searched].toarray()[:, columns]
wanted = np.eye(len(things))
tagged = hasher.transform_with_tags(features[searched], photos.tags[searched])
databases = {"photos alone": codes, "photos and their tags": tagged}
for name, database in databases.items():
    score = mean_average_precision(queries, database, wanted, truth)
    print(f"{name}: mean average precision of the words {score:.3f}")
