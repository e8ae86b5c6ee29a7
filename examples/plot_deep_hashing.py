"""
How do I train a network on tagged photos?
==========================================

This page trains a network on image files and their tags. The network then
turns any photo into a code. The training shows its progress, stops when it no
longer improves, and can be interrupted. Then we save, load and search.

The photos are rendered and the network is small and starts from random
weights, so that this takes a minute on a laptop. For real photos use the
default ``backbone``, a VGG-16 trained on ImageNet:
``DSTDHHasher(n_bits=64).fit(paths, tags)`` is all you need. With
``backbone="efficientnet_lite0"`` nothing is downloaded.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torch import nn

import skhash
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
# We need a folder of image files and the tags of their owners, which may be
# missing or wrong. The true content of the photos is used only in the
# evaluation.

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
# network on them. Here the whole network is trained, so each round computes
# new features. ``early_stopping`` holds out a part of the photos and ends a
# round when the loss on them no longer falls. With a ``checkpoint``, an
# interrupted fit continues when it is called again.

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
# One file holds the fitted hasher, without pickle. It has the weights of your
# own network but not its code, so give the network again.

skhash.save(hasher, folder / "hasher.skhash")
hasher = skhash.load(folder / "hasher.skhash", modules=network)

# %%
# Search
# ------
# The database is kept as 32 bits per photo.

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
# - Your own network is any ``nn.Module`` that turns images into numbers. The
#   hasher adds the head and trains both, from files and tags.
# - Look at the loss on held-out photos in each round. A checkpoint and
#   ``early_stopping`` are cheap.
# - A small network, trained from random weights on hundreds of photos, is
#   better than chance, but finds photos much less well than a network that was
#   trained on ImageNet. Begin with such a network, and do not train it
#   further: see :ref:`sphx_glr_auto_examples_plot_social_image_search.py`.

# sphinx_gallery_thumbnail_number = 2
