"""
How does DSTDH's optimiser work?
================================

:class:`~skhash.DSTDHHasher` solves for binary codes, without making them real
numbers on the way: in each iteration bits flip, or they stay. Its ``history_``
holds the objective after each iteration, the terms that it is the sum of, and
the share of bits that flipped. This page draws them: what converging looks
like, what it looks like if it fails, and what a low objective is worth.
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
# Small rendered ones, with tags as people give them; their pixels are features
# enough to watch an optimiser. 1,000 are to learn from, 1,000 to judge by,
# with labels that nothing learns from.

photos = make_social_images(2000, image_size=16, random_state=0)
pixels = photos.images[:, ::2, ::2].reshape(2000, -1).astype(np.float32)
X = StandardScaler().fit_transform(pixels)


def fit(**parameters: Any) -> DSTDHHasher:
    """Solve codes of 32 bits once, and learn a linear function to them."""
    hasher = DSTDHHasher(
        n_bits=32,
        backbone=None,  # X is features
        hidden_layers=(),  # a linear function, as that of DSTDHLinear
        n_rounds=1,
        random_state=0,
        **parameters,
    )
    return hasher.fit(X[:1000], photos.tags[:1000])


# %%
# The objective
# -------------
# It has three terms here, and is to be as low as possible
# (:doc:`/user_guide/dstdh` has the formulas):
#
# - *tags*: what tags cannot predict of the codes;
# - *visual*, of weight ``alpha``: less, the more alike the codes of photos
#   that look alike;
# - *conceptual*, of weight ``beta``: less, the more alike the codes of photos
#   that share concepts.
#
# With more rounds than one, a fourth ties the codes to the outputs of the
# network (*network*).
#
# The defaults start from the codes of :class:`~skhash.TagITQHasher`, which say
# already what the tags mean. That leaves little to do: hardly a bit flips, and
# after four iterations, the fewest possible, it is over.

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
# To see it work, we take the good start away and make the graphs ten times as
# strong.

strong = {"alpha": 0.03, "beta": 0.003, "max_iter": 100}
converged = fit(init="random", **strong)
show(converged.history_)

# %%
# That is what converging looks like. Many bits flip at first, then fewer and
# fewer, until at most one in a thousand does (``tol``). The objective falls in
# each iteration. Codes first follow the looks of photos, even at the cost of
# the tags, whose term rises; then both fall.


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
# The optimiser splits the problem into parts that are easy, and makes the
# parts agree by a penalty, ``mu``, which grows by the factor ``rho`` in each
# iteration. A bit flips only if the other terms outweigh it. So with a weak
# penalty a third of all bits flips in each iteration, to and fro, and the
# objective rises in every third; once the penalty has grown, all come to rest.
# With a strong one no bit flips at all: the codes stay random, and it has
# converged to nothing.
#
# Augmented Lagrangian multipliers promise no more than that: nothing
# guarantees that the objective does not increase. If it does, ``mu`` is too
# small for ``alpha``.

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
# It is what is minimised, but not what is wanted: photos of the same things
# should be found. Here are both, from both starts; only objectives of the same
# weights can be compared. (MAP is the mean average precision among the 1,000
# photos that were not learned from.)


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
# - It has converged when the share of bits that flip has gone to 0, *and* some
#   have flipped before.
# - If the objective rises, the penalty ``mu`` is too small for the weights of
#   the graphs. If no bit flips, it is too large, or the start was good
#   already.
# - The start decides more than the optimiser. From what tags mean, the lower
#   objectives have the worse codes here: these graphs are of pixels, which are
#   poor judges of what photos show. That is why they weigh little by default.
#   :ref:`sphx_glr_auto_examples_plot_tune_transfer.py` shows how to choose the
#   weights for your photos.
#
# :class:`~skhash.DSTDHLinear` has the same optimiser; it keeps the objective
# alone, in ``objective_``, and prints the flips with ``verbose=1``.

# sphinx_gallery_thumbnail_number = 1
