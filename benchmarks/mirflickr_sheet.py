"""What a search finds with and without tags learned first (the WP paper's Figure 5).

    python benchmarks/mirflickr_sheet.py --split test --output output/wp_sheets

Some queries of MIR Flickr, each with its nearest photos by WP-DRSCH and by DRSCH, both as in
mirflickr_wp.py: those that share a label with the query are framed green, others red. The photos
are not ours to publish: keep the sheets out of what is shared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _mirflickr
import numpy as np
from _runs import save_figure
from mirflickr_wp import HASHERS, LABELLED, fit

from skhash.metrics import NeighborsDisplay, precision_at_k


def main() -> None:
    """Fit both hashers, draw a sheet of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--hasher", choices=HASHERS, default="DRSCH")
    parser.add_argument("--labelled", type=int, default=LABELLED[-1])
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="also draws the queries")
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("output/wp_sheets"), help="folder")
    args = parser.parse_args()

    data = _mirflickr.load(args.split)
    rng = np.random.default_rng(args.seed)
    query = rng.choice(data.query, args.queries, replace=False)
    query_labels, database_labels = data.labels[query], data.labels[data.database]
    images = np.asarray([str(image) for image in data.images], dtype=object)
    for method in ("WP-X", "X"):
        task = method, args.hasher, args.labelled, args.bits, args.seed
        hasher = fit(task, args.split, None)
        codes = hasher.transform(data.X[query]), hasher.transform(data.X[data.database])
        sheet = NeighborsDisplay.from_codes(
            *codes,
            images[query],
            images[data.database],
            n_neighbors=args.neighbors,
            query_labels=query_labels,
            database_labels=database_labels,
        )
        name = method.replace("X", args.hasher)
        sheet.ax_.set_title(f"{name}, {args.bits} bits, {args.labelled} labelled photos")
        save_figure(sheet.figure_, args.output / f"{name.lower()}_{args.bits}.png")
        precision = precision_at_k(
            *codes, query_labels, database_labels, args.neighbors, ties="stable"
        )
        # Where many photos share a code, which of them come first is chance.
        distinct = len(np.unique(codes[1], axis=0))
        print(
            f"{name}: precision@{args.neighbors} of these queries {precision:.3f}; "
            f"{distinct} distinct codes in the database"
        )


if __name__ == "__main__":
    main()
