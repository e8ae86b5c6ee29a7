"""Backbones on the photos of MIR Flickr: the MAP of codes of their features, speed and size.

    python benchmarks/backbones.py --split test --seeds 2
    python benchmarks/backbones.py --backbones efficientnet_lite2 timm/resnet18.a1_in1k

Each backbone sees the photos, 128 pixels a side, at the size it was trained with; VGG-16 sees them
as they are: its weights and features are those that lie with them. ITQ and DSTDHLinear learn 64
bits on the features of the training photos. Images a second are from files to features, of the
processor, with one thread; bytes are those of the weights in memory, without a classifier. Features
and runs are kept in ``benchmarks/cache``: an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import _mirflickr
import numpy as np
import torch
from _runs import CACHE, Runs, markdown_table, mean_and_spread

from skhash import ITQ, DSTDHLinear
from skhash.metrics import mean_average_precision
from skhash.networks import ImageFeatures

METHODS = {"ITQ": ITQ, "DSTDHLinear": DSTDHLinear}
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


def complete(runs: Runs, backbone: str, network: ImageFeatures, data: Any, seeds: range) -> None:
    """Run what is not kept yet of the codes of a backbone's features."""
    missing = [
        (backbone, method, seed)
        for method in METHODS
        for seed in seeds
        if (backbone, method, seed) not in runs.results
    ]
    if not missing:
        return
    if backbone == "vgg16":
        X = data.X
    else:
        network.set_params(cache=CACHE / "features", verbose=1)
        X = network.transform(list(data.images))
    for key in missing:
        _, method, seed = key
        hasher = METHODS[method](N_BITS, random_state=seed)
        hasher.fit(X[data.train], data.tags[data.train])
        score = mean_average_precision(
            hasher.transform(X[data.query]),
            hasher.transform(X[data.database]),
            data.labels[data.query],
            data.labels[data.database],
        )
        runs.add(key, {"map": round(score, 5)})


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backbones", nargs="+", default=["efficientnet_lite0", "efficientnet_lite2", "vgg16"]
    )
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(1)
    data, runs = _mirflickr.load(args.split), Runs(f"backbones_{args.split}")
    rows = []
    for backbone in args.backbones:
        network = load_network(backbone, data.images)
        images_a_second = speed(network, list(data.images[:N_TIMED]))
        complete(runs, backbone, network, data, range(args.seeds))
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
