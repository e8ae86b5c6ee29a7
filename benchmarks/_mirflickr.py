"""The MIR Flickr set of the DSTDH paper, as the benchmarks read it.

The files are not part of this repository: a folder with the paper's 20,015 photos, tags, labels,
split and pooled VGG-16 features, given by the environment variable SKHASH_DATA or lying in
``../shared/data`` beside the checkout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skhash.metrics import mean_average_precision
from skhash.tags import encode_tags

ROOT = Path(os.environ.get("SKHASH_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDER = ROOT / "mirflickr25k"
WEIGHTS = ROOT / "weights" / "vgg16_features_imagenet_tv_fp16.pth"


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


@cache
def load(split: str) -> SimpleNamespace:
    """Features, tags and labels of the training photos, the queries and the database.

    Parameters
    ----------
    split : {"validation", "test"}
        "validation" searches the database without its 1,000 validation photos, with these as
        queries; "test" searches the whole database with the paper's queries.

    Returns
    -------
    SimpleNamespace
        ``X``, ``tags``, ``labels``, ``images`` of all photos, row-aligned, and the row numbers
        ``train``, ``query``, ``database``; ``name`` of the set, and ``network``, the parameters
        of the VGG-16 that the features are of.
    """
    if not FOLDER.is_dir():
        raise SystemExit(f"{FOLDER} is missing; set SKHASH_DATA to the folder of the data.")
    rows = np.load(FOLDER / "split_dstdh.npz")
    query, database = divide(rows, split)
    tags = np.empty(20015, dtype=object)
    tags[:] = [
        line.split(",") if line else []
        for line in (FOLDER / "tags.txt").read_text(encoding="utf-8").splitlines()
    ]
    return SimpleNamespace(
        name="mirflickr",
        network={"backbone": "vgg16", "weights": str(WEIGHTS), "image_size": 128},
        X=np.load(FOLDER / "vgg16_pool5_gap512_f16.npy").astype(np.float32),
        tags=tags,
        labels=_load_labels(),
        images=[
            FOLDER / "images" / name for name in (FOLDER / "images.txt").read_text().splitlines()
        ],
        train=rows["train"],
        query=query,
        database=database,
    )


@cache
def load_keywords(split: str) -> SimpleNamespace:
    """The same photos if users were tidy: those with keywords, which are their tags and labels."""
    data = load(split)
    tags = np.empty(len(data.tags), dtype=object)
    tags[:] = [[tag for tag in row if tag in KEYWORDS] for row in data.tags]
    tagged = np.array([len(row) > 0 for row in tags])
    rows = {
        part: getattr(data, part)[tagged[getattr(data, part)]]
        for part in ("train", "query", "database")
    }
    changed = {"name": "keywords", "tags": tags, "labels": encode_tags(tags).indicator, **rows}
    return SimpleNamespace(**{**vars(data), **changed})


def divide(
    rows: Mapping[str, NDArray[Any]], split: str
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Rows of the queries and of the database, see :func:`load`."""
    if split == "test":
        return rows["query"], rows["database"]
    return rows["validation"], np.setdiff1d(rows["database"], rows["validation"])


def _load_labels() -> NDArray[np.uint8]:
    return np.loadtxt(FOLDER / "labels24.txt", dtype=np.uint8)


def score(hasher: Any, X: Any, data: Any) -> float:
    """MAP of the queries' codes among those of the database."""
    found = mean_average_precision(
        hasher.transform(X[data.query]),
        hasher.transform(X[data.database]),
        data.labels[data.query],
        data.labels[data.database],
    )
    return round(found, 5)
