r"""
From tagged photos to a search
==============================

From photos with tags we make a search. It finds photos by photos and by words,
suggests tags, can get new photos, and is saved as a small folder. This page
shows each step.

The photos here are rendered, and their tags are similar to those of real
users: synonyms, words of two meanings, praise, names of cameras, missing tags.
As a script it does the same with a folder of your photos, and a table of their
tags or the keywords inside the photos::

    python examples/plot_social_image_search.py \
        --images photos/ --tags tags.csv
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import (
    ITQ,
    LSH,
    PCAH,
    DSTDHLinear,
    HammingNeighbors,
    ImageFeatures,
    ImageSearch,
    TagITQ,
)
from skhash.datasets import load_tagged_images, make_social_images
from skhash.metrics import NeighborsDisplay, compare_hashers
from skhash.tags import encode_tags, share_any

parser = argparse.ArgumentParser(
    description="From tagged photos to a search, step by step."
)
parser.add_argument(
    "--images", type=Path, help="folder of your own photos (default: rendered)"
)
parser.add_argument(
    "--tags",
    type=Path,
    help="table of their tags (CSV, TSV, JSON Lines or Parquet) with columns "
    "'file', 'tags' and, optionally, 'labels' for the evaluation "
    "(default: the keywords inside the photos)",
)
parser.add_argument(
    "--n-images",
    type=int,
    help="number of photos (default: 1200 rendered; all)",
)
parser.add_argument(
    "--seed", type=int, default=0, help="seed of all random steps (default: 0)"
)
parser.add_argument(
    "--output",
    type=Path,
    default=Path("output"),
    help="folder (default: output)",
)
args = parser.parse_args()
if args.tags is not None and args.images is None:
    parser.error("--tags needs --images: the folder of the photos")
if args.n_images is not None and args.n_images < 12:
    parser.error(
        "--n-images must be at least 12: one photo in six becomes a query"
    )

# %%
# Photos and tags
# ---------------
# A photo is a file, its tags are a list of words. Labels say what a photo
# shows. They are not used in training, only in the evaluation at the end.
# Without labels, photos with a common tag are relevant.

if args.images is None:
    data = make_social_images(args.n_images or 1200, random_state=args.seed)
    folder = args.output / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:04}.png" for i in range(len(data.images))]
    files = np.array([str(folder / name) for name in names])
    for file, pixels in zip(files, data.images, strict=True):
        Image.fromarray(pixels).save(file)
else:
    data = load_tagged_images(args.images, args.tags)
    files = data.images
tags = data.tags
truth = encode_tags(tags if data.labels is None else data.labels).indicator

for file, words in zip(files[:4], tags, strict=False):
    print(f"{file}: {', '.join(words)}")

# %%
# Features
# --------
# A network trained on ImageNet computes features of each photo:
# EfficientNet-Lite0, whose weights are installed with the examples. OpenVINO
# runs it, which is several times as fast on a CPU. The features are stored,
# for later steps and for the next run. A photo that cannot be read is skipped,
# with a warning.

rng = np.random.default_rng(args.seed)
rows = rng.permutation(len(files))[: args.n_images]
network = ImageFeatures(
    "efficientnet_lite0",
    engine="auto",
    on_error="skip",
    cache=args.output / "features",
    verbose=sys.stderr.isatty(),  # progress on a terminal
)
features = network.fit_transform(files[rows])
network.set_params(verbose=0)
readable = ~np.isnan(features).any(axis=1)
rows, features = rows[readable], features[readable]
files, tags, truth = files[rows], tags[rows], truth[rows]

# %%
# Learn
# -----
# One photo in six is a query; the others are the database. TagITQ learns from
# their tags to turn the features into 64 bits. ``ImageSearch()`` would do the
# same, because this is its default.

query, database = slice(len(files) // 6), slice(len(files) // 6, None)
hasher = TagITQ(64, random_state=args.seed)
search = ImageSearch(make_pipeline(network, hasher))
search.fit(files[database], tags[database])
print(f"{len(files[query])} queries, {len(search)} photos in the search")
print(f"{search.photos_.codes.shape[1]} bytes each")

# %%
# Photos by photos
# ----------------
# The first photo of each row is the query, which is not in the database. The
# results have their names and the number of bits in which the codes differ.

found = search.query(files[query][:4], n_neighbors=7)
figure = found.plot()

# %%
# Photos by words
# ---------------
# Words have codes, too. A photo can be found by a word that is not among its
# tags.

if args.images is None:
    words = [["sunset", "beach"], ["snow"], ["dog"]]
else:
    known = search.photos_.tags
    counts = np.bincount(known.indicator.indices)
    words = [[known.vocabulary[i]] for i in np.argsort(-counts)[:3]]
found_by_words = search.query_tags(words, n_neighbors=7)
print(found_by_words)
figure = found_by_words.plot()

# %%
# Tags for photos
# ---------------
# The most similar photos vote for their tags. The score is the share of votes,
# minus the share that is expected by chance.

asked = files[query][:3]
suggestions = search.suggest_tags(asked)
for file, suggested, own in zip(asked, suggestions, tags[query], strict=False):
    scored = [f"{tag} {score:.2f}" for tag, score in suggested]
    print(f"{file}: {', '.join(scored)}")
    print(f"   its owner wrote: {', '.join(own)}")

# %%
# Add and remove photos
# ---------------------
# This does not need a new fit.

newcomers = files[query][:3]
search.add(newcomers, tags[query][:3])
print(len(search), newcomers[0] in search)
search.remove(newcomers)
print(len(search), newcomers[0] in search)

# %%
# Save
# ----
# The folder contains codes, names, tags and the hasher as plain files, without
# pickle. The results are saved as an HTML page.

search.save(args.output / "search")
again = ImageSearch.load(args.output / "search")
same = again.query(files[query][:4], n_neighbors=7)
pairs = zip(found.ids, same.ids, strict=True)
print(all(np.array_equal(a, b) for a, b in pairs))
found.to_html(args.output / "answers.html")

# %%
# How good is it?
# ---------------
# We compare five methods on the same features. The first three do not use
# tags. Tags are only used in training, not for the code of a photo. The mean
# average precision (MAP) is 1 if all photos of the same things come before all
# others.

n_bits = min(64, len(search))
hashers = {
    type(hasher).__name__: make_pipeline(StandardScaler(), hasher).fit(
        features[database], tags[database]
    )
    for hasher in (
        LSH(n_bits, random_state=args.seed),
        PCAH(n_bits),
        ITQ(n_bits, random_state=args.seed),
        TagITQ(n_bits, random_state=args.seed),
        DSTDHLinear(n_bits, random_state=args.seed),
    )
}
comparison = compare_hashers(
    hashers,
    features[query],
    features[database],
    truth[query],
    truth[database],
    metrics=["map", "precision"],
    at=[10],
)
print(comparison)

# %%
# Left: precision, the share of relevant photos among the results, against
# recall, the share of relevant photos that are found. Right: queries and their
# nearest photos by TagITQ; relevant photos have a green frame.

figure, (curves, sheet) = plt.subplots(
    1, 2, figsize=(11, 4.6), width_ratios=(2, 3), layout="constrained"
)
comparison.plot(ax=curves, linewidth=2)
curves.set_title(f"{n_bits} bits: precision and recall")
codes = hashers["TagITQ"].transform(features[database])
query_codes = hashers["TagITQ"].transform(features[query])
neighbors = HammingNeighbors(8).fit(codes)
nearest = neighbors.kneighbors(query_codes[:6], return_distance=False)
relevant = share_any(truth[query][:6], truth[database]).toarray()
NeighborsDisplay(
    files[query][:6],
    files[database],
    nearest,
    relevant=np.take_along_axis(relevant, nearest, axis=1),
).plot(sheet)
sheet.set_title(
    f"Queries, and their nearest photos by {n_bits} bits of TagITQ"
)
figure.savefig(args.output / "social_image_search.png", dpi=100)

# %%
# The files of this page:

print(f"Search: {args.output / 'search'}")
print(f"Page of answers: {args.output / 'answers.html'}")
print(f"Figure: {args.output / 'social_image_search.png'}")
