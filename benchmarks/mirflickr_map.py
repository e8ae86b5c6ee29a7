"""MAP of the hashers on MIR Flickr under the protocol of the DSTDH paper (Tables III and VI).

    python benchmarks/mirflickr_map.py --split validation      # for tuning
    python benchmarks/mirflickr_map.py --split test            # for the table

Every run is kept in ``benchmarks/cache``; an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
from _runs import Runs, markdown_table, mean_and_spread

from skhash import ITQ, LSH, PCAH, DSTDHLinear, TagITQ
from skhash.metrics import chance_level, mean_average_precision

METHODS: dict[str, Any] = {
    "LSH": LSH,
    "PCAH": PCAH,
    "ITQ": ITQ,
    "TagITQ": TagITQ,
    "DSTDH-L as printed": partial(DSTDHLinear.preset, "mirflickr", source="paper"),
    "DSTDH-L as released": partial(DSTDHLinear.preset, "mirflickr", source="release"),
    "DSTDH-L": DSTDHLinear,
    "DSTDH-L -D (no direct transfer)": partial(DSTDHLinear, direct=False),
    "DSTDH-L -I (no indirect transfer)": partial(DSTDHLinear, indirect=False),
    "DSTDH-L -NT (no tags)": partial(DSTDHLinear, use_tags=False),
    "DSTDH-L -T (tags not denoised)": partial(DSTDHLinear, denoise=False),
    "DSTDH-L -R (relaxed)": partial(DSTDHLinear, discrete=False),
}
PUBLISHED = {  # Table III, VGG features (4,096 dimensions, another size of photo)
    "published LSH": (0.6103, 0.6372, 0.6513, 0.6736),
    "published PCAH": (0.6603, 0.6519, 0.6418, 0.6320),
    "published ITQ": (0.7308, 0.7392, 0.7413, 0.7445),
    "published DSTDH-L": (0.7388, 0.7436, 0.7481, 0.7515),
}
BITS = (16, 32, 64, 128)


def evaluate(hasher: Any, data: SimpleNamespace, tags: Any) -> dict[str, Any]:
    """Fit on the training photos and search the database with the queries."""
    start = time.perf_counter()
    hasher.fit(data.X[data.train], tags)
    fit_seconds = time.perf_counter() - start
    query, database = (hasher.transform(data.X[rows]) for rows in (data.query, data.database))
    labels = data.labels[data.query], data.labels[data.database]
    train_codes = hasher.transform(data.X[data.train])
    return {
        "map": round(mean_average_precision(query, database, *labels), 5),
        "map_stable": round(mean_average_precision(query, database, *labels, ties="stable"), 5),
        "constant_bits": int((train_codes == train_codes[0]).all(axis=0).sum()),
        "fit_seconds": round(fit_seconds, 2),
    }


def main() -> None:
    """Run what is not kept yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--bits", type=int, nargs="+", default=BITS)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    args = parser.parse_args()

    data = _mirflickr.load(args.split)
    tags = data.tags[data.train]
    runs = Runs(f"mirflickr_map_{args.split}")
    for seed in range(args.seeds):
        for n_bits in args.bits:
            for name, make in METHODS.items():
                if (name, n_bits, seed) in runs.results:
                    continue
                hasher = make(n_bits=n_bits)
                if "random_state" in hasher.get_params():
                    hasher.set_params(random_state=seed)
                runs.add((name, n_bits, seed), evaluate(hasher, data, tags))

    labels = data.labels[data.query], data.labels[data.database]
    rows = [["chance", *[f"{chance_level(*labels):.4f}"] * len(args.bits)]]
    for name in METHODS:
        cells = []
        for n_bits in args.bits:
            found = [runs.results[name, n_bits, seed] for seed in range(args.seeds)]
            constant = max(result["constant_bits"] for result in found)
            note = f" ({constant} constant)" if constant else ""
            cells.append(mean_and_spread(result["map"] for result in found) + note)
        rows.append([name, *cells])
    for name, values in PUBLISHED.items():
        known = dict(zip(BITS, values, strict=True))
        rows.append([name, *(f"{known[b]:.4f}" if b in known else "" for b in args.bits)])
    print(markdown_table(["method", *(f"{b} bits" for b in args.bits)], rows))
    stable = [
        np.mean(
            [r["map_stable"] - r["map"] for (_, b, _), r in runs.results.items() if b == n_bits]
        )
        for n_bits in args.bits
    ]
    print(
        "\nMean gain of ranking ties in database order instead:",
        *(f"{gain:+.4f}" for gain in stable),
    )


if __name__ == "__main__":
    main()
