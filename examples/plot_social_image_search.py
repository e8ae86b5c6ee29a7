"""
From tagged photos to a search for similar ones
===============================================

Photos whose owners tagged them go in; binary codes come out, from hashers that use the tags and
from hashers that do not. A table tells how well each finds photos of the same things, a figure
shows it.

By default the photos are rendered and their tags imitate people's. As a script it does the same
with a folder of your own photos, by the keywords that they carry or a table of their tags::

    python examples/plot_social_image_search.py --images photos/
    python examples/plot_social_image_search.py --images photos/ --tags tags.csv

and ``--help`` tells about the other options.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from skimage.color import rgb2lab
from skimage.feature import hog
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from skhash import ITQ, LSH, PCAH, DSTDHLinear, HammingNeighbors, TagITQ
from skhash.datasets import load_tagged_images, make_social_images
from skhash.images import read_image
from skhash.metrics import (
    NeighborsDisplay,
    PrecisionRecallDisplay,
    RetrievalReport,
    retrieval_report,
)
from skhash.tags import encode_tags, share_any

# %%
# Features
# --------
# What a network that has learned from ImageNet sees in an image: EfficientNet-Lite0, whose weights
# are installed with the examples. On the command line, ``--backbone`` names another network.
#
# ``--backbone histograms`` does without any: two simple descriptions of an image, over a grid of
# 4 x 4 cells: which way its edges run (histograms of oriented gradients), and its colours
# (histograms of lightness and of the two colour axes of CIELAB). By those all hashers but LSH find
# less.


def describe(image: np.ndarray | str, size: int = 64, grid: int = 4) -> np.ndarray:
    """Gradient and colour histograms of an image, given as an array or a path."""
    pixels = read_image(image, size)
    cell = size // grid
    gradients = hog(pixels, orientations=8, pixels_per_cell=(cell, cell), channel_axis=-1)
    low, high = np.array([0, -60, -60]), np.array([100, 60, 60])
    bins = np.clip((rgb2lab(pixels) - low) / (high - low) * 8, 0, 7).astype(int)
    colours = np.eye(8)[bins].reshape(grid, cell, grid, cell, -1).mean(axis=(1, 3))
    # The root keeps a few frequent colours from drowning the others.
    return np.concatenate([gradients, np.sqrt(colours.ravel())]).astype(np.float32)


def extract(images: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Features of all images, by a network or by histograms."""
    if args.backbone == "histograms":
        return np.stack(Parallel(n_jobs=-1)(delayed(describe)(image) for image in images))
    from skhash.networks import ImageFeatures

    network = ImageFeatures(
        args.backbone,
        weights=args.weights,
        image_size=args.image_size,
        cache=args.output.parent / "features",  # a second run need not wait
        verbose=1,
    )
    return network.fit_transform(images)


# %%
# Hashers
# -------
# Five ways to codes. The first three see features only; the last two learn from the tags too, but
# need none for a new photo. All follow scikit-learn, so that scaling the features and hashing make
# one pipeline.


def make_hashers(n_bits: int, seed: int) -> dict[str, Any]:
    """The hashers to compare, by name."""
    hashers = [
        LSH(n_bits, random_state=seed),
        PCAH(n_bits),
        ITQ(n_bits, random_state=seed),
        TagITQ(n_bits, random_state=seed),
        DSTDHLinear(n_bits, random_state=seed),
    ]
    return {type(hasher).__name__: make_pipeline(StandardScaler(), hasher) for hasher in hashers}


# %%
# Photos
# ------
# One photo in six becomes a query; the others are the database, and their tags are what is learned
# from. A photo of the database is relevant to a query if both show the same thing, which labels
# tell; where there are no labels, if they share a tag.


def load(args: argparse.Namespace) -> tuple[Bunch, Bunch]:
    """Return queries and database, each with images, features, tags and truth."""
    if args.images is None:
        photos = make_social_images(args.n_images or 3000, random_state=args.seed)
    else:
        photos = load_tagged_images(args.images, args.tags)
    truth = encode_tags(photos.tags if photos.labels is None else photos.labels).indicator

    rows = np.random.default_rng(args.seed).permutation(len(photos.images))[: args.n_images]
    images, tags, truth = photos.images[rows], photos.tags[rows], truth[rows]
    print(f"Describing {len(rows)} photos ...", flush=True)
    features = extract(images, args)

    n_queries = max(len(rows) // 6, 1)
    query, database = (
        Bunch(images=images[part], features=features[part], tags=tags[part], truth=truth[part])
        for part in (slice(n_queries), slice(n_queries, None))
    )
    return query, database


# %%
# Measuring
# ---------
# The mean average precision (MAP) of a ranking is 1 if all that is relevant comes before all that
# is not, and at the chance level if the codes tell nothing.


def compare(hashers: dict[str, Any], query: Bunch, database: Bunch) -> dict[str, RetrievalReport]:
    """Fit each hasher to the database, and report on how well it finds what is relevant."""
    return {
        name: retrieval_report(
            hasher.fit(database.features, database.tags),
            query.features,
            database.features,
            query.truth,
            database.truth,
        )
        for name, hasher in hashers.items()
    }


def format_table(reports: dict[int, dict[str, RetrievalReport]]) -> str:
    """MAP by hasher and code length, the chance level first."""
    by_length = list(reports.values())
    names = list(by_length[0])
    rows = {"chance": [report[names[0]].chance_map for report in by_length]}
    rows |= {name: [report[name].map for report in by_length] for name in names}
    lines = ["MAP".ljust(12) + "".join(f"{n_bits:>5} bits" for n_bits in reports)]
    lines += [name.ljust(12) + "".join(f"{x:>10.3f}" for x in row) for name, row in rows.items()]
    return "\n".join(lines)


# %%
# Looking
# -------
# Left: what share of the photos found is relevant (precision), as more of the relevant ones are
# found (recall). Right: the first few queries, and what comes nearest to each; a green frame means
# relevant.


def draw(reports: dict[str, RetrievalReport], hasher: Any, query: Bunch, database: Bunch) -> Figure:
    """Precision-recall curves of all hashers, and nearest neighbours by one of them."""
    figure, (curves, sheet) = plt.subplots(
        1, 2, figsize=(11, 4.6), width_ratios=(2, 3), layout="constrained"
    )
    for i, (name, report) in enumerate(reports.items()):
        PrecisionRecallDisplay(**report.precision_recall, name=name).plot(
            curves,
            plot_chance_level=i == len(reports) - 1,
            linewidth=3.5 - 0.5 * i,  # none hides another that runs along it
        )
    n_bits = reports["DSTDHLinear"].n_bits
    curves.set_title(f"{n_bits} bits: precision and recall")

    n_queries, n_neighbors = min(6, len(query.images)), min(8, len(database.images))
    search = HammingNeighbors(n_neighbors).fit(hasher.transform(database.features))
    neighbors = search.kneighbors(
        hasher.transform(query.features[:n_queries]), return_distance=False
    )
    relevant = share_any(query.truth[:n_queries], database.truth).toarray()
    NeighborsDisplay(
        query.images[:n_queries],
        database.images,
        neighbors,
        relevant=np.take_along_axis(relevant, neighbors, axis=1),
    ).plot(sheet)
    sheet.set_title(f"Queries, and their nearest neighbours by {n_bits} bits of DSTDHLinear")
    return figure


# %%
# All of it
# ---------


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example with arguments of a command line."""
    parser = argparse.ArgumentParser(
        description="Learn binary codes from photos and tags, measure them, and search by them."
    )
    parser.add_argument("--images", type=Path, help="folder of your own photos")
    parser.add_argument(
        "--tags",
        type=Path,
        help="table of their tags (CSV, TSV, JSON Lines or Parquet) with columns 'file', 'tags' "
        "and, if there are any to judge by, 'labels'; commas stand between tags, and labels "
        "(default: the keywords that the photos carry)",
    )
    parser.add_argument(
        "--n-images",
        type=int,
        help="use this many photos, drawn at random (default: all of --images; 3000 rendered ones)",
    )
    parser.add_argument(
        "--backbone",
        default="efficientnet_lite0",
        help="network that gives the features, or 'histograms' (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        default="DEFAULT",
        help="file of the backbone's state dict (default: its own, installed or downloaded once)",
    )
    parser.add_argument(
        "--image-size", type=int, help="side in pixels that the backbone sees (default: its own)"
    )
    parser.add_argument(
        "--bits", type=int, nargs="+", default=[16, 32, 64], help="code lengths (default: 16 32 64)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all chance (default: 0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/social_image_search.png"),
        help="file of the figure (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    if args.images is None and args.tags is not None:
        parser.error("--tags is a table of the tags of --images, which is missing")
    if args.n_images is not None and args.n_images < 12:
        parser.error("--n-images must be at least 12: one photo in six becomes a query")

    query, database = load(args)
    print(f"{len(query.images)} queries, {len(database.images)} photos in the database", flush=True)
    reports = {}
    for n_bits in sorted(set(args.bits)):
        hashers = make_hashers(n_bits, args.seed)
        reports[n_bits] = compare(hashers, query, database)
    print(format_table(reports))

    figure = draw(reports[n_bits], hashers["DSTDHLinear"], query, database)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=100)
    print(f"Figure: {args.output}")


if __name__ == "__main__":
    main()
