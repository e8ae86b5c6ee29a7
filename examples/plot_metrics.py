"""
Why the MAPs of papers differ
=============================

Two papers report a mean average precision (MAP) on the same photos, and one
figure is twice the other. Are its codes better? Not necessarily: a MAP depends
on the length of the ranking that is used, on the divisor of the sum, on the
order of photos at the same distance, and on the definition of relevance. On
this page the codes stay the same and only the measure changes.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import ITQ, ImageFeatures, TagITQ
from skhash.codes import hamming_distances
from skhash.datasets import make_social_images
from skhash.metrics import (
    chance_level,
    mean_average_precision,
    ndcg_at_k,
    precision_within_radius,
)
from skhash.tags import share_any

# %%
# The codes
# ---------
# Two hashers make 32 bits of each photo: :class:`~skhash.ITQ`, which does not
# use tags, and :class:`~skhash.TagITQ`, which learns from them. 200 photos are
# queries. The other 1,000 are for training, and are ranked for each query.
# Each photo has one to four labels, such as "beach" and "sunset".

photos = make_social_images(1200, random_state=0)
network = ImageFeatures("efficientnet_lite0", image_size=96)
features = network.fit_transform(photos.images)
query, database = np.arange(200), np.arange(200, 1200)

codes = {}
for hasher in (ITQ(32, random_state=0), TagITQ(32, random_state=0)):
    pipeline = make_pipeline(StandardScaler(), hasher)
    pipeline.fit(features[database], photos.tags[database])
    codes[type(hasher).__name__] = (
        pipeline.transform(features[query]),
        pipeline.transform(features[database]),
    )

labels = photos.labels[query], photos.labels[database]
n_relevant = share_any(*labels).sum(axis=1)
print(f"photos relevant to a query: {n_relevant.min()} to {n_relevant.max()}")

# %%
# One function computes all figures of this page and keeps them for the plot at
# the end. It also computes the figure of a random order: each measure has
# another chance level, and a MAP without its chance level says little.

figures: dict[str, dict[str, float]] = {}
NAMES: dict[Callable[..., float], str] = {
    mean_average_precision: "map",
    ndcg_at_k: "ndcg",
}


def measure(
    title: str,
    metric: Callable[..., float],
    truth: tuple[Any, Any] = labels,
    **options: Any,
) -> None:
    """Measure the codes of both hashers, and a random order, in one way."""
    row = {k: metric(*pair, *truth, **options) for k, pair in codes.items()}
    options.pop("ties", None)  # a random order has none
    name = NAMES.get(metric, "precision")
    row["chance"] = chance_level(*truth, metric=name, **options)
    figures[title] = row
    print(f"{title:34}", *(f"{k} {v:.3f}" for k, v in row.items()), sep="  ")


# %%
# Length of the ranking, and divisor
# ----------------------------------
# :func:`~skhash.metrics.mean_average_precision` uses the whole ranking. Many
# papers stop at rank k and still call it MAP. The sum of the precisions at the
# hits is then divided by one of three numbers: the largest possible number of
# hits in k ranks, the number of relevant photos, or the number of hits. With
# the last divisor, a query that finds only one photo, at rank 1, has the
# perfect value 1.

measure("MAP", mean_average_precision)
for divisor, what in {
    "min": "most possible",
    "relevant": "all relevant",
    "hits": "those found",
}.items():
    title = f"MAP@50, divided by {what}"
    measure(title, mean_average_precision, k=50, divisor=divisor)

# %%
# Ties
# ----
# With 32 bits there are 33 distances for 1,000 photos, so many photos have the
# same distance. "expected", the default, is the mean over all orders of ties;
# "best" and "worst" put relevant photos first or last among ties. Much
# published code uses a stable sort of the distances, so that ties are in the
# order of the database. The result is near the mean if the database is in
# random order, and can be anything between worst and best if it is sorted.

distances = hamming_distances(*codes["ITQ"])
n_different = np.mean([len(np.unique(row)) for row in distances])
print(f"different distances in a ranking of ITQ: {n_different:.1f}")

for ties in ("best", "worst", "stable"):
    measure(f"MAP, ties: {ties}", mean_average_precision, ties=ties)

# %%
# Relevance
# ---------
# So far photos with one common label were relevant. This is easy if photos
# show several things. Relevance may also need exactly the same labels. Without
# labels, it may use tags: then a photo with other words for the same thing is
# not relevant, and a query without tags has no relevant photos. Such queries
# count as 0, unless they are skipped with ``empty="skip"``.

kinds = np.unique(photos.labels.toarray(), axis=0, return_inverse=True)[1]
kinds = kinds.ravel()
same = kinds[query], kinds[database]
tags = photos.tags[query], photos.tags[database]
measure("MAP, all labels the same", mean_average_precision, same)
measure("MAP, a shared tag", mean_average_precision, tags)
measure(
    "MAP, a shared tag, empty left out",
    mean_average_precision,
    tags,
    empty="skip",
)

# %%
# nDCG does not need such a decision. The gain of a photo is the number of
# labels that it shares with the query, or 2 to the power of this number, minus
# 1.

for gain in ("linear", "exponential"):
    measure(f"nDCG@50, {gain}", ndcg_at_k, k=50, gain=gain)

# %%
# Lookup in a hash table
# ----------------------
# Another common figure is the precision among photos within 2 bits of a query.
# With 32 bits many queries find nothing in this radius.
# :func:`~skhash.metrics.precision_within_radius` counts them as 0, because an
# empty result helps nobody. If they are skipped, the figure is two or three
# times as high, and it may even grow if fewer queries find anything.


def precision_of_nonempty(
    query_codes: np.ndarray, database_codes: np.ndarray, *truth: Any
) -> float:
    """Precision within radius 2 of the queries that find something."""
    found = hamming_distances(query_codes, database_codes) <= 2
    hits = (found & share_any(*truth).toarray()).sum(axis=1)
    n_found = found.sum(axis=1)
    return float((hits[n_found > 0] / n_found[n_found > 0]).mean())


measure("radius 2, nothing found is 0", precision_within_radius)
measure("radius 2, nothing found left out", precision_of_nonempty)
for name, pair in codes.items():
    empty = (hamming_distances(*pair) > 2).all(axis=1).mean()
    print(f"{name}: {empty:.0%} of the queries find nothing")

# %%
# All figures of the same codes
# -----------------------------
# Each row is one measure. Within a row ITQ and TagITQ can be compared, and
# TagITQ is better in all rows. Figures of different rows cannot be compared:
# the MAP@50 of ITQ, divided by the number of hits, is larger than the MAP of
# TagITQ on the full ranking.

figure, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
rows = np.arange(len(figures))
for name, marker in {"chance": "|", "ITQ": "o", "TagITQ": "D"}.items():
    values = [row[name] for row in figures.values()]
    colour = "0.5" if name == "chance" else None
    ax.scatter(values, rows, c=colour, marker=marker, label=name, zorder=3)
ax.set_yticks(rows, list(figures))
ax.grid(axis="y", color="0.9")
ax.invert_yaxis()
ax.set(xlim=(0, 1), xlabel="what is reported")
ax.set_title(f"The same codes, measured in {len(figures)} ways")
ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
plt.show()

# %%
# What to take from this
# ----------------------
# - Only compare figures that were measured in the same way, for example by
#   :func:`~skhash.metrics.compare_hashers` in one call.
# - Report k, the divisor, the treatment of ties and of empty queries, the
#   definition of relevance, and the chance level.
#   :func:`~skhash.metrics.retrieval_report` keeps all of them but the labels.
# - To compare with a figure of a paper, find its code and use the same
#   options; otherwise the comparison means nothing.
# - Always report the MAP of the full ranking with expected ties, too. It
#   depends on no k and not on the order of the database.
