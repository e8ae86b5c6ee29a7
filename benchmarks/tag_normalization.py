"""What codes gain if forms of a tag count as one: TagITQ by the cleaning of encode_tags.

    python benchmarks/tag_normalization.py

The tags of MIR Flickr are in lower case already. So they are also taken as careless people would
have written them: each use of a tag, by chance and seed, as it is (half of the uses), with a
capital, in capitals, or in a form with or without the plural's s. Photos, labels and queries stay
the same: validation queries, relevant is what shares one of the 24 labels.
"""

from __future__ import annotations

import argparse
import warnings
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
from _runs import Runs, markdown_table, mean_and_spread

from skhash import TagITQ
from skhash.metrics import mean_average_precision
from skhash.tags import encode_tags

# People who praise each other, and their cameras.
_STOP_TAGS = """
    explore interestingness abigfave anawesomeshot aplusphoto superaplus impressedbeauty mywinners
    diamondclassphotographer flickrdiamond theperfectphotographer supershot bravo searchthebest
    canon nikon sony olympus panasonic fujifilm eos d70 d80 d50 d40 d200 400d 350d 30d 2007 2008
"""
CLEANINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "case": {"normalize": "case"},
    "forms": {"normalize": "forms"},
    "min_count=5": {"min_count": 5},
    "min_count=50": {"min_count": 50},
    "stop_tags": {"stop_tags": _STOP_TAGS.split()},
}


def careless(tags: Any, seed: int) -> Any:
    """The tags in random forms."""
    rng = np.random.default_rng(seed)
    forms = (str, str, str, str.capitalize, str.upper, _other_number)
    rows = np.empty(len(tags), dtype=object)
    rows[:] = [[forms[rng.integers(len(forms))](tag) for tag in row] for row in tags]
    return rows


def _other_number(tag: str) -> str:
    return tag[:-1] if tag.endswith("s") else tag + "s"


def evaluate(task: tuple[Any, ...], data: SimpleNamespace) -> dict[str, Any]:
    """Fit on the training photos, search the database."""
    written, cleaning, n_bits, seed = task
    tags = data.tags if written == "as they are" else careless(data.tags, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags in several cases, which are the point
        encoded = encode_tags(tags[data.train], **CLEANINGS[cleaning])
        hasher = TagITQ(n_bits, random_state=seed).fit(data.X[data.train], encoded)
    score = mean_average_precision(
        hasher.transform(data.X[data.query]),
        hasher.transform(data.X[data.database]),
        data.labels[data.query],
        data.labels[data.database],
    )
    return {"map": round(score, 5), "n_tags": len(encoded.vocabulary)}


def main() -> None:
    """Run what is not kept yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to this less one")
    args = parser.parse_args()
    runs = Runs("tag_normalization")
    kinds = [(written, c) for written in ("as they are", "careless") for c in CLEANINGS]
    seeds, bits = range(args.seeds), (16, 64)
    runs.complete(
        [(*kind, b, s) for s in seeds for kind in kinds for b in bits],
        evaluate,
        _mirflickr.load("validation"),
    )
    rows = []
    for kind in kinds:
        found = {b: [runs.results[*kind, b, s] for s in seeds] for b in bits}
        sizes = [result["n_tags"] for result in found[16]]
        rows.append(
            [
                *kind,
                f"{np.median(sizes):.0f}",
                *(mean_and_spread(result["map"] for result in found[b]) for b in bits),
            ]
        )
    print(markdown_table(["tags", "cleaning", "tags left", "16 bits", "64 bits"], rows))


if __name__ == "__main__":
    main()
