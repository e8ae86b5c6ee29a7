"""What the rounds of DSTDHHasher add to the network that they start from (validation queries).

    python benchmarks/dstdh_rounds.py                        # tags as people write them
    python benchmarks/dstdh_rounds.py --dataset keywords     # clean tags

"start" has no rounds, "dropout" rounds with dropout, "default" rounds without. Every run is kept in
``benchmarks/cache``.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import Any
from unittest import mock

import _data
import _mirflickr
from _runs import Runs, Task, markdown_table, mean_and_spread

from skhash import DSTDHHasher, TagITQHasher
from skhash.networks._head import HashHead

VARIANTS = ("start", "dropout", "default")


def run(task: Task, dataset: str) -> dict[str, Any]:
    """Fit one (variant, n_bits, seed) and search the database."""
    variant, n_bits, seed = task
    data = _data.load(dataset, "validation")
    X = _data.features("vgg", dataset, "validation")
    settings: dict[str, Any] = {"backbone": None, "tune": False, "random_state": seed}
    cls = TagITQHasher if variant == "start" else DSTDHHasher
    hasher = cls(n_bits, **settings)
    kept = mock.patch.object(HashHead, "drop_nothing", lambda head: None)
    with kept if variant == "dropout" else nullcontext():
        hasher.fit(X[data.train], data.tags[data.train])
    return {"map": _mirflickr.score(hasher, X, data)}


def main() -> None:
    """Run what is not kept yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=["mirflickr", "keywords"], default="mirflickr")
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to this less one")
    args = parser.parse_args()
    tasks = [(v, b, s) for s in range(args.seeds) for b in args.bits for v in VARIANTS]
    runs = Runs(f"dstdh_rounds_{args.dataset}")
    runs.complete(tasks, run, args.dataset)
    rows = [
        [
            v,
            *(
                mean_and_spread(runs.results[v, b, s]["map"] for s in range(args.seeds))
                for b in args.bits
            ),
        ]
        for v in VARIANTS
    ]
    print(markdown_table(["rounds", *(f"{b} bits" for b in args.bits)], rows))


if __name__ == "__main__":
    main()
