"""Backbones on the photos of MIR Flickr: the MAP of codes of their features, speed and size.

    python benchmarks/backbones.py --split test --seeds 2
    python benchmarks/backbones.py --backbones efficientnet_lite2 timm/resnet18.a1_in1k

Each backbone sees the photos, 128 pixels a side, at the size it was trained with; VGG-16 sees them
as they are: its weights and features are those that lie with them. Hashers learn 64 bits on the
features of the training photos. Images a second are from files to features by torch, of the
processor, with one thread; bytes are those of the weights in memory, without a classifier. Features
and runs are kept in ``benchmarks/cache``: an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import _mirflickr
import numpy as np
import torch
from _runs import CACHE, Runs, Task, markdown_table, mean_and_spread

from skhash import ITQ, DSTDHHasher, DSTDHLinear
from skhash.networks import ImageFeatures

METHODS: dict[str, Callable[..., Any]] = {
    "ITQ": ITQ,
    "DSTDHLinear": DSTDHLinear,
    "DSTDHHasher": partial(DSTDHHasher, backbone=None),
}
N_BITS = 64
N_TIMED = 64


def load_network(backbone: str, paths: list[str]) -> ImageFeatures:
    """The backbone with its pretrained weights."""
    weights = {"vgg16": _mirflickr.load("test").network}
    network = ImageFeatures(**weights.get(backbone, {"backbone": backbone}), device="cpu")
    return network.fit(paths)


def megabytes(network: ImageFeatures) -> float:
    """Size of the weights as they are in memory."""
    tensors = network.backbone_.net.state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def speed(network: ImageFeatures, paths: list[str], repeats: int = 3) -> float:
    """Images a second of the processor: the median of some repeats, after one that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        network.transform(paths)
        seconds.append(time.process_time() - start)
    return len(paths) / float(np.median(seconds[1:]))


def features(backbone: str, network: ImageFeatures, data: Any, engine: str) -> Any:
    """Features of all photos."""
    if backbone == "vgg16":
        return data.X
    network.set_params(cache=CACHE / "features", engine=engine, verbose=1)
    return network.transform(list(data.images))


def run(task: Task, X: Any, data: Any) -> dict[str, Any]:
    """Learn codes of a backbone's features, and search the database."""
    _, method, seed = task
    hasher = METHODS[method](N_BITS, random_state=seed)
    hasher.fit(X[data.train], data.tags[data.train])
    return {"map": _mirflickr.score(hasher, X, data)}


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backbones", nargs="+", default=["efficientnet_lite0", "efficientnet_lite2", "vgg16"]
    )
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--engine", default="auto", help="what computes features of all photos")
    args = parser.parse_args()

    torch.set_num_threads(1)
    data, runs = _mirflickr.load(args.split), Runs(f"backbones_{args.split}")
    rows = []
    for backbone in args.backbones:
        network = load_network(backbone, data.images)
        images_a_second = speed(network, list(data.images[:N_TIMED]))
        tasks = [(backbone, m, seed) for m in METHODS for seed in range(args.seeds)]
        if not runs.results.keys() >= set(tasks):
            runs.complete(tasks, run, features(backbone, network, data, args.engine), data)
        scores = [
            mean_and_spread(
                runs.results[backbone, method, seed]["map"] for seed in range(args.seeds)
            )
            for method in METHODS
        ]
        size = f"{network.backbone_.image_size} px"
        numbers = f"{megabytes(network):.0f}", f"{images_a_second:.3g}"
        rows.append([backbone, size, str(network.backbone_.n_features_out()), *numbers, *scores])
    header = ["backbone", "sees", "features", "MB", "images/s", *METHODS]
    print("\n" + markdown_table(header, rows))


if __name__ == "__main__":
    main()
