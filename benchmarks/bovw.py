"""Bag of visual words of photos: dense DAISY and colour descriptors, k-means, a histogram.

    OMP_NUM_THREADS=1 python benchmarks/bovw.py     # photos of MIR Flickr

A descriptor is taken at every 8th pixel: the gradients around (DAISY of the lightness, an
established relative of SIFT) beside the local mean colour (CIELAB). The words are the centres of
k-means over descriptors of the training photos alone; each descriptor counts for its nearest word.
The counts are kept in ``benchmarks/cache``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.feature import daisy
from skimage.filters import gaussian
from sklearn.cluster import MiniBatchKMeans

from skhash.networks import read_image

N_WORDS = 1000
SIZE = 128  # side to which photos are cut
STEP, RADIUS = 8, 15
CONTRAST = 70.0  # norm of gradients that a flat patch may well have by noise alone
COLOUR = 0.5  # weight of 50 units of CIELAB beside gradients of norm 1
PER_PHOTO = 50  # descriptors of a training photo that k-means sees
SETTINGS = f"daisy{STEP}x{RADIUS}_lab{COLOUR:g}_{N_WORDS}"


def describe(photo: str | Path) -> NDArray[np.float32]:
    """Descriptors of a photo, shape (n_places, 107)."""
    lab = rgb2lab(read_image(photo, SIZE)).astype(np.float32)
    gradients = daisy(
        lab[..., 0], STEP, RADIUS, rings=2, histograms=6, orientations=8, normalization="off"
    )
    gradients /= np.linalg.norm(gradients, axis=2, keepdims=True) + CONTRAST
    inner = slice(RADIUS, -RADIUS, STEP)  # where daisy takes its descriptors
    colours = gaussian(lab, STEP / 2, channel_axis=-1)[inner, inner] * (COLOUR / 50)
    both = np.concatenate([gradients, colours], axis=2)
    return both.reshape(-1, both.shape[2]).astype(np.float32)


def some_descriptors(photo: str | Path, seed: int) -> NDArray[np.float32]:
    """Descriptors of a photo at random places."""
    found = describe(photo)
    return found[np.random.default_rng(seed).permutation(len(found))[:PER_PHOTO]]


def count_words(photos: Sequence[str | Path], words: MiniBatchKMeans) -> NDArray[np.uint8]:
    """How often each word occurs in each photo; a photo has no more than 169 descriptors."""
    return np.stack(
        [np.bincount(words.predict(describe(photo)), minlength=N_WORDS) for photo in photos]
    ).astype(np.uint8)


def bags(
    photos: Sequence[str | Path], train: NDArray[np.integer], *, jobs: int = 1
) -> NDArray[np.uint8]:
    """Counts of visual words, which are learned from the photos ``train``."""
    parallel = Parallel(jobs)
    sample = parallel(delayed(some_descriptors)(photos[i], seed=i) for i in train)
    words = MiniBatchKMeans(N_WORDS, batch_size=4096, n_init=1, max_iter=20, random_state=0)
    words.fit(np.concatenate(sample))
    starts = range(0, len(photos), 500)
    counts = parallel(delayed(count_words)(photos[i : i + 500], words) for i in starts)
    return np.concatenate(counts)


def main() -> None:
    """Compute the bags of a set of photos, unless they are kept already."""
    import _data

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mirflickr", help="as in tables.py")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    start = time.perf_counter()
    X = _data.features("bovw", args.dataset, args.split, jobs=args.jobs)
    print(f"{X.shape[0]} photos, {X.shape[1]} words, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
