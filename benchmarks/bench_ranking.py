"""Speed and memory of mean average precision against sorting query by query.

    python benchmarks/bench_ranking.py

The loops it is compared with, in the same process:

- "usual": the evaluation code that papers publish: distances by the inner product of codes of
  -1 and 1, `np.argsort`, relevance by the product of label matrices;
- "packed": the same with everything but the sort made as cheap as NumPy allows: packed codes,
  labels as bit masks, distances of one byte;
- "packed, stable": with the stable sort, which for bytes is a radix sort.

The loops run on the first queries only and their times are scaled to all queries. They use one
thread, the metric as many as scikit-learn would (OMP_NUM_THREADS limits them): hence both the
seconds by the clock and those of the processor, and both ratios to "expected ties", the default.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from skhash.codes import pack
from skhash.metrics import average_precisions


def average_precision(flags: NDArray[np.bool_]) -> float:
    """Average precision of one ranking, from the relevance of its items in order."""
    ranks = np.flatnonzero(flags) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else 0.0


def usual_loop(
    query: NDArray[Any],
    database: NDArray[Any],
    query_labels: NDArray[Any],
    database_labels: NDArray[Any],
) -> list[float]:
    """Sort the whole database for each query, from codes of -1 and 1 and label indicators."""
    values = []
    for code, label in zip(query, query_labels, strict=True):
        relevant = database_labels @ label > 0
        distances = 0.5 * (len(code) - database @ code)
        values.append(average_precision(relevant[np.argsort(distances)]))
    return values


def packed_loop(
    query: NDArray[Any],
    database: NDArray[Any],
    query_labels: NDArray[Any],
    database_labels: NDArray[Any],
    *,
    stable: bool,
) -> list[float]:
    """Sort the whole database for each query, from 64-bit words of codes and of labels."""
    values = []
    for code, label in zip(query, query_labels, strict=True):
        relevant = (database_labels & label) != 0
        distances = np.bitwise_count(database[:, 0] ^ code[0])
        for word in range(1, len(code)):
            distances = distances + np.bitwise_count(database[:, word] ^ code[word])
        values.append(average_precision(relevant[np.argsort(distances, stable=stable)]))
    return values


def words(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Pack bits into 64-bit words."""
    packed = pack(bits)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)


def measure(function: Callable[[], Any]) -> tuple[Any, NDArray[np.float64]]:
    """Call a function; its result, and the seconds by the clock and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = function()
    return result, np.array([time.perf_counter(), time.process_time()]) - start


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description="Speed and memory of mean average precision.")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--database", type=int, default=200_000)
    parser.add_argument("--bits", type=int, default=64, help="at most 255")
    parser.add_argument("--labels", type=int, default=24, help="at most 64")
    parser.add_argument("--loop-queries", type=int, default=100, help="queries the loops run on")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    sizes = args.queries, args.database
    codes = [rng.integers(0, 2, (n, args.bits), dtype=np.uint8) for n in sizes]
    # Some five labels an item, as the photos of MIR Flickr have.
    share = min(5 / args.labels, 1)
    labels = [(rng.random((n, args.labels)) < share).astype(np.uint8) for n in sizes]

    print(" x ".join(f"{n} {name}" for name, n in vars(args).items() if name != "loop_queries"))
    print(f"{'':<26}{'clock':>9}{'processor':>12}")
    for ties in ("stable", "expected"):
        call = partial(average_precisions, *codes, *labels, ties=ties)
        values, seconds = measure(call)
        if ties == "stable":
            stable = values
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        print(f"{f'skhash, {ties} ties':<26}{seconds[0]:>7.2f} s{seconds[1]:>10.2f} s", end="")
        print(f"   {peak:.0f} MB at most beside its input")

    few = args.loop_queries
    few_codes, few_labels = (codes[0][:few], codes[1]), (labels[0][:few], labels[1])
    signs = [2 * array.astype(np.float32) - 1 for array in few_codes]
    indicators = [array.astype(np.float32) for array in few_labels]
    packed = [words(array) for array in few_codes] + [words(array)[:, 0] for array in few_labels]
    loops = {
        "usual loop": partial(usual_loop, *signs, *indicators),
        "packed loop": partial(packed_loop, *packed, stable=False),
        "packed, stable loop": partial(packed_loop, *packed, stable=True),
    }
    for name, loop in loops.items():
        with threadpool_limits(1):
            values, loop_seconds = measure(loop)
        if name == "packed, stable loop":
            np.testing.assert_allclose(values, stable[:few])
        loop_seconds *= args.queries / few
        clock, processor = loop_seconds / seconds
        print(f"{name:<26}{loop_seconds[0]:>7.2f} s{loop_seconds[1]:>10.2f} s", end="")
        print(f"   {clock:.1f} times slower by the clock, {processor:.1f} by the processor")


if __name__ == "__main__":
    main()
