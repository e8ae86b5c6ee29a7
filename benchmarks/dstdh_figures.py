"""Figures 4 and 5 of the DSTDH paper: what the parameters do, convergence, time by training size.

    python benchmarks/dstdh_figures.py --plot output

DSTDHHasher with its defaults on the pooled VGG-16 features of MIR Flickr. One parameter at a time
leaves its default; MAP is that of the validation photos, which search the rest of the database.
Seconds are those of ``fit``, tags included, on the first rows of the shuffled database, by the
clock and of the processor (a busy machine blurs the former; OMP_NUM_THREADS=1 makes the latter
comparable); the exponent is the slope of their logarithms by least squares. Every run is kept in
``benchmarks/cache``; an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import _mirflickr
import numpy as np
from _runs import Runs, Task, markdown_table, mean_and_spread, save_figure
from numpy.typing import NDArray
from tables import labels

from skhash import DSTDHHasher, DSTDHLinear
from skhash.metrics import chance_level, mean_average_precision

Curves = dict[str, tuple[Any, Any]]

GRID: dict[str, tuple[float, ...]] = {
    "alpha": (1e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0),
    "beta": (1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1),
    "nu": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    "n_anchors": (50, 100, 200, 500, 1000),
    "n_concepts": (100, 200, 500, 1000, 2000),
}
DEFAULT = {name: DSTDHHasher().get_params()[name] for name in GRID}
PAPER = {name: DSTDHHasher.preset().get_params()[name] for name in GRID}
SIZES = (500, 1000, 2000, 4000, 8000, 17749)
LARGE = 2000  # from here on the seconds are hardly those of Python's own overhead
METHODS: dict[str, Callable[[int], Any]] = {
    "DSTDHHasher": lambda seed: DSTDHHasher(64, backbone=None, random_state=seed),
    "DSTDHLinear": lambda seed: DSTDHLinear(64, random_state=seed),
}


def accuracy(task: Task) -> dict[str, Any]:
    """Fit one ("MAP", seed, values of the parameters) and search with the validation photos."""
    _, seed, *values = task
    data = _mirflickr.load("validation")
    hasher = METHODS["DSTDHHasher"](seed).set_params(**dict(zip(GRID, values, strict=True)))
    hasher.fit(data.X[data.train], data.tags[data.train])
    query, database = hasher.transform(data.X[data.query]), hasher.transform(data.X[data.database])
    score = mean_average_precision(query, database, *labels(data))
    return {
        "map": round(score, 5),
        "round": [row["round"] for row in hasher.history_],
        "objective": hasher.objective_.tolist(),
    }


def cost(task: Task) -> dict[str, Any]:
    """Fit one ("seconds", seed, method, n_samples)."""
    _, seed, method, n_samples = task
    data = _mirflickr.load("test")  # its whole database; no query is seen
    rows = np.random.default_rng(seed).permutation(data.database)
    METHODS[method](seed).fit(data.X[rows[:200]], data.tags[rows[:200]])  # warms up
    start = time.perf_counter(), time.process_time()
    METHODS[method](seed).fit(data.X[rows[:n_samples]], data.tags[rows[:n_samples]])
    clock, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    return {"clock": round(clock, 3), "processor": round(processor, 3)}


def varied(name: str, value: float, seed: int) -> Task:
    """The run in which one parameter leaves its default."""
    return ("MAP", seed, *{**DEFAULT, name: value}.values())


def header(name: str, value: float) -> str:
    """A value of a parameter, marked if it is the default or the paper's."""
    owners = [who for who, its in (("default", DEFAULT), ("paper", PAPER)) if its[name] == value]
    return f"{value:g} ({', '.join(owners)})" if owners else f"{value:g}"


def exponent(sizes: NDArray[Any], seconds: NDArray[Any]) -> str:
    """Slope of the logarithm of the seconds over that of the sizes."""
    return f"{np.polyfit(np.log(sizes), np.log(seconds), 1)[0]:.2f}"


def plot(panels: list[tuple[dict[str, str], Curves]], path: Path) -> None:
    """Draw all panels, each of settings of the axes and curves by name."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(15, 7), layout="constrained")
    for ax in axes.flat[1 : len(GRID)]:
        ax.sharey(axes.flat[0])
    for ax, (settings, curves) in zip(axes.flat, panels, strict=False):
        for label, (x, y) in curves.items():
            ax.plot(x, y, ".-", label=label)
        ax.set(**settings)
        ax.legend(fontsize="small", framealpha=0.5)
    axes.flat[-1].axis("off")
    save_figure(figure, path)


def main() -> None:
    """Run what is not kept yet, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to this less one")
    parser.add_argument("--plot", type=Path, help="folder for the figure")
    args = parser.parse_args()

    seeds, runs = range(args.seeds), Runs("dstdh_figures_validation")
    tasks = [varied(name, value, seed) for name in GRID for value in GRID[name] for seed in seeds]
    runs.complete(dict.fromkeys(tasks), accuracy)  # the default is a point of every parameter
    runs.complete(product(["seconds"], seeds, METHODS, SIZES), cost)

    panels: list[tuple[dict[str, str], Curves]] = []
    chance = chance_level(*labels(_mirflickr.load("validation")))
    print(f"\nMAP of 64 bits, validation queries; chance {chance:.4f}\n")
    curves: Curves
    for name, values in GRID.items():
        scores = [[runs.results[varied(name, v, s)]["map"] for s in seeds] for v in values]
        cells = ["MAP", *map(mean_and_spread, scores)]
        print(markdown_table([name, *(header(name, v) for v in values)], [cells]), "\n")
        means, ours = np.mean(scores, axis=1), DEFAULT[name]
        curves = {"64 bits": (values, means), "default": (ours, means[values.index(ours)])}
        panels.append(({"xlabel": name, "ylabel": "MAP", "xscale": "log"}, curves))

    default = runs.results[varied("nu", DEFAULT["nu"], 0)]
    of_round, objective = np.array(default["round"]), np.array(default["objective"])
    curves = {
        f"round {r}": (1 + np.flatnonzero(of_round == r), objective[of_round == r])
        for r in np.unique(of_round)
    }
    rows = [[name, " ".join(f"{v:.5g}" for v in values)] for name, (_, values) in curves.items()]
    print("The outputs of the network enter the objective in round 2\n")
    print(markdown_table(["", "objective after each iteration"], rows))
    panels.append(({"xlabel": "iteration", "ylabel": "objective"}, curves))

    rows, curves, sizes = [], {}, np.array(SIZES)
    for method, measure in product(METHODS, ("clock", "processor")):
        found = [[runs.results["seconds", s, method, n][measure] for s in seeds] for n in SIZES]
        seconds = np.median(found, axis=1)
        slopes = [exponent(sizes[some], seconds[some]) for some in (sizes > 0, sizes >= LARGE)]
        rows.append([f"{method}, {measure}", *(f"{t:.2f}" for t in seconds), *slopes])
        curves[f"{method}, {measure}: exponent {slopes[0]}"] = sizes, seconds
    print("\nSeconds of fit by training photos, and the exponent\n")
    print(markdown_table(["", *map(str, SIZES), "all sizes", f"from {LARGE} on"], rows))
    axes = {"xlabel": "training photos", "ylabel": "seconds", "xscale": "log", "yscale": "log"}
    panels.append((axes, curves))
    if args.plot:
        plot(panels, args.plot / "dstdh_figures.png")


if __name__ == "__main__":
    main()
