"""Cost of fits on a million tagged photos and more, whose features stay in a file.

    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py
    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py --fits dstdh --sizes 5000000
    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py --fits wp --sizes 897500 --n-labelled 23000 \
        --checkpoint

Features are made block by block into a `.npy` file, which is memory-mapped for the fit: clusters
with noise, as a ReLU leaves them. Tags are a sparse indicator, drawn with Zipf's frequencies,
half of them by the cluster; labels of some photos are the clusters. Each fit runs in a process of
its own. Seconds are those of the clock and of the processor. Memory is the most anonymous memory
(RssAnon of Linux, looked at a hundred times a second) that the process holds more than before the
fit, when it holds the tags: pages of mapped files are not in it, which the system takes back when
it needs room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skhash import (
    DSHHasher,
    DSTDHLinear,
    SemanticSpace,
    TagITQ,
    WeaklySupervisedHasher,
)

BLOCK = 10_000
N_CLUSTERS = 50
TAGS_PER_IMAGE = 5
FITS = ("itq-linear", "itq-kernel", "dstdh", "space", "wp")


def make_data(folder: Path, n_samples: int, args: argparse.Namespace) -> None:
    """Write features, tags and clusters of as many photos, all in blocks."""
    rng = np.random.default_rng(args.seed)
    centres = rng.normal(size=(N_CLUSTERS, args.features)).astype(np.float32)
    frequencies = 1 / np.arange(1, args.tags + 1)
    cumulated = np.cumsum(frequencies / frequencies.sum())
    own_tags = np.array([rng.permutation(args.tags) for _ in range(N_CLUSTERS)], np.int32)
    shape = (n_samples, args.features)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.dtype(args.dtype), shape)
    columns = np.empty((n_samples, TAGS_PER_IMAGE), np.int32)
    clusters = rng.integers(N_CLUSTERS, size=n_samples, dtype=np.int16)
    for start in range(0, n_samples, BLOCK):
        rows = slice(start, min(start + BLOCK, n_samples))
        cluster = clusters[rows]
        noise = rng.standard_normal((len(cluster), args.features), np.float32)
        noise *= 2
        noise += centres[cluster]
        np.maximum(noise, 0, out=noise)
        X[rows] = noise
        drawn = np.searchsorted(cumulated, rng.random((len(cluster), TAGS_PER_IMAGE)))
        drawn = np.minimum(drawn, args.tags - 1)
        half = TAGS_PER_IMAGE // 2
        drawn[:, :half] = own_tags[cluster[:, None], drawn[:, :half]]
        columns[rows] = drawn
    X.flush()
    np.savez(folder / "tags.npz", columns=columns, clusters=clusters)


def read_data(folder: Path, n_tags: int) -> tuple[NDArray[Any], sp.csr_array, NDArray[np.int16]]:
    """Mapped features, the indicator of tags, and clusters."""
    X = np.load(folder / "X.npy", mmap_mode="r")
    stored = np.load(folder / "tags.npz")
    columns = stored["columns"]
    pointers = np.arange(0, columns.size + 1, TAGS_PER_IMAGE, dtype=np.int32)
    Y = sp.csr_array(
        (np.ones(columns.size, np.float32), columns.ravel(), pointers), shape=(len(X), n_tags)
    )
    Y.sum_duplicates()
    Y.data[:] = 1
    return X, Y, stored["clusters"]


def anonymous_memory() -> int:
    """Bytes of this process that are of no file; Linux only."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("RssAnon"):
                return 1024 * int(line.split()[1])
    raise RuntimeError("this system does not say how much anonymous memory a process has")


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Seconds and peak of memory of what happens within."""
    report: dict[str, float] = {}
    before = peak = anonymous_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    clock, processor = time.perf_counter(), time.process_time()
    try:
        yield report
    finally:
        report["clock"] = time.perf_counter() - clock
        report["processor"] = time.process_time() - processor
        done.set()
        watcher.join()
        report["added"] = max(peak, anonymous_memory()) - before


def make_fit(name: str, args: argparse.Namespace, checkpoint: Path | None) -> Any:
    """The estimator of a fit."""
    if name == "space":
        return SemanticSpace(epochs=args.epochs, random_state=0)
    if name == "wp":
        hasher = DSHHasher(args.bits, backbone=None, checkpoint=checkpoint)
        space = SemanticSpace(epochs=args.epochs)
        return WeaklySupervisedHasher(
            hasher, space, max_epochs=args.max_epochs, random_state=0, verbose=args.verbose
        )
    if name == "dstdh":
        return DSTDHLinear(args.bits, random_state=0, verbose=args.verbose)
    return TagITQ(args.bits, kernel="rbf" if name == "itq-kernel" else None, random_state=0)


def fit_once(name: str, folder: Path, args: argparse.Namespace) -> None:
    """Fit one estimator in this process and print what it took, as JSON."""
    X, Y, clusters = read_data(folder, args.tags)
    checkpoint = folder / "checkpoint" if args.checkpoint else None
    estimator = make_fit(name, args, checkpoint)
    labels: list[int | None] = [None] * len(X)
    if args.n_labelled:
        for row in range(args.n_labelled):
            labels[row] = int(clusters[row])
    with measured() as report:
        if name == "space":
            estimator.fit(Y)
        elif name == "wp":
            estimator.fit(X, Y, labels=labels if args.n_labelled else None)
        else:
            estimator.fit(X, Y)
    if name == "dstdh":
        report["iterations"] = estimator.n_iter_
    if checkpoint is not None:
        report["checkpoint"] = sum(file.stat().st_size for file in checkpoint.iterdir())
    if name != "space":
        with measured() as encoding:
            codes = estimator.transform(X)
        report["transform"] = encoding["processor"]
        report["transform added"] = encoding["added"]
        # Of the planted clusters, the share of nearest neighbours that are of the same one.
        some = np.random.default_rng(0).choice(len(codes), 2000, replace=False)
        signs = codes[some].astype(np.float32) - 0.5
        alike = signs @ signs.T
        np.fill_diagonal(alike, -np.inf)
        report["same cluster"] = float(
            np.mean(clusters[some][alike.argmax(axis=1)] == clusters[some])
        )
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fits", nargs="+", default=list(FITS), choices=FITS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"))
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--tags", type=int, default=1_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--n-labelled", type=int, default=0, help="photos with labels, for wp")
    parser.add_argument("--max-epochs", type=int, default=20, help="of stage one of wp")
    parser.add_argument("--epochs", type=int, help="of word2vec")
    parser.add_argument("--checkpoint", action="store_true", help="keep one, for wp")
    parser.add_argument("--folder", help="where the files are made, and removed again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        fit_once(args.one, Path(args.folder), args)
        return
    print("| photos | file | fit | clock s | processor s | GB beyond the file | more |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for n_samples in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            make_data(Path(folder), n_samples, args)
            for name in args.fits:
                command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
                command += ["--folder", folder]
                result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
                if result.returncode:
                    print(f"| {n_samples:,} | {args.dtype} | {name} | failed |", flush=True)
                    continue
                lines = result.stdout.splitlines()
                print(*lines[:-1], sep="\n", end="\n" * (len(lines) > 1), file=sys.stderr)
                row = json.loads(lines[-1])
                more = ", ".join(
                    f"{key} {row[key]:.4g}"
                    for key in row
                    if key not in ("clock", "processor", "added")
                )
                print(
                    f"| {n_samples:,} | {args.dtype} | {name} | {row['clock']:.0f} | "
                    f"{row['processor']:.0f} | {row['added'] / 1e9:.2f} | {more} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
