"""What it costs HammingNeighbors to grow and to shrink, and what searches are worth afterwards.

    OMP_NUM_THREADS=1 python benchmarks/bench_growth.py

An index grows from nothing to a million random codes by additions of a thousand; codes are then
removed, in one call and in calls of a hundred, chosen at random. Ratios are queries a second to
those of an index built at once on the same codes in the same run; searches of the two take turns.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skhash import HammingNeighbors


def resident() -> int:
    """Memory of the process in bytes; Linux only."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def timed(what: str, n_calls: int = 1) -> Iterator[None]:
    """Print how long something took, and a call of it, and how much memory it holds after it."""
    gc.collect()
    before, start = resident(), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    held = (resident() - before) / 2**20
    print(
        f"| {what:48} | {seconds:7.3f} | {1e3 * seconds / n_calls:8.3f} | {held:8.1f} |",
        flush=True,
    )


def grow(
    backend: Any, packed: NDArray[np.uint8], ids: list[str] | None = None, step: int = 1000
) -> HammingNeighbors:
    index = HammingNeighbors(10, backend=backend, packed=True)
    for start in range(0, len(packed), step):
        part = slice(start, start + step)
        index.partial_fit(packed[part], ids=None if ids is None else ids[part])
    return index


def seconds_of(search: Callable[[NDArray[np.uint8]], Any], queries: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    search(queries)
    return time.perf_counter() - start


def ratios(
    grown: HammingNeighbors, packed: NDArray[np.uint8], seconds: float
) -> Iterator[tuple[int, float, float]]:
    """Queries a second of an index, and their ratio to those of one built at once."""
    fresh = HammingNeighbors(10, backend=grown.backend, packed=True).fit(packed)
    rng = np.random.default_rng(1)
    for n_queries in (1, 256):
        queries = packed[rng.integers(0, len(packed), n_queries)] ^ np.uint8(1)
        for found, expected in zip(
            grown.kneighbors(queries), fresh.kneighbors(queries), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
        end = time.perf_counter() + seconds
        times: list[list[float]] = []
        while not times or time.perf_counter() < end:
            times.append([seconds_of(index.kneighbors, queries) for index in (grown, fresh)])
        best_grown, best_fresh = np.min(times, axis=0)
        yield n_queries, n_queries / best_grown, best_fresh / best_grown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-codes", type=int, default=1_000_000)
    parser.add_argument("--n-bits", type=int, default=64)
    parser.add_argument("--n-removed", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each ratio")
    args = parser.parse_args()
    n, step = args.n_codes, 1000

    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (n, args.n_bits // 8), dtype=np.uint8)
    removed = rng.permutation(n)[: args.n_removed]
    kept = np.setdiff1d(np.arange(n), removed)
    print(f"{n:,} codes of {args.n_bits} bits")
    print(f"| {'':48} | seconds | ms/call  | MiB held |\n|:---|---:|---:|---:|")
    speeds = []
    for backend in ("numpy", "faiss"):
        with timed(f"{backend}: fit at once"):
            grown = HammingNeighbors(10, backend=backend, packed=True).fit(packed)
        with timed(f"{backend}: additions of {step}", n // step):
            grown = grow(backend, packed)
        speeds += [(backend, "grown", *row) for row in ratios(grown, packed, args.seconds)]
        with timed(f"{backend}: {args.n_removed:,} removals in one call, one search"):
            grown.remove(removed).kneighbors(packed[:1])
        speeds += [(backend, "less", *row) for row in ratios(grown, packed[kept], args.seconds)]
        grown = HammingNeighbors(backend=backend, packed=True).fit(packed)
        with timed(f"{backend}: removals in calls of 100, one search", args.n_removed // 100):
            for start in range(0, len(removed), 100):
                grown.remove(removed[start : start + 100])
            grown.kneighbors(packed[:1])
        grown = HammingNeighbors(backend=backend, packed=True).fit(packed)
        with timed(f"{backend}: 100 removed, search, 100 added, search", 100):
            for start in range(0, 10_000, 100):
                grown.remove(removed[start : start + 100]).kneighbors(packed[:1])
                grown.partial_fit(packed[:100]).kneighbors(packed[:1])
        del grown
    with timed("faiss: search, search", 100):
        index = HammingNeighbors(backend="faiss", packed=True).fit(packed)
        for _ in range(200):
            index.kneighbors(packed[:1])
    names = [f"photos/{i:07}.jpg" for i in range(n)]
    with timed(f"ids of str: additions of {step}", n // step):
        grown = grow("faiss", packed, names)
    with timed("ids of str: removals in calls of 100, one search", args.n_removed // 100):
        for start in range(0, len(removed), 100):
            grown.remove([names[i] for i in removed[start : start + 100]])
        grown.kneighbors(packed[:1])

    print(
        "\n| backend | after    | queries a call | queries/s | ratio |\n|:---|:---|---:|---:|---:|"
    )
    for backend, what, n_queries, speed, ratio in speeds:
        name = {"grown": "additions", "less": "removals"}[what]
        print(f"| {backend} | {name:9} | {n_queries:3} | {speed:8,.0f} | {ratio:5.2f} |")


if __name__ == "__main__":
    main()
