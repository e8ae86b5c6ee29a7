"""What tags are turned into, and what codes gain from it: TagITQ by target, features and photos.

    python benchmarks/semantic_targets.py --split validation        # for tuning
    python benchmarks/semantic_targets.py --split test --seeds 5    # for the table
    python benchmarks/semantic_targets.py --keywords                # clean tags

Relevant is what shares one of the 24 labels of MIR Flickr. With ``--keywords`` users are tidy: of
their tags only names of things to be seen are left (a list in this file), photos without any are
left out, and relevant is what shares a keyword. Every run is kept in ``benchmarks/cache``.
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
from skhash.metrics import mean_average_precision
from skhash.tags import encode_tags

TARGETS = ("tfidf", "word2vec", "sem-vectors", "ppmi", "glove")
KERNELS = {"linear": None, "kernel": "rbf"}
# Tags of MIR Flickr that name what is to be seen.
_NAMES = """
    aircraft airplane animal animals aquarium architecture art baby bag bar barn bay beach
    bear beard bed bee bench bicycle bike bird birds boat book books boy brick bridge building
    bus butterfly bw cactus cafe cake camera car cars castle cat cathedral chair cherry
    children chocolate church clock cloud clouds coffee concert couple deer desert dog dogs
    duck eye eyes face feet fence field fire fireworks fish flag flower flowers flying fog
    food forest fountain fox frog fruit garden girl glass glasses graffiti grass guitar hair
    hand hands harbor hat heart horse house houses ice icecream insect island kid kids kitchen
    lake lamp landscape leaf leaves lighthouse lightning lights macro man mirror model monkey
    moon motorcycle mountain mountains mural museum mushroom night ocean palm park people
    piano pier plane plants pool portrait poster puppy railroad rain rainbow reflection
    reflections river road robot rock rocks rose rust sand sculpture sea shadow sheep ship
    shoes sign silhouette skull sky skyline skyscraper smoke snow socks spider squirrel stairs
    statue stone storm strawberry street subway sun sunrise sunset tattoo temple tower toy
    toys train tree trees truck tulip tunnel umbrella wall water waterfall waves wedding
    wildlife window windows woman wood zoo
"""
KEYWORDS = frozenset(_NAMES.split())


def glove() -> dict[str, Any]:
    """Vectors of the tags that GloVe knows."""
    table = np.load(_mirflickr.ROOT / "tag_vectors" / "glove6B100d_mirflickr_tags.npz")
    return dict(zip(table["words"].tolist(), table["vectors"], strict=True))


def keyword_photos(data: SimpleNamespace) -> SimpleNamespace:
    """The photos with keywords, which are their tags and labels."""
    tags = np.empty(len(data.tags), dtype=object)
    tags[:] = [[tag for tag in row if tag in KEYWORDS] for row in data.tags]
    tagged = np.array([len(row) > 0 for row in tags])
    rows = {
        part: getattr(data, part)[tagged[getattr(data, part)]]
        for part in ("train", "query", "database")
    }
    return SimpleNamespace(X=data.X, tags=tags, labels=encode_tags(tags).indicator, **rows)


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
    score = mean_average_precision(
        hasher.transform(data.X[data.query]),
        hasher.transform(data.X[data.database]),
        data.labels[data.query],
        data.labels[data.database],
    )
    return {"map": round(score, 5), "ridge": round(hasher.ridge_, 3), "fit_seconds": seconds}


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

    data = _mirflickr.load(args.split)
    name = f"semantic_targets_{args.split}"
    if args.keywords:
        data, name = keyword_photos(data), f"{name}_keywords"
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
