"""
A hasher of your own
====================

A new loss is a short class, and the hasher that minimises it is another short
class. The package has all the rest: heads and backbones, batches, early
stopping, checkpoints, grid searches, and learning from tags first, if there
are few labels. Here a loss that gives each label a code is trained on labels
alone, on tags alone, and on tags first and a few labels second.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from typing import Unpack

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.linalg import hadamard
from skimage.feature import hog
from torch import nn

from skhash import DeepHasher, WeaklySupervisedHasher
from skhash.datasets import make_social_images
from skhash.metrics import chance_level, mean_average_precision
from skhash.networks import NetworkParameters

# %%
# Loss and hasher
# ---------------
# Each label has a centre, a row of a Hadamard matrix: any two rows differ in
# half of the bits. The target of a photo is the majority of the centres of its
# labels, and the loss is the binary cross entropy of its outputs [1]_. A loss
# is called with the outputs of the head for a batch, shape (n, n_bits), and
# the labels of the batch as 0 and 1, shape (n, n_labels).
#
# Name your own parameters in ``__init__`` and pass all others on.
# ``retention`` sets how strongly stage two of learning from tags and labels
# keeps the weights of stage one: without it, this loss would soon memorise a
# few labels.


class CentralLoss(nn.Module):
    """Outputs on the same side of 0 as the centres of a photo's labels."""

    def __init__(self, n_bits: int, sharpness: float) -> None:
        super().__init__()
        centres = torch.tensor(hadamard(n_bits), dtype=torch.float32)
        self.register_buffer("centres", centres)
        self.sharpness = sharpness

    def forward(
        self, outputs: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        # Row 0 is all ones.
        centres = self.get_buffer("centres")[1 : 1 + labels.shape[1]]
        target = (1 + torch.sign(labels @ centres)) / 2
        return nn.functional.binary_cross_entropy_with_logits(
            self.sharpness * outputs, target
        )


class CentralHasher(DeepHasher):
    """Central similarity quantisation: a code for each label."""

    retention = 3.0

    def __init__(
        self,
        n_bits: int = 64,
        *,
        sharpness: float = 2.0,
        **network: Unpack[NetworkParameters],
    ) -> None:
        super().__init__(n_bits, **network)
        self.sharpness = sharpness

    def make_loss(self) -> nn.Module:
        return CentralLoss(self.n_bits, self.sharpness)


# %%
# Photos
# ------
# The photos are rendered, with realistic tags. Features are the colours and
# the directions of edges in each cell of a grid. All photos have tags; 150
# have labels.


def describe(pixels: np.ndarray) -> np.ndarray:
    """Mean colours and gradient histograms of an image of 48 x 48 pixels."""
    colours = pixels.reshape(6, 8, 6, 8, 3).mean(axis=(1, 3)) / 255
    edges = hog(
        pixels, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1
    )
    return np.concatenate([colours.ravel(), edges]).astype(np.float32)


photos = make_social_images(1500, image_size=48, random_state=0)
X = np.stack([describe(pixels) for pixels in photos.images])
query, database = np.arange(300), np.arange(300, 1500)

tags = photos.tags[database]
labels = photos.labels[database].toarray()
few = labels.copy()
few[150:] = 0  # a row of zeros is an unlabelled photo

# %%
# Three ways to train it
# ----------------------
# The hasher can be fitted like any estimator.
# :class:`~skhash.WeaklySupervisedHasher` only needs its loss.

hasher = CentralHasher(32, random_state=0)
weakly = WeaklySupervisedHasher(hasher, random_state=0)
both = WeaklySupervisedHasher(hasher, random_state=0)
fitted = {
    "150 labels": hasher.fit(X[database], few),
    "tags": weakly.fit(X[database], tags),
    "tags, then 150 labels": both.fit(X[database], tags, labels=few),
}

# %%
# How well they find photos of the same things
# --------------------------------------------
# 150 labels give better codes after training on tags than alone. Here all
# photos have tags, which contain more information than so few labels: tags
# alone give even better codes.

truth = photos.labels[query].toarray(), labels
scores = {}
for name, one in fitted.items():
    codes = one.transform(X[query]), one.transform(X[database])
    scores[name] = mean_average_precision(*codes, *truth)
scores["chance"] = chance_level(*truth, metric="map")
for name, score in scores.items():
    print(f"{name:22}{score:.3f}")

figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
axes.barh(list(scores), list(scores.values()))
axes.invert_yaxis()
axes.set(xlabel="mean average precision", title="CentralHasher, 32 bits")
plt.show()

# %%
# .. [1] L. Yuan et al., "Central similarity quantization for efficient image
#    and video retrieval", CVPR 2020.
