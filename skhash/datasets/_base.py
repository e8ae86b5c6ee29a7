"""What the loaders share: reading files, choosing tags and images, splitting."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from .._sklearn import Interval, StrOptions


@dataclass(frozen=True)
class Protocol:
    """What a paper keeps of a collection, and how it divides it.

    Attributes
    ----------
    source : str
        The paper, and what in this is our reading of it.
    n_query : int
        Number of query images; all others are the database.
    n_train : int or None
        Number of database images to train on; None for all of them.
    drop : tuple of {"untagged", "unlabelled"}
        Which images are left out.
    """

    source: str
    n_query: int = 0
    n_train: int | None = None
    drop: tuple[str, ...] = ()


WHOLE = Protocol("None: everything is kept, and there are no queries.")

# How scikit-learn's validate_params checks the arguments that the loaders share.
PATH = [str, os.PathLike]
MISSING_IMAGES = [StrOptions({"raise", "drop", "ignore"})]
SPLIT_CONSTRAINTS = {
    "root": PATH,
    "drop": ["array-like", set, frozenset, None],
    "n_query": [Interval(Integral, 0, None, closed="left"), None],
    "n_train": [Interval(Integral, 1, None, closed="left"), None],
    "missing_images": MISSING_IMAGES,
    "random_state": ["random_state"],
}


def find_path(root: Path, *candidates: str) -> Path:
    """The first of the candidates that exists below root."""
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    tried = ", ".join(dict.fromkeys(candidates))
    raise FileNotFoundError(f"{root} lacks a part of the collection: found none of {tried}.")


def read_lines(path: Path) -> list[str]:
    r"""The stripped lines of a text file; bytes that are not UTF-8 come out as ``\xNN``."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; unpack the archive it comes from again.")
    with path.open(encoding="utf-8-sig", errors="backslashreplace") as file:
        return [line.strip() for line in file]


def read_names(path: Path) -> list[str]:
    """The lines of a list of names that cannot be empty."""
    names = [line for line in read_lines(path) if line]
    if not names:
        raise ValueError(f"{path} is empty: it is torn; unpack the archive it comes from again.")
    return names


def listing(names: Iterable[Any], limit: int = 5) -> str:
    """Names for a message: the first few, and how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def as_object_array(items: Sequence[Any]) -> NDArray[np.object_]:
    """A 1-D array of Python objects: lists and paths that an index array can choose from."""
    return np.fromiter(items, dtype=object, count=len(items))


def popular_tags(
    tags: Iterable[Collection[str]], *, min_count: int = 1, n_tags: int | None = None
) -> list[str]:
    """Tags that at least ``min_count`` images have, the ``n_tags`` most used of them, sorted."""
    counts = Counter(tag for row in tags for tag in set(row))
    ranked = sorted((-n, tag) for tag, n in counts.items() if n >= min_count)
    return sorted(tag for _, tag in ranked[:n_tags])


def present_images(images: Sequence[Path], missing_images: str) -> NDArray[np.bool_]:
    """Which images to keep: those that exist and are not empty, or an error that names the rest."""
    present = np.ones(len(images), dtype=bool)
    if missing_images != "ignore":
        present[:] = [path.is_file() and path.stat().st_size > 0 for path in images]
    if missing_images == "raise" and not present.all():
        lost = [path for path, there in zip(images, present, strict=True) if not there]
        raise FileNotFoundError(
            f"{len(lost)} of {len(images)} images are missing or empty: {listing(lost)}. Pass "
            "missing_images='drop' to leave them out, or 'ignore' if the images are not needed."
        )
    return present


def assemble(
    *,
    collection: str,
    images: Sequence[Path],
    tags: Sequence[list[str]],
    tag_names: Sequence[str],
    labels: NDArray[np.bool_],
    label_names: Sequence[str],
    protocol: Protocol,
    drop: Collection[str] | None,
    n_query: int | None,
    n_train: int | None,
    missing_images: str,
    random_state: Any,
) -> Bunch:
    """Leave images out, split the others, and say so.

    The arguments are those of the public loaders; ``images``, ``tags`` and the
    rows of ``labels`` (an indicator) are aligned.
    """
    drop = protocol.drop if drop is None else drop
    if not set(drop) <= {"untagged", "unlabelled"}:
        raise ValueError(f"drop must hold 'untagged', 'unlabelled', both or none, got {drop!r}.")
    lacking = {
        "missing": ~present_images(images, missing_images),
        "untagged": np.array([not row for row in tags]),
        "unlabelled": ~labels.any(axis=1),
    }
    paths = as_object_array([str(path) for path in images])
    keep = np.ones(len(images), dtype=bool)
    dropped = {}
    for reason, lacks in lacking.items():
        if reason == "missing" or reason in drop:
            dropped[reason] = paths[keep & lacks]
            keep &= ~lacks
    query, database, train = split(
        int(keep.sum()),
        protocol.n_query if n_query is None else n_query,
        protocol.n_train if n_train is None else n_train,
        random_state,
    )
    left_out = ", ".join(f"{len(paths)} {reason}" for reason, paths in dropped.items())
    return Bunch(
        images=paths[keep],
        tags=as_object_array(tags)[keep],
        labels=sp.csr_array(labels[keep].astype(np.float32)),
        tag_names=as_object_array(tag_names),
        label_names=as_object_array(label_names),
        query=query,
        database=database,
        train=train,
        dropped=dropped,
        DESCR=(
            f"{collection}\n\n"
            f"Protocol: {protocol.source}\n"
            f"Images: {keep.sum()} of {len(images)}; left out: {left_out}.\n"
            f"Tags: a vocabulary of {len(tag_names)}. Labels: {len(label_names)}.\n"
            f"Split: {len(query)} queries, {len(database)} in the database, "
            f"{len(train)} of them to train on; random_state={random_state!r}."
        ),
    )


def split(
    n_samples: int, n_query: int, n_train: int | None, random_state: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Draw queries; the rest is the database, and training images are drawn from it.

    Parameters
    ----------
    n_samples : int
        Number of images.
    n_query : int
        Number of queries.
    n_train : int or None
        Number of training images; None for the whole database.
    random_state : int, RandomState instance or None
        Seed of the draw.

    Returns
    -------
    query, database, train : ndarray of int
        Sorted row numbers; ``train`` is part of ``database``.
    """
    if n_query + (n_train or 0) > n_samples or n_query >= n_samples:
        raise ValueError(
            f"{n_query} queries and {n_train or 'some'} training images do not fit in {n_samples} "
            "images; pass smaller n_query and n_train, or protocol=None."
        )
    order = check_random_state(random_state).permutation(n_samples)
    stop = None if n_train is None else n_query + n_train
    return np.sort(order[:n_query]), np.sort(order[n_query:]), np.sort(order[n_query:stop])
