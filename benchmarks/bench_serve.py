"""Requests a second of examples/serve_search.py beside direct calls of ImageSearch in one thread.

    python benchmarks/bench_serve.py

The service runs in a process of its own; clients are threads here, each with one connection that
stays open. Photos are rendered and sent as JPEG, and seen by EfficientNet-Lite0. Ratios are to the
direct calls, which decode the same bytes, before the service starts; a busy machine blurs them.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.pipeline import make_pipeline

from skhash import ImageSearch, TagITQ
from skhash.datasets import make_social_images
from skhash.networks import ImageFeatures

SCRIPT = Path(__file__).parents[1] / "examples" / "serve_search.py"
N_QUERIES = 64

# One question: what it asks when it is the i-th.
Ask = Callable[[int], Any]


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Run the service; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(SCRIPT), str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the service does not start")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def client(port: int, path: str, bodies: list[bytes]) -> Ask:
    """What posts to the service, by a connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(i: int) -> Any:
        connection.request("POST", path, bodies[i % len(bodies)])
        response = connection.getresponse()
        content = json.loads(response.read())
        if response.status != 200:
            raise AssertionError(f"{response.status}: {content}")
        return [hit["id"] for hit in content]

    return ask


def seconds_of_each(asks: list[Ask], seconds: float) -> tuple[NDArray[np.float64], float]:
    """Durations of all questions that clients, at a time, ask until the time is over; a second."""
    for ask in asks:
        ask(0)
    start = time.perf_counter()

    def run(number: int) -> list[float]:
        durations, i = [], number
        while (before := time.perf_counter()) < start + seconds:
            asks[number](i)
            durations.append(time.perf_counter() - before)
            i += len(asks)
        return durations

    with ThreadPoolExecutor(len(asks)) as pool:
        durations = np.concatenate(list(pool.map(run, range(len(asks)))))
    return durations, len(durations) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-photos", type=int, default=600)
    parser.add_argument("--photo-size", type=int, nargs=2, default=[640, 480])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    args = parser.parse_args()
    torch.set_num_threads(1)

    photos = make_social_images(args.n_photos + N_QUERIES, random_state=0)
    hasher = make_pipeline(ImageFeatures("efficientnet_lite0"), TagITQ(64, random_state=0))
    search = ImageSearch(hasher).fit(
        photos.images[: args.n_photos], photos.tags[: args.n_photos], range(args.n_photos)
    )
    uploads = []
    for pixels in photos.images[args.n_photos :]:
        file = io.BytesIO()
        Image.fromarray(pixels).resize(args.photo_size).save(file, "JPEG", quality=90)
        uploads.append(file.getvalue())
    words = [list(tags[:2]) for tags in photos.tags[: args.n_photos] if tags][:N_QUERIES]
    questions: dict[str, tuple[Ask, str, list[bytes]]] = {
        "photo": (
            lambda i: search.query(Image.open(io.BytesIO(uploads[i % N_QUERIES]))).ids[0].tolist(),
            "/search/photo",
            uploads,
        ),
        "words": (
            lambda i: search.query_tags([words[i % N_QUERIES]]).ids[0].tolist(),
            "/search/words",
            [json.dumps({"words": some}).encode() for some in words],
        ),
    }
    width, height = args.photo_size
    print(
        f"{args.n_photos:,} photos; JPEG of {width} x {height}, {len(uploads[0]) / 1024:.0f} KiB\n"
    )
    print("| query | clients | requests/s | ratio | median ms | p95 ms |")
    print("|:------|:--------|-----------:|------:|----------:|-------:|")

    def print_row(query: str, who: str, durations: NDArray[Any], rate: float, base: float) -> None:
        median, slow = 1000 * np.percentile(durations, [50, 95])
        row = f"{rate:10,.1f} | {rate / base:5.2f} | {median:9.1f} | {slow:6.1f}"
        print(f"| {query:5} | {who:7} | {row} |", flush=True)

    bases = {}
    for query, (direct, _, _) in questions.items():
        durations, bases[query] = seconds_of_each([direct], args.seconds)
        print_row(query, "direct", durations, bases[query], bases[query])
    with tempfile.TemporaryDirectory() as folder:
        search.save(folder)
        with serving(Path(folder)) as port:
            for query, (direct, path, bodies) in questions.items():
                if client(port, path, bodies)(3) != direct(3):
                    raise AssertionError("the service does not answer what the search does")
                for n in args.clients:
                    asks = [client(port, path, bodies) for _ in range(n)]
                    print_row(query, str(n), *seconds_of_each(asks, args.seconds), bases[query])


if __name__ == "__main__":
    main()
