"""Photos a second by encode, beside the same hasher's transform, and memory by number of photos.

    python benchmarks/bench_encode.py
    python benchmarks/bench_encode.py --engine openvino --photos 1500 --repeats 1 --many

The hasher is EfficientNet-Lite0 and ITQ, 64 bits, in one process with one thread. Photos are those
of MIR Flickr, 128 x 128. Rates are by the processor, as a busy machine blurs those by the clock;
encode and transform alternate, and medians are shown with their extremes. "start" is the seconds
that a process takes before the first photo, to save, load and compile, which the rate leaves out:
give many photos where it is long.

Memory is the largest resident set of a process of its own for each number of photos, at 32 pixels,
where the network is quick and all else the same. "reading back" is read_codes of the folder.
"index" is what a call with ``cache=`` costs beside features: opening a cache of 100,000 keys for
the first time in a process, which every call did before, and again. Queries are of
HammingNeighbors, 64 together, among random codes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _mirflickr
import numpy as np
import torch
from _runs import markdown_table
from sklearn.pipeline import make_pipeline

from skhash import ITQ, HammingNeighbors, ImageFeatures, encode, read_codes
from skhash.codes import pack
from skhash.networks._cache import FeatureCache, open_cache

N_FITTED = 128


def make_hasher(paths: list[str], image_size: int, engine: str = "torch") -> Any:
    """A fitted hasher of 64 bits."""
    features = ImageFeatures("efficientnet_lite0", image_size=image_size, engine=engine)
    return make_pipeline(features, ITQ(64, random_state=0)).fit(paths[:N_FITTED])


def seconds(run: Callable[[], Any]) -> float:
    """Seconds of the processor that a call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def rates(paths: list[str], image_size: int, engine: str, repeats: int) -> list[list[str]]:
    """Rows of the table of speeds."""
    hasher = make_hasher(paths, image_size, engine)
    found: dict[str, list[float]] = {"transform": [], "encode": [], "start": []}
    for _ in range(repeats):
        found["transform"].append(len(paths) / seconds(lambda: pack(hasher.transform(paths))))
        with tempfile.TemporaryDirectory() as out:
            start = seconds(partial(encode, hasher, paths[:1], f"{out}/one"))
            whole = seconds(partial(encode, hasher, paths, f"{out}/all"))
        found["encode"].append((len(paths) - 1) / (whole - start))
        found["start"].append(start)
    found["encode / transform"] = list(np.divide(found["encode"], found["transform"]))
    return [
        [f"{name}, {image_size} px", *(f"{f(v):.3g}" for f in (np.median, np.min, np.max))]
        for name, v in found.items()
    ]


def peak() -> float:
    """The largest resident set of this process, in MiB; getrusage includes its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def measure_memory(paths: list[str], n_photos: int, results: Any) -> None:
    """Encode in this process; report its largest resident set, before and after, in MiB."""
    torch.set_num_threads(1)
    hasher = make_hasher(paths, 32)
    before = peak()
    with tempfile.TemporaryDirectory() as out:
        photos = (paths[i % len(paths)] for i in range(n_photos))
        start = time.perf_counter()
        encode(hasher, photos, out, ids=range(n_photos))
        took = time.perf_counter() - start
        after = peak()
        n_bytes = sum(path.stat().st_size for path in Path(out).glob("shard-*"))
        start = time.perf_counter()
        read_codes(out)
        reading = time.perf_counter() - start
    results.put(
        [
            f"{n_photos:,}",
            f"{before:.0f}",
            f"{after:.0f}",
            f"{n_bytes / n_photos:.1f}",
            f"{took:.0f}",
            f"{reading:.3f}",
        ]
    )


def index(n_keys: int = 100_000) -> str:
    """Seconds to open a cache for the first time and again."""
    keys = np.random.default_rng(0).integers(0, 256, (n_keys, 16), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureCache(Path(folder, "network"))
        for start in range(0, n_keys, 1024):
            some = keys[start : start + 1024]
            store.put([key.tobytes() for key in some], np.zeros((len(some), 8), np.float32))
        first, again = (seconds(lambda: open_cache(folder, "network")) for _ in range(2))
    return f"index of {n_keys:,} keys: first {first:.3f} s, again {again:.4f} s"


def queries(n_codes: int) -> str:
    """Queries a second among random codes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (n_codes, 8), np.uint8)
    index = HammingNeighbors(n_neighbors=10, packed=True).fit(codes)
    return f"{64 / seconds(lambda: index.kneighbors(codes[:64])):.3g}"


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=256, help="for the rates; 0 leaves them out")
    parser.add_argument("--many", type=int, nargs="*", default=[2000, 20000])
    parser.add_argument("--engine", default="torch", help="of the rates")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--codes", type=int, default=5_000_000)
    args = parser.parse_args()

    torch.set_num_threads(1)
    paths = [str(path) for path in _mirflickr.load("test").images]
    if args.photos:
        some = paths[: args.photos]
        rows = [row for size in (128, 224) for row in rates(some, size, args.engine, args.repeats)]
        header = [f"photos a second, {args.engine}", "median", "least", "most"]
        print(markdown_table(header, rows), "\n", flush=True)

    rows, context = [], multiprocessing.get_context("spawn")
    for n_photos in args.many:
        results = context.Queue()
        process = context.Process(target=measure_memory, args=(paths, n_photos, results))
        process.start()
        rows.append(results.get())
        process.join()
    if rows:
        header = ["photos", "MiB before", "MiB at most", "bytes a photo", "seconds", "reading back"]
        print(markdown_table(header, rows), "\n", flush=True)
    print(index())
    print(f"queries a second among {args.codes:,} codes of 64 bits: {queries(args.codes)}")


if __name__ == "__main__":
    main()
