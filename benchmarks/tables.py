"""All methods under the protocol of the DSTDH paper: its Tables III, V and VI and Figure 2.

    python benchmarks/tables.py --split validation              # for tuning
    python benchmarks/tables.py --split test --plot output      # for the tables
    python benchmarks/tables.py --split test --learn database   # from all photos
    python benchmarks/tables.py --dataset keywords              # clean tags
    python benchmarks/tables.py --dataset photos --split test   # a folder with tags.csv

Shallow methods run on pooled VGG-16 features ("vgg") and on bags of visual words ("bovw"),
networks on the former; ``--features photos`` runs networks on the photos themselves. All learn
from the training photos; queries search the database, and relevant is what shares a label. Every
run is kept in ``benchmarks/cache``; an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import _data
import numpy as np
from _published import BITS, MAP
from _runs import CACHE, Runs, Task, markdown_table, mean_and_spread, save_figure

import skhash
from skhash.metrics import (
    PrecisionRecallDisplay,
    chance_level,
    mean_average_precision,
    report_from_codes,
)

Result = dict[str, Any]
Row = tuple[str, str]  # features, method
Results = dict[tuple[str, str, int], list[Result]]  # by row and n_bits: one for each seed


@dataclass(frozen=True)
class Method:
    """A row of the tables: what of skhash makes the hasher, its kind, features and parameters."""

    factory: str
    kind: str
    features: tuple[str, ...] = ("bovw", "vgg")
    params: Mapping[str, Any] = field(default_factory=dict)

    def make(self, n_bits: int, seed: int = 0, network: Mapping[str, Any] | None = None) -> Any:
        """Return an unfitted hasher, of photos if a network is given."""
        hasher = attrgetter(self.factory)(skhash)(n_bits=n_bits, **self.params)
        known = hasher.get_params()
        if "random_state" in known:
            hasher.set_params(random_state=seed)
        if "backbone" in known:
            cached = {"cache": CACHE / "features"}
            hasher.set_params(**({"backbone": None} if network is None else {**network, **cached}))
        return hasher

    def seeds(self, n_seeds: int) -> range:
        """The seeds to run: one is enough for what does not depend on them."""
        return range(n_seeds if "random_state" in self.make(16).get_params() else 1)


VGG, DEEP = ("vgg",), ("vgg", "photos")
LINEAR: Mapping[str, Any] = {"hidden_layers": (), "dropout": 0.0}
ABLATIONS = {
    "D": "direct",  # no direct transfer
    "I": "indirect",  # no indirect transfer
    "NT": "use_tags",  # no tags
    "T": "denoise",  # tags not denoised
    "R": "discrete",  # relaxed
}
METHODS = {
    "LSH": Method("LSH", "shallow"),
    "SKLSH": Method("SKLSH", "shallow"),
    "PCAH": Method("PCAH", "shallow"),
    "SH": Method("SpectralHashing", "shallow"),
    "SGH": Method("SGH", "shallow"),
    "ITQ": Method("ITQ", "shallow"),
    "LSMH": Method("LSMH", "shallow"),
    "SADH-L": Method("SADHLinear", "shallow"),
    "UH-BDNN": Method("UHBDNN", "deep", VGG),
    "DeepBit": Method("DeepBit", "deep", DEEP),
    "SADH": Method("SADHHasher", "deep", DEEP),
    "GreedyHash": Method("GreedyHash", "deep", DEEP),
    "TagITQ, of tags": Method("TagITQ", "social", params={"target": "tfidf", "kernel": None}),
    "TagITQ, linear": Method("TagITQ", "social", params={"kernel": None}),
    "TagITQ": Method("TagITQ", "social"),
    "TagITQ, network": Method("TagITQHasher", "social", DEEP),
    "SAH": Method("SAH", "social"),
    "WMH": Method("WMH", "social"),
    "WMH, rotated": Method("WMH", "social", params={"rotate": True}),
    "DSTDH-L": Method("DSTDHLinear", "DSTDH"),
    "DSTDH, linear": Method("DSTDHHasher", "DSTDH", DEEP, LINEAR),
    "DSTDH": Method("DSTDHHasher", "DSTDH", DEEP),
    "DSTDH-L as printed": Method("DSTDHLinear.preset", "ablation", VGG, {"source": "paper"}),
    "DSTDH-L as released": Method("DSTDHLinear.preset", "ablation", VGG, {"source": "release"}),
}
for name, factory, params in (
    ("DSTDH-L-{}", "DSTDHLinear", {}),
    ("DSTDH-{}, linear", "DSTDHHasher", LINEAR),
    ("DSTDH-{}", "DSTDHHasher", {}),
):
    for letter, switch in ABLATIONS.items():
        METHODS[name.format(letter)] = Method(factory, "ablation", VGG, {**params, switch: False})
TABLES = {  # title, kinds of methods, kinds to set beside them
    "III": ("Unsupervised hashing", ("shallow", "deep", "DSTDH"), ()),
    "V": ("Hashing with social tags", ("social",), ("DSTDH",)),
    "VI": ("Ablations", ("ablation",), ("DSTDH",)),
}
METRICS = {
    "map": "MAP",
    "precision_at_500": "Precision@500",
    "precision_within_2": "Precision within radius 2",
}
# What the paper calls the features that come nearest to ours.
PUBLISHED_FEATURES = {"bovw": ("BOVW",), "vgg": ("VGG", "Raw"), "photos": ("Raw",)}


def run(task: Task, dataset: str, split: str, learn: str) -> Result:
    """Fit one (features, method, n_bits, seed) and search the database with the queries."""
    features, name, n_bits, seed = task
    data = _data.load(dataset, split)
    X = _data.features(features, dataset, split)
    hasher = METHODS[name].make(n_bits, seed, data.network if features == "photos" else None)
    start = time.perf_counter()
    rows = getattr(data, learn)
    hasher.fit(X[rows], data.tags[rows])
    fitted = time.perf_counter()
    database = hasher.transform(X[data.database])
    encoded = time.perf_counter()
    found = hasher.transform(X[data.query]), database, *labels(data)
    report = report_from_codes(*found, at=(500,))
    return {
        "map": round(report.map, 5),
        "map_stable": round(mean_average_precision(*found, ties="stable"), 5),
        "precision_at_500": round(report.precision_at[500], 5),
        "precision_within_2": round(report.precision_within_radius, 5),
        "precision": report.precision_recall.precision.round(5).tolist(),
        "recall": report.precision_recall.recall.round(5).tolist(),
        "constant_bits": report.n_constant_bits,
        "fit_seconds": round(fitted - start, 3),
        "encode_microseconds": round((encoded - fitted) / len(database) * 1e6, 2),
    }


def labels(data: Any) -> tuple[Any, Any]:
    """Ground truth of the queries and of the database."""
    return data.labels[data.query], data.labels[data.database]


def accuracy(metric: str) -> Callable[[list[Result]], str]:
    """What a cell says of a metric: mean and spread over seeds."""

    def cell(found: list[Result]) -> str:
        constant = max(result["constant_bits"] for result in found)
        note = f" ({constant} constant)" if constant else ""
        return mean_and_spread(result[metric] for result in found) + note

    return cell


def times(found: list[Result]) -> str:
    """Medians over seeds of the seconds to fit and the microseconds to encode a photo."""
    fit, encode = (
        np.median([result[key] for result in found])
        for key in ("fit_seconds", "encode_microseconds")
    )
    return f"{fit:.2f} / {encode:.1f}"


def table(
    results: Results, rows: list[Row], bits: list[int], cell: Callable[[list[Result]], str], *,
    published: bool = False,
) -> str:  # fmt: skip
    """A cell for each row and length, the published rows below ours."""
    cells = []
    for features, name in rows:
        cells.append([name, features, *(cell(results[features, name, b]) for b in bits)])
        for theirs in PUBLISHED_FEATURES[features] if published else ():
            if (name, theirs) in MAP:
                values = dict(zip(BITS, MAP[name, theirs], strict=True))
                known = (f"{values[b]:.4f}" if b in values else "" for b in bits)
                cells.append([f"{name}, published", theirs, *known])
    return markdown_table(["method", "features", *(f"{b} bits" for b in bits)], cells)


def plot(results: Results, rows: list[Row], n_bits: int, title: str, path: Path) -> None:
    """Draw precision over recall as the radius grows, means over seeds."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    for i, (features, name) in enumerate(rows):
        precision, recall = (
            np.mean([result[key] for result in results[features, name, n_bits]], axis=0)
            for key in ("precision", "recall")
        )
        PrecisionRecallDisplay(precision, recall, np.arange(n_bits + 1), name=name).plot(
            ax,
            plot_chance_level=i == len(rows) - 1,
            color=f"C{i % 10}",
            linestyle=("-", "--", "-.")[i // 10],
        )
    ax.set_title(title)
    ax.legend(fontsize="small", ncols=2)
    save_figure(figure, path)
    plt.close(figure)


def main() -> None:
    """Run what is not kept yet, print the tables, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", default="mirflickr", help='"mirflickr", "keywords", or a folder with tags.csv'
    )
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--features", nargs="+", choices=PUBLISHED_FEATURES, default=["bovw", "vgg"]
    )
    parser.add_argument(
        "--learn", choices=["train", "database"], default="train", help="photos to learn from"
    )
    parser.add_argument("--bits", type=int, nargs="+", default=list(BITS))
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--plot", type=Path, help="folder for precision-recall curves")
    args = parser.parse_args()

    data = _data.load(args.dataset, args.split)
    rows = [(f, m) for f in args.features for m in METHODS if m in args.methods]
    rows = [(f, m) for f, m in rows if f in METHODS[m].features]
    tasks = [
        (features, name, n_bits, seed)
        for seed in range(args.seeds)
        for n_bits in args.bits
        for features, name in rows
        if seed in METHODS[name].seeds(args.seeds)
    ]
    for features in dict(rows):
        _data.features(features, args.dataset, args.split, jobs=args.jobs)
    suffix = "" if args.learn == "train" else f"_{args.learn}"
    runs = Runs(f"tables_{data.name}_{args.split}{suffix}")
    runs.complete(tasks, run, args.dataset, args.split, args.learn, jobs=args.jobs)

    results: Results = {}
    for task in tasks:
        results.setdefault(task[:3], []).append(runs.results[task])
    print(
        f"\n{data.name}, {args.split}: {len(getattr(data, args.learn))} photos to train on, "
        f"{len(data.query)} queries, {len(data.database)} in the database; "
        f"chance {chance_level(*labels(data)):.4f}"
    )
    for number, (title, kinds, beside) in TABLES.items():
        seen = dict.fromkeys(f for f, m in rows if METHODS[m].kind in kinds)
        shown = [(f, m) for f, m in rows if f in seen and METHODS[m].kind in (*kinds, *beside)]
        if not shown:
            continue
        print(f"\n## {title} (the paper's Table {number})")
        for metric, heading in METRICS.items():
            published = metric == "map" and data.name == "mirflickr"
            print(f"\n{heading}\n")
            print(table(results, shown, args.bits, accuracy(metric), published=published))
        print("\nSeconds to fit / microseconds to encode a photo\n")
        print(table(results, shown, args.bits, times))
        for features in seen if args.plot else ():
            n_bits = 64 if 64 in args.bits else args.bits[-1]
            plot(
                results,
                [row for row in shown if row[0] == features],
                n_bits,
                f"{title}: {features}, {n_bits} bits",
                args.plot / f"pr_{data.name}_{args.split}_{number}_{features}.png",
            )
    for n_bits in args.bits:
        gains = [
            runs.results[t]["map_stable"] - runs.results[t]["map"] for t in tasks if t[2] == n_bits
        ]
        print(f"\n{n_bits} bits, ties in database order instead: MAP {np.mean(gains):+.4f}")


if __name__ == "__main__":
    main()
