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

ROOT = Path(os.environ.get("SKHASH_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDER = ROOT / "mirflickr25k"
WEIGHTS = ROOT / "weights" / "vgg16_features_imagenet_tv_fp16.pth"


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


def divide(
    rows: Mapping[str, NDArray[Any]], split: str
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Rows of the queries and of the database, see :func:`load`."""
    if split == "test":
        return rows["query"], rows["database"]
    return rows["validation"], np.setdiff1d(rows["database"], rows["validation"])


def _load_labels() -> NDArray[np.uint8]:
    return np.loadtxt(FOLDER / "labels24.txt", dtype=np.uint8)
