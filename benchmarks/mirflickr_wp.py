"""Learning from tags first, labels second, on MIR Flickr (the WP paper's Table 2 and Figures 3, 4).

    python benchmarks/mirflickr_wp.py --split test --jobs 2

Features are frozen. Without labels, WP-X- (stage one alone) is compared with X- (X with the tags
as its labels), all with a linear head. With few labels, X trained on the labelled photos is
compared with WP-X, which has seen the tags of all photos before, both with a hidden layer of 256
units; X with a linear head stands beside them. Every run is kept in ``benchmarks/cache``; an
interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import time
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
from _runs import Runs, markdown_table, mean_and_spread
from joblib import Parallel, delayed

from skhash import ITQ
from skhash.metrics import (
    chance_level,
    mean_average_precision,
    precision_at_k,
    precision_curve,
    precision_within_radius,
)
from skhash.semantic import SemanticSpace
from skhash.supervised import DRSCHHasher, DSHHasher, KSHHasher
from skhash.weakly import WeaklySupervisedHasher

HASHERS: dict[str, Any] = {"KSH": KSHHasher, "DSH": DSHHasher, "DRSCH": DRSCHHasher}
BITS = (16, 32, 64)
LABELLED = (500, 2000)
HIDDEN = 256
CURVE = (1, 10, 50, 100, 200, 300, 400, 500, 750, 1000)


def evaluate(hasher: Any, data: SimpleNamespace) -> dict[str, Any]:
    """Search the database with the queries."""
    query, database = (hasher.transform(data.X[rows]) for rows in (data.query, data.database))
    found = query, database, data.labels[data.query], data.labels[data.database]
    return {
        "map": round(mean_average_precision(*found), 5),
        "precision_at_500": round(precision_at_k(*found, 500), 5),
        "precision_within_2": round(precision_within_radius(*found, radius=2), 5),
        "precision_curve": precision_curve(*found, CURVE)[0].round(5).tolist(),
        "constant_bits": int((database == database[0]).all(axis=0).sum()),
    }


def run(task: tuple[Any, ...], split: str) -> dict[str, Any]:
    """Fit and evaluate one (method, hasher, n_labelled, n_bits, seed)."""
    method, name, n_labelled, n_bits, seed = task
    data = _mirflickr.load(split)
    rows = data.database
    X, tags = data.X[rows], data.tags[rows]
    labels = np.empty(len(rows), dtype=object)
    labels[:] = [[] for _ in rows]
    for row in np.random.default_rng(seed).permutation(len(rows))[:n_labelled]:
        labels[row] = [str(label) for label in np.flatnonzero(data.labels[rows[row]])]
    start = time.perf_counter()
    if method == "ITQ":
        hasher = ITQ(n_bits, random_state=seed).fit(X)
    else:
        hidden = (HIDDEN,) if n_labelled and method != "X, linear" else ()
        hasher = HASHERS[name](n_bits, hidden_layers=hidden, random_state=seed)
        if method == "WP-X":
            hasher = WeaklySupervisedHasher(
                hasher,
                SemanticSpace(random_state=seed),
                weight_decay=3.0 if hidden else 60.0,
                random_state=seed,
            ).fit(X, tags, labels=labels if n_labelled else None)
        else:
            hasher.fit(X, labels if n_labelled else tags)
    seconds = time.perf_counter() - start
    return {**evaluate(hasher, data), "fit_seconds": round(seconds, 1)}


def main() -> None:
    """Run what is not kept yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--bits", type=int, nargs="+", default=BITS)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    args = parser.parse_args()

    runs = Runs(f"mirflickr_wp_{args.split}")
    seeds = range(args.seeds)
    methods = [("ITQ", "ITQ", 0)]
    methods += itertools.product(("X", "WP-X"), HASHERS, (0, *LABELLED))
    methods += itertools.product(("X, linear",), HASHERS, LABELLED)
    tasks = [(*m, b, seed) for seed in seeds for b in args.bits for m in methods]
    missing = [task for task in tasks if task not in runs.results]
    parallel = Parallel(args.jobs, return_as="generator")
    for task, result in zip(
        missing, parallel(delayed(run)(task, args.split) for task in missing), strict=True
    ):
        runs.add(task, result)

    data = _mirflickr.load(args.split)
    chance = chance_level(data.labels[data.query], data.labels[data.database])
    for n_labelled in (0, *LABELLED):
        minus = "" if n_labelled else "-"
        title = f"{n_labelled} labelled photos" if n_labelled else "tags alone"
        for metric in ("map", "precision_at_500", "precision_within_2"):
            rows = []
            for method, name, n in methods:
                if n != n_labelled:
                    continue
                cells = [
                    mean_and_spread(runs.results[method, name, n, b, s][metric] for s in seeds)
                    for b in args.bits
                ]
                rows.append([method.replace("X", name + minus, 1), *cells])
            print(f"\n{metric}, {title} (chance {chance:.4f})\n")
            print(markdown_table(["method", *(f"{b} bits" for b in args.bits)], rows))


if __name__ == "__main__":
    main()
