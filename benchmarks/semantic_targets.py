"""What tags are turned into, and what codes gain from it: TagITQ by target, features and photos.

    python benchmarks/semantic_targets.py --split validation        # for tuning
    python benchmarks/semantic_targets.py --split test --seeds 5    # for the table
    python benchmarks/semantic_targets.py --keywords                # clean tags

Relevant is what shares one of the 24 labels of MIR Flickr. With ``--keywords`` users are tidy: of
their tags only names of things to be seen are left (a list in ``_mirflickr.py``), photos without
any are left out, and relevant is what shares a keyword. Every run is kept in ``benchmarks/cache``.
"""

from __future__ import annotations

import argparse
import time
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
from _runs import Runs, markdown_table, mean_and_spread

from skhash import TagITQ

TARGETS = ("tfidf", "word2vec", "sem-vectors", "ppmi", "glove")
KERNELS = {"linear": None, "kernel": "rbf"}


def glove() -> dict[str, Any]:
    """Vectors of the tags that GloVe knows."""
    table = np.load(_mirflickr.ROOT / "tag_vectors" / "glove6B100d_mirflickr_tags.npz")
    return dict(zip(table["words"].tolist(), table["vectors"], strict=True))


def evaluate(task: tuple[Any, ...], data: SimpleNamespace) -> dict[str, Any]:
    """Fit on the training photos, search the database."""
    target, kernel, photos, n_bits, seed = task
    rows = data.train if photos == "train" else data.database
    hasher = TagITQ(
        n_bits,
        target=glove() if target == "glove" else target,
        kernel=KERNELS[kernel],
        random_state=seed,
    )
    start = time.perf_counter()
    hasher.fit(data.X[rows], data.tags[rows])
    seconds = round(time.perf_counter() - start, 1)
    score = _mirflickr.score(hasher, data.X, data)
    return {"map": score, "ridge": round(hasher.ridge_, 3), "fit_seconds": seconds}


def main() -> None:
    """Run what is not kept yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--keywords", action="store_true", help="clean tags, judged by themselves")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to this less one")
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--photos", nargs="+", choices=["train", "all"], default=["train", "all"])
    args = parser.parse_args()

    data = (_mirflickr.load_keywords if args.keywords else _mirflickr.load)(args.split)
    name = f"semantic_targets_{args.split}" + "_keywords" * args.keywords
    runs = Runs(name)
    kinds = [
        (target, kernel, photos)
        for photos in args.photos
        for kernel in args.kernels
        for target in args.targets
    ]
    seeds = range(args.seeds)
    runs.complete(
        [(*kind, b, s) for s in seeds for kind in kinds for b in args.bits], evaluate, data
    )
    rows = []
    for target, kernel, photos in kinds:
        found = {b: [runs.results[target, kernel, photos, b, s] for s in seeds] for b in args.bits}
        one = found[args.bits[-1]]
        rows.append(
            [
                str(len(data.train if photos == "train" else data.database)),
                target,
                kernel,
                *(mean_and_spread(result["map"] for result in found[b]) for b in args.bits),
                f"{np.median([result['ridge'] for result in one]):.2f}",
                f"{np.median([result['fit_seconds'] for result in one]):.0f}",
            ]
        )
    header = ["photos", "target", "features", *(f"{b} bits" for b in args.bits), "ridge", "fit, s"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
