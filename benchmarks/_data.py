"""The photos of a benchmark and their features: MIR Flickr, or any tagged folder with labels."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
from _runs import CACHE
from numpy.typing import NDArray

from skhash.datasets import load_tagged_images

TABLES = ("tags.csv", "tags.tsv", "tags.jsonl", "tags.ndjson", "tags.parquet")


@cache
def load(dataset: str, split: str) -> SimpleNamespace:
    """Photos, tags, labels and the rows to train on, to search and to search with.

    Parameters
    ----------
    dataset : {"mirflickr", "keywords"} or path
        "keywords" is MIR Flickr with tags that name what is to be seen, and are the labels. A
        path is a folder of photos with a table of tags and labels in it, in a layout of
        :func:`skhash.datasets.load_tagged_images`. Its split is that of ``split.npz``, with
        arrays of row numbers ``query``, ``database``, ``train`` and ``validation`` (part of the
        database, none of it in ``train``). Where there is none, one photo in six is a query,
        drawn at random, and all others are the database and the training photos.
    split : {"validation", "test"}
        "validation" splits the database in its turn: the queries of "test" are not seen.

    Returns
    -------
    SimpleNamespace
        ``name``, ``images``, ``tags``, ``labels``, ``query``, ``database``, ``train``, and
        ``network``, how VGG-16 sees the photos.
    """
    if dataset == "mirflickr":
        return _mirflickr.load(split)
    if dataset == "keywords":
        return _mirflickr.load_keywords(split)
    folder = Path(dataset)
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is None:
        raise SystemExit(f"{folder} has no table of tags: none of {', '.join(TABLES)}.")
    photos = load_tagged_images(folder, table)
    if photos.labels is None:
        raise SystemExit(f"{table} has no column 'labels' to judge by.")
    digest = hashlib.sha256(table.read_bytes())
    if (folder / "split.npz").is_file():
        digest.update((folder / "split.npz").read_bytes())
        rows = dict(np.load(folder / "split.npz"))
    else:
        order = np.random.default_rng(0).permutation(len(photos.images))
        n_queries = len(order) // 6
        query, validation, rest = np.split(order, [n_queries, 2 * n_queries])
        database = order[n_queries:]
        train = database if split == "test" else rest
        rows = {"query": query, "database": database, "train": train, "validation": validation}
    queries, searched = _mirflickr.divide(rows, split)
    return SimpleNamespace(
        name=f"{folder.resolve().name}_{digest.hexdigest()[:8]}",
        images=photos.images,
        tags=photos.tags,
        labels=photos.labels,
        query=queries,
        database=searched,
        train=rows["train"],
        network={"backbone": "vgg16"},
    )


@cache
def features(kind: str, dataset: str, split: str, *, jobs: int = 1) -> NDArray[Any]:
    """Features of all photos, computed once and kept in the cache.

    Parameters
    ----------
    kind : {"vgg", "bovw", "photos"}
        Pooled VGG-16 features; roots of the shares of visual words; the photos' paths.
    dataset, split
        See :func:`load`. Visual words are learned from its training photos.
    jobs : int, default=1
        Processes that compute visual words.

    Returns
    -------
    ndarray of shape (n_photos, n_features), float32, or (n_photos,), paths
    """
    data = load(dataset, split)
    if kind == "photos":
        return np.asarray([str(image) for image in data.images], dtype=object)
    if kind == "vgg":
        if dataset in ("mirflickr", "keywords"):
            return data.X
        from skhash.networks import ImageFeatures

        network = ImageFeatures(**data.network, cache=CACHE / "features", verbose=1)
        return network.fit_transform(list(data.images))
    import bovw

    train = hashlib.sha256(np.sort(data.train).astype(np.int64).tobytes()).hexdigest()[:8]
    path = CACHE / f"bovw_{data.name}_{bovw.SETTINGS}_{train}.npy"
    if not path.exists():
        counts = bovw.bags(data.images, data.train, jobs=jobs)
        partial = path.with_suffix(".partial.npy")
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(partial, counts)
        partial.replace(path)
    counts = np.load(path).astype(np.float32)
    # The root keeps a few frequent words from drowning the others.
    return np.sqrt(counts / counts.sum(axis=1, keepdims=True))
