"""A backbone trained end to end on the photos of MIR Flickr: speed, and the MAP it reaches.

    python benchmarks/mirflickr_end_to_end.py --device cuda --workers 8
    python benchmarks/mirflickr_end_to_end.py --method dstdh --device cuda --workers 8 --epochs 3
    python benchmarks/mirflickr_end_to_end.py --backbone resnet18 --weights none --photos 400 \
        --image-size 64 --epochs 1        # on a CPU: shows that the path works

Both methods learn from the tags of all database photos, and all layers of the backbone are trained.
"wp": stage one of WeaklySupervisedHasher, and stage two with the labels of ``--labelled`` photos.
"dstdh": DSTDHHasher, ``--epochs`` in each of ``--rounds`` rounds.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import _mirflickr
import numpy as np

from skhash import DSTDHHasher
from skhash.metrics import chance_level, mean_average_precision
from skhash.supervised import DSHHasher
from skhash.weakly import WeaklySupervisedHasher


def main() -> None:
    """Train, encode, search, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=["wp", "dstdh"], default="wp")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument(
        "--weights", default=str(_mirflickr.WEIGHTS), help='path, "DEFAULT" or "none"'
    )
    parser.add_argument("--trainable", choices=["all", "head"], default="all")
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10, help="of stage one, or a round")
    parser.add_argument("--rounds", type=int, default=2, help="of dstdh")
    parser.add_argument("--labelled", type=int, default=0)
    parser.add_argument("--photos", type=int, help="database photos and queries at most")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--backbone-lr", type=float, default=1e-5)
    parser.add_argument("--weight-decay", type=float, default=10.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    data = _mirflickr.load(args.split)
    database, query = data.database[: args.photos], data.query[: args.photos]
    images = np.asarray(data.images, dtype=object)
    X, tags = images[database].tolist(), data.tags[database]
    network = {
        "backbone": args.backbone,
        "weights": None if args.weights == "none" else args.weights,
        "trainable": args.trainable,
        "image_size": args.image_size,
        "backbone_lr": args.backbone_lr,
        "device": args.device,
        "amp": args.device != "cpu",
        "num_workers": args.workers,
        "verbose": 1,
    }
    training = {
        "max_epochs": args.epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "weight_decay": args.weight_decay,
        "random_state": args.seed,
    }
    start = time.perf_counter()
    hasher: Any
    if args.method == "dstdh":
        hasher = DSTDHHasher(
            args.bits, n_rounds=args.rounds, hidden_layers=(), **network, **training
        ).fit(X, tags)
        epochs = [row["dur"] for row in hasher.epochs_]
    else:
        labels = np.empty(len(database), dtype=object)
        labels[:] = [[] for _ in database]
        for row in np.random.default_rng(args.seed).permutation(len(database))[: args.labelled]:
            labels[row] = [str(label) for label in np.flatnonzero(data.labels[database[row]])]
        hasher = WeaklySupervisedHasher(DSHHasher(args.bits, **network), **training)
        hasher.fit(X, tags, labels=labels)
        epochs = [row["dur"] for row in hasher.history_]
    fit_seconds = time.perf_counter() - start
    start = time.perf_counter()
    codes = hasher.transform(X)
    encode_seconds = time.perf_counter() - start
    found = data.labels[query], data.labels[database]
    score = mean_average_precision(hasher.transform(images[query].tolist()), codes, *found)
    print(f"{args.method}, {args.backbone}, {args.trainable} trained, {args.bits} bits")
    print(f"photos {len(database)}, queries {len(query)}, chance {chance_level(*found):.4f}")
    print(f"fit {fit_seconds:.0f} s; training {len(database) / np.median(epochs):.0f} images/s")
    print(f"encoding from files {len(database) / encode_seconds:.0f} images/s")
    print(f"MAP {score:.4f}")


if __name__ == "__main__":
    main()
