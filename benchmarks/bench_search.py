"""Queries a second of HammingNeighbors beside a plain numpy loop with argsort.

    python benchmarks/bench_search.py
    python benchmarks/bench_search.py --n-codes 5000000 --n-bits 128 --n-neighbors 100

Databases are random codes; a query is a code of the database with three bits changed. "one" asks
one query a call, as a web service does, "many" asks 64. Ratios are to the loop, in the same run;
a busy machine blurs them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skhash import HammingNeighbors
from skhash.codes import hamming_distances, pack, unpack


def argsort_loop(queries: NDArray[np.uint8], packed: NDArray[np.uint8], k: int) -> NDArray[np.intp]:
    """All distances of one query after the other, sorted (by radix: they are uint8)."""
    indices = np.empty((len(queries), k), np.intp)
    for i in range(len(queries)):
        distances = hamming_distances(queries[i : i + 1], packed)[0]
        indices[i] = np.argsort(distances, kind="stable")[:k]
    return indices


def queries_per_second(
    search: Callable[[NDArray[np.uint8]], Any], queries: NDArray[np.uint8], seconds: float
) -> float:
    """Best of as many calls as fit into the time, at least one after one to warm up."""
    search(queries[:1])
    best = np.inf
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        search(queries)
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return len(queries) / best


def print_row(n_codes: int, method: str, speeds: list[float], bases: list[float]) -> None:
    cells = [
        f"{speed:6,.0f} | {speed / base:5.1f}" for speed, base in zip(speeds, bases, strict=True)
    ]
    print(f"| {n_codes:9,} | {method:12} | {cells[0]} | {cells[1]} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-codes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--n-bits", type=int, default=64)
    parser.add_argument("--n-neighbors", type=int, default=10)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    args = parser.parse_args()
    k = args.n_neighbors

    print(f"{args.n_bits} bits, {k} neighbors, {args.n_jobs} thread(s); queries a second\n")
    print("|     codes | method       |    one | ratio |   many | ratio |")
    print("|----------:|:-------------|-------:|------:|-------:|------:|")
    rng = np.random.default_rng(0)
    for n_codes in args.n_codes:
        codes = rng.integers(0, 2, (n_codes, args.n_bits), dtype=np.uint8)
        packed = pack(codes)
        many = unpack(packed[rng.integers(0, n_codes, 64)], args.n_bits)
        many[:, rng.permutation(args.n_bits)[:3]] ^= 1
        many = pack(many)
        expected = argsort_loop(many[:8], packed, k)

        def loop(queries: NDArray[np.uint8], packed: NDArray[np.uint8] = packed) -> Any:
            return argsort_loop(queries, packed, k)

        bases = [queries_per_second(loop, X, args.seconds) for X in (many[:1], many)]
        print_row(n_codes, "argsort loop", bases, bases)
        for backend in ("numpy", "faiss"):
            neighbors = HammingNeighbors(
                k, backend=backend, packed=True, n_bits=args.n_bits, n_jobs=args.n_jobs
            )
            try:
                search = neighbors.fit(packed).kneighbors
            except ImportError as error:
                print(f"{backend} is left out: {error}")
                continue
            if not np.array_equal(search(many[:8])[1], expected):
                raise AssertionError(f"{backend} does not find what the loop finds")
            speeds = [queries_per_second(search, X, args.seconds) for X in (many[:1], many)]
            print_row(n_codes, backend, speeds, bases)


if __name__ == "__main__":
    main()
