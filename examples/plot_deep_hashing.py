"""
How do I train a network on tagged photos?
==========================================

From image files and their tags to a network that turns any photo into a code:
training that shows its progress, stops when it no longer improves and can be
interrupted; saving and loading; search.

The photos are rendered and the network is a small one, trained from nothing,
so that this takes a minute on a laptop. For photos of the real world leave
``backbone`` as it is, a VGG-16 that has learned from ImageNet:
``DSTDHHasher(n_bits=64).fit(paths, tags)`` is then all there is to it. With
``backbone="efficientnet_lite0"`` nothing need be downloaded for that.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from pathlib import Path
from tempfile import mkdtemp

import joblib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torch import nn

from skhash import DSTDHHasher, HammingNeighbors
from skhash.datasets import make_social_images
from skhash.metrics import (
    NeighborsDisplay,
    chance_level,
    mean_average_precision,
)

# %%
# Photos
# ------
# A folder of image files, the tags that people gave them (some give none, some
# give nonsense), and what the photos really show, which only the evaluation
# gets to see.

folder = Path(mkdtemp(prefix="skhash-"))
photos = make_social_images(1000, image_size=48, random_state=0)
paths = np.array([str(folder / f"{i}.jpg") for i in range(len(photos.images))])
for path, pixels in zip(paths, photos.images, strict=True):
    Image.fromarray(pixels).save(path, quality=90)
for i in range(3):
    print(Path(paths[i]).name, photos.tags[i])

query, database = np.arange(200), np.arange(200, 1000)

# %%
# Training
# --------
# Each round solves codes from graphs, tags and the network, then trains the
# network on them. As all of the network is trained, each round begins with new
# features. ``early_stopping`` holds out a part of the photos and ends a round
# when the loss on them stops falling. With a ``checkpoint``, a fit that was
# interrupted goes on where it was when it is called again.

network = nn.Sequential(
    nn.Conv2d(3, 32, 5, stride=2),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, stride=2),
    nn.BatchNorm2d(64),
    nn.ReLU(),
    nn.Conv2d(64, 128, 3),
    nn.ReLU(),
)
hasher = DSTDHHasher(
    n_bits=32,
    backbone=network,
    image_size=48,
    trainable="all",
    backbone_lr=1e-3,
    hidden_layers=(),
    n_rounds=3,
    max_epochs=10,
    early_stopping=True,
    n_iter_no_change=2,
    checkpoint=folder / "checkpoint",
    random_state=0,
    verbose=1,
)
hasher.fit(paths[database], photos.tags[database])

# %%
# The objective of the codes and the loss of the network, round by round:

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left, right = axes
for k in range(1, hasher.n_rounds + 1):
    solved = [row for row in hasher.history_ if row["round"] == k]
    left.plot([row["objective"] for row in solved], label=f"round {k}")
    trained = [row for row in hasher.epochs_ if row["round"] == k]
    right.plot([row["valid_loss"] for row in trained])
left.set(xlabel="iteration", ylabel="objective of the codes")
right.set(xlabel="epoch", ylabel="loss on held-out photos")
left.legend()
plt.show()

# %%
# Saving and loading
# ------------------
# A fitted hasher is an estimator like any other.

joblib.dump(hasher, folder / "hasher.joblib")
hasher = joblib.load(folder / "hasher.joblib")

# %%
# Search
# ------
# 32 bits a photo are all that is kept of the database.

hasher.set_params(verbose=0)
database_codes = hasher.transform(paths[database])
query_codes = hasher.transform(paths[query])
index = HammingNeighbors(n_neighbors=6).fit(database_codes)
distances, neighbors = index.kneighbors(query_codes[:5])
print(distances)

truth = photos.labels[query], photos.labels[database]
print(f"MAP {mean_average_precision(query_codes, database_codes, *truth):.3f}")
print(f"chance {chance_level(*truth):.3f}")

NeighborsDisplay.from_codes(
    query_codes[:5],
    database_codes,
    paths[query[:5]],
    paths[database],
    n_neighbors=6,
    query_labels=photos.labels[query[:5]],
    database_labels=photos.labels[database],
)
plt.show()

# %%
# What to take from this
# ----------------------
# - A network of one's own is any ``nn.Module`` that turns images into numbers;
#   the hasher adds the head and trains both, from files and tags alone.
# - Watch the loss on held-out photos in each round. A checkpoint and
#   ``early_stopping`` cost nothing.
# - A small network that is trained from nothing on hundreds of photos finds
#   better than chance, and no more. One that has learned from ImageNet, left
#   as it is, is where to begin: see
#   :ref:`sphx_glr_auto_examples_plot_social_image_search.py`.

# sphinx_gallery_thumbnail_number = 2
