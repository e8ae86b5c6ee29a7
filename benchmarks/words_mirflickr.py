"""Photos found by words, on MIR Flickr.

    python benchmarks/words_mirflickr.py --split validation
    python benchmarks/words_mirflickr.py --split test

Hashers learn from the training photos and their tags. The queries are (a) the tags of each query
photo, and relevant is what shares one of its 24 labels; (b) the names of the labels, a word each,
and relevant is what has the label: the mean average precision over those that occur as tags; (c)
the same names, and the query photos without their tags, where the codes of the database are of
photos and tags together (``transform_with_tags``).
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import _mirflickr
import numpy as np
from _runs import markdown_table, mean_and_spread

from skhash import ITQ, DSTDHLinear, TagHasher, TagITQ
from skhash.codes import missing_rows
from skhash.metrics import chance_level, mean_average_precision

METHODS = {
    "ITQ + TagHasher": lambda n_bits, seed: ITQ(n_bits, random_state=seed),
    "TagITQ, linear": lambda n_bits, seed: TagITQ(n_bits, kernel=None, random_state=seed),
    "TagITQ": lambda n_bits, seed: TagITQ(n_bits, random_state=seed),
    "DSTDH-L": lambda n_bits, seed: DSTDHLinear(n_bits, random_state=seed),
}


KINDS = ("tags", "names", "names, tagged", "photos", "photos, tagged")


def measure(data: Any, name: str, n_bits: int, seed: int) -> tuple[dict[str, float], int]:
    """MAP by kind of query and of database, and how many of the names are known."""
    train = data.X[data.train], data.tags[data.train]
    hasher = METHODS[name](n_bits, seed).fit(*train)
    if hasattr(hasher, "transform_tags"):
        words, encode = hasher, hasher.transform_tags
    else:
        words = TagHasher(hasher, random_state=seed).fit(*train)
        encode = words.transform
    database = hasher.transform(data.X[data.database])
    truth = data.labels[data.database]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of words that are not known
        by_tags = encode(data.tags[data.query].tolist())
        by_name = encode([[label] for label in data.label_names])
        tagged = words.transform_with_tags(data.X[data.database], data.tags[data.database])
    known = ~missing_rows(by_tags)
    named = ~missing_rows(by_name)
    photos = hasher.transform(data.X[data.query])
    relevant = data.labels[data.query]
    indicator = np.eye(len(data.label_names), dtype=np.uint8)[named]
    tags = mean_average_precision(by_tags[known], database, relevant[known], truth)
    return {
        # A photo without a known tag finds nothing, and counts 0.
        "tags": tags * float(known.mean()),
        "names": mean_average_precision(by_name[named], database, indicator, truth),
        "names, tagged": mean_average_precision(by_name[named], tagged, indicator, truth),
        "photos": mean_average_precision(photos, database, relevant, truth),
        "photos, tagged": mean_average_precision(photos, tagged, relevant, truth),
    }, int(named.sum())


def main() -> None:
    """Print a table for each length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to this less one")
    args = parser.parse_args()
    data = _mirflickr.load(args.split)
    names = (_mirflickr.FOLDER / "label_names24.txt").read_text(encoding="utf-8").split()
    data.label_names = names
    truth = data.labels[data.query], data.labels[data.database]
    share = data.labels[data.database].mean(axis=0).mean()
    print(f"{args.split}: chance {chance_level(*truth):.4f} by tags, about {share:.4f} by names")
    for n_bits in args.bits:
        rows = []
        for method in METHODS:
            found = [measure(data, method, n_bits, seed) for seed in range(args.seeds)]
            cells = [mean_and_spread(values[kind] for values, _ in found) for kind in KINDS]
            rows.append([f"{method} ({found[0][1]} of {len(names)} names)", *cells])
        print(f"\n{n_bits} bits\n")
        print(markdown_table(["method", *KINDS], rows))


if __name__ == "__main__":
    main()
