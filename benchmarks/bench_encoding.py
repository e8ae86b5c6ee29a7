"""Images a second from JPEG files to packed codes, beside the bare network on ready tensors.

    python benchmarks/bench_encoding.py --threads 1
    python benchmarks/bench_encoding.py --image-size 128 --photos 256 --train
    python benchmarks/bench_encoding.py --device cuda --amp --num-workers 16 --photos 8192 --train

"encoding" is ``skhash.codes.pack(hasher.transform(paths))`` with DSTDHHasher: reading, scaling,
normalising, the network, its head, packing. "bare network" is the forward pass of the same network
on tensors that are ready on the device, in batches of the same size and the same precision.
"reading" is decoding and scaling alone, in one process. They alternate; medians over the repeats
stand beside the extremes. A busy machine blurs seconds by the clock, hence also those of the
processor, where all work is this process's own.

``--train`` adds the speed of training all layers end to end from the files. The photos are those
of MIR Flickr, or of ``--folder``; their size decides what reading costs.
"""

from __future__ import annotations

import argparse
import inspect
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _mirflickr
import numpy as np
import torch
from _runs import markdown_table
from numpy.typing import NDArray

from skhash import DSTDHHasher
from skhash.codes import pack
from skhash.networks._extract import autocast, extract_features, place, resolve_device
from skhash.networks._images import Images

BATCH = inspect.signature(extract_features).parameters["batch_size"].default
N_FITTED = 16  # photos to fit a hasher on: any codes will do


def make_hasher(args: argparse.Namespace, image_size: int, **params: Any) -> DSTDHHasher:
    """An unfitted hasher that loses no time with graphs, tags or many rounds."""
    return DSTDHHasher(
        64,
        **{"alpha": 0, "beta": 0, "init": "random", "max_iter": 1, "n_rounds": 1, **params},
        weights=None if args.weights == "none" else args.weights,
        image_size=image_size,
        device=args.device,
        amp=args.amp,
        num_workers=args.num_workers,
        random_state=0,
    )


def bare_network(hasher: DSTDHHasher, paths: list[Path]) -> Callable[[], None]:
    """A pass of the network alone over the photos, which are ready on the device."""
    backbone, device = hasher.backbone_, resolve_device(hasher.device)
    assert backbone is not None
    layout = torch.channels_last if hasher.amp else torch.contiguous_format
    pixels = Images(paths, backbone.image_size)[np.arange(len(paths))]
    batches = [
        ((batch / 255 - backbone.mean) / backbone.std).to(device, memory_format=layout)
        for batch in pixels.split(BATCH)
    ]

    @torch.inference_mode()
    def run() -> None:
        with autocast(device, hasher.amp):
            for batch in batches:
                backbone.net(batch)

    return run


def speed(run: Callable[[], Any], n_images: int, device: torch.device) -> list[float]:
    """Images a second of one call, by the clock and of the processor."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter(), time.process_time()
    run()
    wait()
    return [
        n_images / (time.perf_counter() - start[0]),
        n_images / (time.process_time() - start[1]),
    ]


def encoding(args: argparse.Namespace, paths: list[Path], image_size: int) -> list[list[str]]:
    """Rows of the table: speeds of reading, network and encoding, and the ratio."""
    device = resolve_device(args.device)
    hasher = make_hasher(args, image_size, max_epochs=1).fit(paths[:N_FITTED])
    backbone, bare = hasher.backbone_, bare_network(hasher, paths)
    assert backbone is not None
    runs: dict[str, Callable[[], Any]] = {
        "reading": lambda: Images(paths, image_size)[np.arange(len(paths))],
        "bare network": bare,
        "encoding": lambda: pack(hasher.transform(paths)),
    }
    speeds: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(args.repeats + 1):
        for name, run in runs.items():
            if run is bare:  # transform puts the network on the device and back by itself
                place(backbone, device, channels_last=args.amp)
            speeds[name].append(speed(run, len(paths), device))
        place(backbone, "cpu")
    kept = {name: np.array(found[1:]) for name, found in speeds.items()}  # the first warms up
    kept["encoding / bare network"] = kept["encoding"] / kept["bare network"]
    rows = []
    for name, found in kept.items():
        rows.append([name, *summary(found[:, 0])])
        if device.type == "cpu" and not args.num_workers:  # else others work too
            rows.append([f"{name}, by the processor", *summary(found[:, 1])])
    return rows


def training(args: argparse.Namespace, paths: list[Path], image_size: int) -> list[list[str]]:
    """A row of the table: the speed of training all layers, after the first epoch."""
    hasher = make_hasher(
        args, image_size, trainable="all", max_epochs=args.repeats + 1, batch_size=args.batch_size
    )
    epochs = hasher.fit(paths).epochs_[1:]
    return [["training", *summary([len(paths) / row["dur"] for row in epochs])]]


def summary(values: NDArray[Any] | list[float]) -> list[str]:
    """Median and extremes."""
    return [f"{value:.4g}" for value in (np.median(values), np.min(values), np.max(values))]


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="of JPEG files to encode; else MIR Flickr's")
    parser.add_argument("--image-size", type=int, nargs="+", default=[128, 224])
    parser.add_argument(
        "--weights",
        default=str(_mirflickr.WEIGHTS) if _mirflickr.WEIGHTS.exists() else "none",
        help='of vgg16: a path, "DEFAULT" or "none", which are random',
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read photos")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", action="store_true", help="bfloat16, channels last")
    parser.add_argument("--train", action="store_true", help="measure training too")
    parser.add_argument("--batch-size", type=int, default=64, help="of training")
    args = parser.parse_args()

    warnings.filterwarnings("ignore", r"\d+ of 64 bits are constant")  # of so few photos
    if args.threads:
        torch.set_num_threads(args.threads)
    photos = args.folder.rglob("*.jp*g") if args.folder else _mirflickr.load("test").images
    paths = sorted(photos)[: args.photos]
    if len(paths) < N_FITTED:
        raise SystemExit(f"{len(paths)} photos: give at least {N_FITTED}.")
    print(
        f"vgg16 on {args.device}, {'bfloat16' if args.amp else 'float32'}, "
        f"{torch.get_num_threads()} threads, {args.num_workers} workers; {len(paths)} photos in "
        f"batches of {BATCH}, {args.repeats} repeats; images a second\n"
    )
    for image_size in args.image_size:
        rows = encoding(args, paths, image_size)
        rows += training(args, paths, image_size) if args.train else []
        print(
            markdown_table([f"{image_size} px", "median", "least", "most"], rows), "\n", flush=True
        )


if __name__ == "__main__":
    main()
