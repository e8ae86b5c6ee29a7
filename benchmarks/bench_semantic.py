"""Time and memory of SemanticSpace at the size of NUS-WIDE: 270,000 images, 5,018 tags.

    python benchmarks/bench_semantic.py
    python benchmarks/bench_semantic.py --n-images 900000 --n-tags 1000 --mean-tags 12.7

Tags are simulated: an image has one or two topics, topics share tags, tags have Zipf-like
frequencies, and the numbers of tags of an image have a long tail, up to 201 as on NUS-WIDE. Peak
memory is that of the process and never falls; that before the fit includes the simulated tags,
as lists of str. Rates are of the fastest of three calls; CPU time tells the work on a busy machine.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from skhash.semantic import SemanticSpace
from skhash.tags import encode_tags


def simulate_tags(
    n_images: int,
    n_tags: int,
    *,
    mean_tags: float = 7.9,
    max_tags: int = 201,
    n_topics: int = 150,
    random_state: int = 0,
) -> list[list[str]]:
    """Lists of tags of images."""
    rng = np.random.default_rng(random_state)
    frequency = 1 / (np.arange(n_tags) + 20) ** 1.1
    frequency /= frequency.sum()
    topics = frequency * rng.gamma(0.1, size=(n_topics, n_tags))
    topics /= topics.sum(axis=1, keepdims=True)
    cumulated = np.cumsum(0.8 * topics + 0.2 * frequency, axis=1)
    # Some are drawn twice and count once, so that draws are a little more than tags.
    draws = rng.lognormal(np.log(1.09 * mean_tags) - 0.9**2 / 2, 0.9, size=n_images)
    image = np.repeat(np.arange(n_images), np.clip(draws, 1, 1.4 * max_tags).astype(int))
    topic = rng.integers(n_topics, size=(n_images, 2))[
        image, (rng.random(len(image)) < 0.3).astype(int)
    ]
    luck = rng.random(len(image))
    tag = np.empty(len(image), dtype=np.int64)
    for k in range(n_topics):
        rows = np.flatnonzero(topic == k)
        tag[rows] = np.searchsorted(cumulated[k], luck[rows] * cumulated[k, -1])
    pairs = np.unique(image * n_tags + tag)
    image, tag = pairs // n_tags, pairs % n_tags
    names = np.array([f"tag{j}" for j in range(n_tags)], dtype=object)
    ends = np.cumsum(np.bincount(image, minlength=n_images))
    return [row[:max_tags].tolist() for row in np.split(names[tag], ends[:-1])]


def peak_memory() -> float:
    """In GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(name: str, step: Callable[[], Any], n_images: int | None = None) -> Any:
    """Run a step and print its row; what has a rate is run three times, and the fastest counts."""
    times = []
    for _ in range(1 if n_images is None else 3):
        result = None  # free the last one
        start = time.perf_counter(), time.process_time()
        result = step()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = min(times)
    rate = "" if n_images is None else f"{n_images / wall:,.0f}"
    print(
        f"| {name:28} | {wall:7.1f} | {cpu:7.1f} | {rate:>10} | {peak_memory():9.2f} |", flush=True
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-images", type=int, default=270_000)
    parser.add_argument("--n-tags", type=int, default=5_018)
    parser.add_argument("--mean-tags", type=float, default=7.9)
    parser.add_argument("--max-tags", type=int, default=201)
    parser.add_argument(
        "--epochs", type=int, help="of word2vec; the default of SemanticSpace if left out"
    )
    args = parser.parse_args()

    print("| step                         |  wall s |   CPU s |   images/s | peak GB   |")
    print("|:-----------------------------|--------:|--------:|-----------:|----------:|")
    tags = measure(
        "simulate tags",
        lambda: simulate_tags(
            args.n_images, args.n_tags, mean_tags=args.mean_tags, max_tags=args.max_tags
        ),
    )
    space = SemanticSpace(epochs=args.epochs, random_state=0)
    measure("fit", lambda: space.fit(tags))
    encoded = measure("encode_tags", lambda: encode_tags(tags), len(tags))
    measure("transform, lists of str", lambda: space.transform(tags), len(tags))
    Z = measure("transform, encoded tags", lambda: space.transform(encoded), len(tags))

    lengths, counts = np.diff(encoded.indicator.indptr), encoded.indicator.sum(axis=0)
    print(
        f"\n{len(counts)} tags; tags an image: mean {lengths.mean():.1f}, most {lengths.max()}; "
        f"images a tag: mean {counts.mean():.0f}, most {counts.max():.0f}; "
        f"{(lengths * (lengths - 1.0)).sum() / 1e6:.0f} million pairs\n"
        f"{space.n_components_} sem-words, alpha {space.alpha_:.4f}, {space.density_:.1%} of the "
        f"codes nonzero, {Z.nnz / np.prod(Z.shape):.1%} of the sem-vectors"
    )


if __name__ == "__main__":
    main()
