"""Cost of DSTDHLinear.fit as the training set grows, and beside a transcription of its formulas.

    python benchmarks/bench_dstdh_linear.py
    python benchmarks/bench_dstdh_linear.py --sizes 5000 10000 20000 --transcription-samples 2000

Features are clusters with noise, made block by block in float32; tags are drawn with Zipf's
frequencies, half of them by the cluster. Each size is fitted in a process of its own, so that its
peak of resident memory is its own too. "added" is what the peak lies above the process with the
data in it, before the fit.

The transcription forms every matrix of Eqs. 2 and 10 in full, the diagonal ones with all their
n x n entries, and multiplies them as they are printed. Both sides start from the same codes, take
the paper's settings for MIR Flickr, and build their anchors and concepts by the same function, so
the difference is in the n x n matrices alone; the share of codes on which they agree is printed.
OMP_NUM_THREADS limits the threads of both. A busy machine blurs seconds by the clock, hence also
those of the processor. Memory is measured by the module `resource`, which Windows lacks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skhash import DSTDHLinear
from skhash.graphs import anchor_graph, concept_hypergraph

BLOCK = 10_000
N_CLUSTERS = 50
TAGS_PER_IMAGE = 5
# ru_maxrss counts bytes on macOS and KiB elsewhere.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def make_data(
    n_samples: int, n_features: int, n_tags: int
) -> tuple[NDArray[np.float32], sp.csr_array]:
    """Features and the indicator of the tags of as many images."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(N_CLUSTERS, n_features)).astype(np.float32)
    frequencies = 1 / np.arange(1, n_tags + 1)
    frequencies /= frequencies.sum()
    own_tags = np.array([rng.permutation(n_tags) for _ in range(N_CLUSTERS)])
    X = np.empty((n_samples, n_features), np.float32)
    columns = np.empty((n_samples, TAGS_PER_IMAGE), np.int32)
    for start in range(0, n_samples, BLOCK):
        rows = slice(start, min(start + BLOCK, n_samples))
        cluster = rng.integers(N_CLUSTERS, size=rows.stop - start)
        noise = rng.standard_normal((len(cluster), n_features), np.float32)
        np.maximum(centres[cluster] + 2 * noise, 0, out=X[rows])
        drawn = rng.choice(n_tags, size=(len(cluster), TAGS_PER_IMAGE), p=frequencies)
        half = TAGS_PER_IMAGE // 2
        drawn[:, :half] = own_tags[cluster[:, None], drawn[:, :half]]
        columns[rows] = drawn
    pointers = np.arange(0, columns.size + 1, TAGS_PER_IMAGE)
    Y = sp.csr_array(
        (np.ones(columns.size, np.float32), columns.ravel(), pointers), shape=(n_samples, n_tags)
    )
    Y.sum_duplicates()
    Y.data[:] = 1
    return X, Y


def measure(function: Callable[[], Any]) -> tuple[Any, NDArray[np.float64]]:
    """Call a function; its result, and the seconds by the clock and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = function()
    return result, np.array([time.perf_counter(), time.process_time()]) - start


def peak_memory() -> int:
    """Most resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def fit_once(n_samples: int, args: argparse.Namespace) -> None:
    """Fit one size in this process and print what it took, as JSON."""
    X, Y = make_data(n_samples, args.features, args.tags)
    # The libraries' own start is not the fit's.
    DSTDHLinear(args.bits, random_state=0).fit(X[:200], Y[:200])
    before = peak_memory()
    hasher, seconds = measure(lambda: DSTDHLinear(args.bits, random_state=0).fit(X, Y))
    report = {
        "seconds": seconds.tolist(),
        "peak": peak_memory(),
        "added": peak_memory() - before,
        "n_iter": hasher.n_iter_,
    }
    print(json.dumps(report))


def growth(args: argparse.Namespace) -> None:
    """Print the table over the sizes and the exponents of the time."""
    print(
        f"DSTDHLinear({args.bits}).fit, {args.features} features, {args.tags} tags\n"
        f"{'samples':>9}{'clock':>11}{'processor':>12}{'iterations':>12}{'peak':>10}{'added':>10}"
    )
    times = []
    for n_samples in args.sizes:
        options = ("features", "tags", "bits")
        given = [word for name in options for word in (f"--{name}", str(getattr(args, name)))]
        command = [sys.executable, __file__, "--one", str(n_samples), *given]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(output)
        times.append(row["seconds"])
        print(
            f"{n_samples:>9}{row['seconds'][0]:>9.1f} s{row['seconds'][1]:>10.1f} s"
            f"{row['n_iter']:>12}{row['peak'] / 1e9:>7.2f} GB{row['added'] / 1e9:>7.2f} GB",
            flush=True,
        )
    if len(args.sizes) > 1:
        clock, processor = np.polyfit(np.log(args.sizes), np.log(times), 1)[0]
        print(f"time grows as n^{clock:.2f} by the clock, n^{processor:.2f} by the processor\n")


def transcription(
    X: NDArray[np.float32], Y: sp.csr_array, codes: NDArray[np.uint8], hasher: DSTDHLinear
) -> NDArray[np.bool_]:
    """Algorithm 1 with n x n matrices, and the regression of DSTDH-L; the codes of X."""
    p = hasher
    seed = np.random.RandomState(p.random_state).randint(np.iinfo(np.int32).max, size=3)
    V = anchor_graph(X, p.n_anchors, random_state=seed[0]).similarities.toarray()
    H = concept_hypergraph(X, Y, p.n_concepts, random_state=seed[1]).incidence

    inverse_Lambda = np.diag(1 / V.sum(axis=0))
    S_v = V @ inverse_Lambda @ V.T  # Eq. 2
    root_Dv = np.diag(1 / np.sqrt(H.sum(axis=1)))
    inverse_De, Dw = np.diag(1 / H.sum(axis=0)), np.eye(H.shape[1], dtype=H.dtype)
    S_h = root_Dv @ H @ Dw @ inverse_De @ H.T @ root_Dv  # Eq. 10

    tags = Y.toarray()
    inverse_YY = np.linalg.pinv(tags.T @ tags)
    Z = 2 * codes.astype(np.float32) - 1
    A, EA, EB = np.zeros_like(Z), np.zeros_like(Z), np.zeros_like(Z)
    mu = p.mu
    for _ in range(p.max_iter):
        P = inverse_YY @ tags.T @ (Z - A + EA / mu)  # Eq. 18
        T = Z - tags @ P + EA / mu
        A = T * np.maximum(1 - 1 / (mu * np.linalg.norm(T, axis=0)), 0)  # Eq. 16
        B = Z + EB / mu + p.alpha / mu * S_v @ Z + p.beta / mu * S_h @ Z  # Eq. 20
        arguments = mu * (A + tags @ P + B) - EA - EB + p.alpha * S_v @ B + p.beta * S_h @ B
        Z = np.where(arguments >= 0, np.float32(1), np.float32(-1))  # Eq. 23
        EA += mu * (Z - tags @ P - A)  # Eq. 24
        EB += mu * (Z - B)
        mu *= p.rho
    centred = X - X.mean(axis=0)
    W = np.linalg.pinv(centred.T @ centred) @ centred.T @ Z
    return centred @ W + Z.mean(axis=0) >= 0


def against_transcription(args: argparse.Namespace) -> None:
    """Print the times of both, and how many of the codes agree."""
    X, Y = make_data(args.transcription_samples, args.features, args.tags)
    codes = np.random.default_rng(1).integers(0, 2, (len(X), args.bits), dtype=np.uint8)
    hasher = DSTDHLinear.preset(n_bits=args.bits, init=codes, max_iter=10, tol=0.0, random_state=0)
    hasher.fit(X, Y)  # warm up
    ours, seconds = measure(lambda: hasher.fit(X, Y).transform(X))
    theirs, dense_seconds = measure(lambda: transcription(X, Y, codes, hasher))
    clock, processor = dense_seconds / seconds
    print(
        f"at {len(X)} samples, {hasher.n_iter_} iterations: {seconds[0]:.2f} s "
        f"({seconds[1]:.2f} s of the processor)\n"
        f"transcription with n x n matrices: {dense_seconds[0]:.2f} s "
        f"({dense_seconds[1]:.2f} s of the processor)\n"
        f"ratio {clock:.1f} by the clock, {processor:.1f} by the processor; "
        f"{np.mean(ours == theirs):.2%} of the bits agree"
    )


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description="Cost of DSTDHLinear.fit.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[25_000, 50_000, 100_000, 200_000])
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--tags", type=int, default=1_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--transcription-samples", type=int, default=5_325)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        fit_once(args.one, args)
        return
    growth(args)
    against_transcription(args)


if __name__ == "__main__":
    main()
