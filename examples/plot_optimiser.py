"""
How does DSTDH's optimiser work?
================================

:class:`~skhash.DSTDHHasher` solves for binary codes directly, without a
relaxation to real numbers: in each iteration some bits flip. Its ``history_``
holds the objective after each iteration, the terms of the objective, and the
share of bits that flipped. This page plots them for a fit that converges and
for fits that do not, and compares the objective with the quality of the codes.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

from skhash import DSTDHHasher
from skhash.datasets import make_social_images
from skhash.metrics import leave_one_out_map

# %%
# Photos
# ------
# The photos are small and rendered, with realistic tags. Their pixels are good
# enough as features here. 1,000 photos are for training and 1,000 for the
# evaluation, with labels that are not used in training.

photos = make_social_images(2000, image_size=16, random_state=0)
pixels = photos.images[:, ::2, ::2].reshape(2000, -1).astype(np.float32)
X = StandardScaler().fit_transform(pixels)


def fit(**parameters: Any) -> DSTDHHasher:
    """Solve codes of 32 bits once, and learn a linear function to them."""
    hasher = DSTDHHasher(
        n_bits=32,
        backbone=None,  # X is features
        hidden_layers=(),  # a linear function, as in DSTDHLinear
        n_rounds=1,
        random_state=0,
        **parameters,
    )
    return hasher.fit(X[:1000], photos.tags[:1000])


# %%
# The objective
# -------------
# The optimiser minimises the objective, which has three terms here
# (:doc:`/user_guide/dstdh` has the formulas):
#
# - *tags*: the error of the tags as predictors of the codes;
# - *visual*, with weight ``alpha``: small if photos that look similar have
#   similar codes;
# - *conceptual*, with weight ``beta``: small if photos with common concepts
#   have similar codes.
#
# With more than one round there is a fourth term, *network*: small if the
# codes are near the outputs of the network.
#
# The defaults start from the codes of :class:`~skhash.TagITQHasher`, which
# already contain the meaning of tags. So almost no bits flip, and the
# optimiser stops after four iterations, the smallest possible number.

default = fit()


def show(history: list[dict]) -> None:
    """Print a line for each iteration."""
    print("      objective    tags  visual  conceptual  flipped")
    for i, row in enumerate(history, 1):
        terms = f"{row['tags']:8.1f}{row['visual']:8.1f}"
        terms += f"{row['conceptual']:12.2f}{row['changed']:9.2%}"
        print(f"{i:5}{row['objective']:10.1f}{terms}")


show(default.history_)

# %%
# From random codes
# -----------------
# To see the optimiser work, we use a random start and graphs with ten times
# the weight.

strong = {"alpha": 0.03, "beta": 0.003, "max_iter": 100}
converged = fit(init="random", **strong)
show(converged.history_)

# %%
# This fit converges. Many bits flip at first, then fewer and fewer, until at
# most one in a thousand flips (``tol``). The objective falls in each
# iteration. At first the visual term falls and the term of the tags rises;
# then both fall.


def draw(history: list[dict], axes: Any, **line: Any) -> None:
    """Draw the objective, and the share of bits that flipped."""
    iterations = np.arange(1, len(history) + 1)
    for ax, name in zip(axes, ("objective", "changed"), strict=True):
        ax.plot(iterations, [row[name] for row in history], marker=".", **line)
        ax.set_xlabel("iteration")


figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
draw(converged.history_, axes, color="black", label="objective")
iterations = np.arange(1, converged.n_iter_ + 1)
for name in ("tags", "visual", "conceptual"):
    course = [row[name] for row in converged.history_]
    axes[0].plot(iterations, course, linestyle="--", label=name)
axes[0].legend()
axes[0].set_title("objective and its terms")
axes[1].set(title="share of bits that flipped", yscale="log")
plt.show()

# %%
# A penalty that is too weak
# --------------------------
# The optimiser splits the problem into easy parts. A penalty with weight
# ``mu`` makes the parts agree; ``mu`` grows by the factor ``rho`` in each
# iteration. A bit flips only if the other terms are larger than the penalty.
# So with a weak penalty a third of all bits flip back and forth in each
# iteration, and the objective rises in every third iteration; once the penalty
# has grown, the bits stop flipping. With a strong penalty no bit flips at all:
# the codes stay random, and the optimiser has learned nothing.
#
# This is known of augmented Lagrangian multipliers: there is no guarantee that
# the objective never increases. If it does, ``mu`` is too small for ``alpha``.

penalties = [0.1, 0.01, 0.001]
runs = {mu: fit(init="random", mu=mu, **strong) for mu in penalties}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for mu, hasher in runs.items():
    draw(hasher.history_, axes, label=f"mu = {mu:g}")
    n_rises = np.sum(np.diff(hasher.objective_) > 1e-3)
    print(f"{mu=}: {hasher.n_iter_} iterations; it rose in {n_rises} of them")
axes[0].set_title("objective")
axes[0].legend()
axes[1].set_title("share of bits that flipped")
plt.show()

# %%
# Is a low objective a good code?
# -------------------------------
# The optimiser minimises the objective, but the aim is to find photos of the
# same things. Here are both values, for both starts. Only objectives with the
# same weights can be compared. (MAP is the mean average precision among the
# 1,000 photos that were not used in training.)


def score(hasher: DSTDHHasher) -> float:
    """MAP among the photos that the hasher has not seen."""
    codes = hasher.transform(X[1000:])
    return leave_one_out_map(codes, photos.labels[1000:])


from_tags = {mu: fit(mu=mu, **strong) for mu in penalties}
starts = {"random": runs, "semantic": from_tags}
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for start, hashers in starts.items():
    points = []
    for mu, hasher in hashers.items():
        x, y = hasher.objective_[-1], score(hasher)
        print(f"{start:9} {mu=:<6} objective {x:7.1f}  MAP {y:.3f}")
        ax.annotate(f" mu = {mu:g}", (x, y))
        points.append((x, y))
    ax.plot(*zip(*points, strict=True), marker="o", label=f'init="{start}"')
ax.margins(x=0.2)
ax.set(xlabel="objective at the end", ylabel="MAP")
ax.legend()
plt.show()

print(f"the defaults, whose graphs are weaker: MAP {score(default):.3f}")

# %%
# What to take from this
# ----------------------
# - The optimiser has converged when the share of bits that flip has fallen to
#   0, *and* some bits have flipped before.
# - If the objective rises, the penalty ``mu`` is too small for the weights of
#   the graphs. If no bit flips, ``mu`` is too large, or the start was already
#   good.
# - The start matters more than the optimiser. From the semantic start, lower
#   objectives give worse codes here, because these graphs compare pixels,
#   which say little about the content of photos. Therefore the default weights
#   of the graphs are small.
#   :ref:`sphx_glr_auto_examples_plot_tune_transfer.py` shows how to choose the
#   weights for your photos.
#
# :class:`~skhash.DSTDHLinear` has the same optimiser, and a ``history_`` too.

# sphinx_gallery_thumbnail_number = 1
