"""Learning from tags first, labels second, on MIR Flickr (the WP paper's Table 2 and Figures 3, 4).

    python benchmarks/mirflickr_wp.py --split test --jobs 2 --plot benchmarks/figures
    python benchmarks/mirflickr_wp.py --split test --photos 600 --labelled 100 --bits 32

Features are frozen. Without labels, WP-X- (stage one alone, which is the same for every X) is
compared with X- (X with the tags as its labels, a linear head). With few labels, X trained on the
labelled photos is compared with WP-X, which has seen the tags of all photos before. Both have a
linear head or, where so named, a hidden layer of 512 units. Every run is kept in
``benchmarks/cache``; an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
from _runs import CACHE, Runs, Task, markdown_table, mean_and_spread, save_figure
from joblib import Memory
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skhash import ITQ
from skhash.metrics import (
    PrecisionCurveDisplay,
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
BITS = (8, 16, 32, 64)
LABELLED = [500, 2000]
HIDDEN: dict[str, Any] = {"hidden_layers": (512,), "dropout": 0.5}
METHODS = ("ITQ", "X", "WP-X", "X, hidden layer", "WP-X, hidden layer")
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


def photos(split: str, n_photos: int | None, seed: int) -> NDArray[np.integer]:
    """Rows of the photos to learn from: all of the database, or some of the training photos."""
    data = _mirflickr.load(split)
    if n_photos is None:
        return data.database
    return np.random.default_rng([seed, n_photos]).permutation(data.train)[:n_photos]


def fit(task: Task, split: str, n_photos: int | None) -> Any:
    """Fit one (method, hasher, n_labelled, n_bits, seed)."""
    data = _mirflickr.load(split)
    method, name, n_labelled, n_bits, seed = task
    rows = photos(split, n_photos, seed)
    X, tags = data.X[rows], data.tags[rows]
    labels = np.empty(len(rows), dtype=object)
    labels[:] = [[] for _ in rows]
    for row in np.random.default_rng(seed).permutation(len(rows))[:n_labelled]:
        labels[row] = [str(label) for label in np.flatnonzero(data.labels[rows[row]])]
    if method == "ITQ":
        return ITQ(n_bits, random_state=seed).fit(X)
    hidden = method.endswith("hidden layer")
    hasher = HASHERS[name](n_bits, random_state=seed, **(HIDDEN if hidden else {}))
    if not method.startswith("WP"):
        return hasher.fit(X, labels if n_labelled else tags)
    hasher = WeaklySupervisedHasher(
        hasher,
        FrozenEstimator(semantic_space(split, n_photos, seed)),
        weight_decay=3.0 if hidden else 10.0,
        random_state=seed,
    )
    # Stage one is the same whichever hasher and labels follow: runs share its checkpoint.
    head = "hidden" if hidden else "linear"
    shared = CACHE / "stage_one" / f"{split}-{n_photos}-{n_bits}-{head}-{seed}"
    with TemporaryDirectory() as folder:
        hasher.set_params(estimator__checkpoint=folder)
        for file in shared.glob("*.pt"):
            shutil.copy(file, folder)
        hasher.fit(X, tags, labels=labels if n_labelled else None)
        shared.mkdir(parents=True, exist_ok=True)
        for file in Path(folder).glob("*.pt"):
            if file.stem in ("targets", "pre-training"):
                shutil.copy(file, shared / f"{file.name}.partial")
                os.replace(shared / f"{file.name}.partial", shared / file.name)
    return hasher


@Memory(CACHE, verbose=0).cache
def semantic_space(split: str, n_photos: int | None, seed: int) -> SemanticSpace:
    """The space of the photos' tags, which all runs of a seed share."""
    tags = _mirflickr.load(split).tags[photos(split, n_photos, seed)]
    return SemanticSpace(random_state=seed).fit(tags)


def run(task: Task, split: str, n_photos: int | None) -> dict[str, Any]:
    """Fit and evaluate one (method, hasher, n_labelled, n_bits, seed)."""
    data = _mirflickr.load(split)
    start = time.perf_counter()
    hasher = fit(task, split, n_photos)
    seconds = time.perf_counter() - start
    return {**evaluate(hasher, data), "fit_seconds": round(seconds, 1)}


def plot(runs: Runs, tasks: list[Task], chance: float, prefix: Path) -> None:
    """Draw the mean precision curves (Figure 3), a figure for each number of labelled photos."""
    import matplotlib.pyplot as plt

    bits = list(dict.fromkeys(task[3] for task in tasks))
    for n_labelled in sorted({task[2] for task in tasks} - {0}):
        figure, axes = plt.subplots(
            1, len(bits), figsize=(5 * len(bits), 4), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, n_bits in zip(axes[0], bits, strict=True):
            curves: dict[tuple[str, str], list[Any]] = {}
            for task in tasks:
                if task[2:4] == (n_labelled, n_bits):
                    curves.setdefault(task[:2], []).append(runs.results[task]["precision_curve"])
            for i, ((method, name), found) in enumerate(curves.items()):
                PrecisionCurveDisplay(
                    np.mean(found, axis=0),
                    np.array(CURVE),
                    name=method.replace("X", name, 1),
                    chance_level=chance,
                ).plot(
                    ax,
                    plot_chance_level=i == len(curves) - 1,
                    color=f"C{list(HASHERS).index(name)}",
                    linestyle={
                        "WP-X": "-",
                        "X": "--",
                        "WP-X, hidden layer": "-.",
                        "X, hidden layer": ":",
                    }[method],
                )
            ax.set_title(f"{n_bits} bits")
            ax.get_legend().remove()
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
        figure.suptitle(f"MIR Flickr, {n_labelled} labelled photos")
        save_figure(figure, prefix.with_name(f"{prefix.name}_{n_labelled}.png"))
        plt.close(figure)


def main() -> None:
    """Run what is not kept yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--photos", type=int, help="learn from so many; all if left out")
    parser.add_argument("--labelled", type=int, nargs="+", default=LABELLED)
    parser.add_argument("--bits", type=int, nargs="+", default=BITS)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--plot", type=Path, help="folder for precision curves")
    args = parser.parse_args()

    suffix = "" if args.photos is None else f"_{args.photos}"
    runs = Runs(f"mirflickr_wp_{args.split}{suffix}")
    seeds = range(args.seeds)
    methods = [("ITQ", "ITQ", 0), *itertools.product(("X",), HASHERS, (0,))]
    methods += itertools.product(("WP-X", "WP-X, hidden layer"), ("DSH",), (0,))
    heads = "X", "WP-X", "X, hidden layer", "WP-X, hidden layer"
    methods += itertools.product(heads, HASHERS, args.labelled)
    methods = [method for method in methods if method[0] in args.methods]
    tasks = [(*m, b, seed) for seed in seeds for b in args.bits for m in methods]
    runs.complete(tasks, run, args.split, args.photos, jobs=args.jobs)

    data = _mirflickr.load(args.split)
    chance = chance_level(data.labels[data.query], data.labels[data.database])
    for n_labelled in (0, *args.labelled):
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
                # Stage one knows nothing of the hasher.
                shown = name if n or not method.startswith("WP") else "X"
                rows.append([method.replace("X", shown + minus, 1), *cells])
            print(f"\n{metric}, {title} (chance {chance:.4f})\n")
            print(markdown_table(["method", *(f"{b} bits" for b in args.bits)], rows))
    if args.plot:
        plot(runs, tasks, chance, args.plot / f"precision_mirflickr_{args.split}")


if __name__ == "__main__":
    main()
